"""The file of API keys: who may ask the prediction API, by the hash of a key and never by the key."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, model_validator

from mage_platform.contracts.strict import Contract, Name, Sha256

EVERY_USE_CASE = "*"
Right = Literal["read", "admin"]
"""`read` asks for predictions, explanations and models; `admin` also sees what tells of all use cases, such as
`/metrics`."""


class ApiKey(Contract):
    """One key."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    """Whose it is; stands in logs and metrics."""
    sha256: Sha256
    """Digest of the key."""
    use_cases: Annotated[tuple[Name | Literal["*"], ...], Field(min_length=1)]
    """What it is for; `*` for every use case."""
    right: Right = "read"
    created: AwareDatetime
    expires: AwareDatetime | None = None
    """From when on it is refused."""
    requests_per_second: Annotated[float, Field(gt=0)] | None = None
    """A limit of its own, instead of the one in the settings."""
    burst: Annotated[int, Field(ge=1)] | None = None
    """Requests that may come at once after a pause."""

    def expired(self, now: datetime) -> bool:
        """Whether it is past its time."""
        return self.expires is not None and self.expires <= now


class ApiKeys(Contract):
    """All keys of a deployment."""

    keys: tuple[ApiKey, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> ApiKeys:
        for what in ("name", "sha256"):
            values = [getattr(key, what) for key in self.keys]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{what} {twice[0]} stands there twice")
        return self
