"""What every contract has in common: frozen, no unknown fields, times with a time zone."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Contract(BaseModel):
    """A value that crosses a process. It cannot be changed, and a field it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class FieldError(ValueError):
    """A mistake that only a whole contract shows, told at the field to mend.

    Args:
        message: What is wrong, with the values, then what to write.
        at: Way from the contract to the field.
    """

    def __init__(self, message: str, *at: str | int) -> None:
        super().__init__(message)
        self.at = at


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""Name of a use case: lower case, digits and underscores, at most 63 characters."""

Region = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f/]+$")]
"""A region as it stands in the data; it becomes part of addresses and folder names, hence no slash."""

POOLED: Region = "*"
"""Stands where a region stands for the model of all regions together; no region of the data may be named so."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in lower-case hexadecimal."""
