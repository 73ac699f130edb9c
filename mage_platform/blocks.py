"""What a Mage block knows when it runs: settings, the use case, the run, and the pipeline's variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, ValidationError

from mage_platform.contracts import UseCase
from mage_platform.contracts.strict import Contract, Name
from mage_platform.errors import ContractViolated
from mage_platform.logs import configure_logging
from mage_platform.settings import Settings, load_settings
from mage_platform.use_cases import load_use_case


def _as_list(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _empty_is_none(value: Any) -> Any:
    return None if value == "" else value


def _empty_is_false(value: Any) -> Any:
    return False if value == "" else value


class PipelineVariables(Contract):
    """The variables of the pipelines, as `--set name=value`, a trigger or the Mage UI gives them."""

    use_case: Name
    """Name of the use case."""
    window_start: Annotated[AwareDatetime | None, BeforeValidator(_empty_is_none)] = None
    """Ingest only event times from here on, with time zone."""
    window_end: Annotated[AwareDatetime | None, BeforeValidator(_empty_is_none)] = None
    """Ingest only event times before this moment, with time zone."""
    source_file: Annotated[Path | None, BeforeValidator(_empty_is_none)] = None
    """Parquet or CSV file to read in place of the declared source; relative to the project."""
    bulk: Annotated[bool, BeforeValidator(_empty_is_false)] = False
    """Load with the index on the vectors taken away, and make it anew afterwards: for windows about as large as what
    is stored already."""
    regions: Annotated[list[str] | None, BeforeValidator(_as_list)] = Field(None)
    """Train only these regions, separated by commas."""

    @classmethod
    def from_mage(cls, values: Mapping[str, Any]) -> PipelineVariables:
        """The platform's variables out of all that Mage passes to a block.

        Raises:
            ContractViolated: A value does not fit; names the variable and the value.
        """
        given = {name: values[name] for name in cls.model_fields if values.get(name) is not None}
        return cls._parse(given)

    @classmethod
    def from_settings(cls, given: Mapping[str, str]) -> PipelineVariables:
        """The variables as given on the command line; an unknown name is an error.

        Raises:
            ContractViolated: A name is unknown, or a value does not fit.
        """
        return cls._parse(dict(given))

    @classmethod
    def _parse(cls, given: dict[str, Any]) -> PipelineVariables:
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            if first["type"] == "extra_forbidden":
                raise ContractViolated(
                    f"there is no pipeline variable {name!r}; there are {', '.join(cls.model_fields)}",
                    field=name,
                ) from None
            raise ContractViolated(f"{name}={first['input']!r}: {first['msg']}", field=name) from None


@dataclass(frozen=True)
class BlockRun:
    """One execution of a block."""

    variables: PipelineVariables
    run: str
    """Id of the pipeline run, unique for ever; `interactive_...` for a block run by hand in the UI."""
    moved_by: str
    """Who is named in the alias history."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> BlockRun:
        """From the keyword arguments that Mage passes to a block."""
        variables = PipelineVariables.from_mage(values)
        moment = values.get("execution_date")
        stamp = (moment if isinstance(moment, datetime) else datetime.now(UTC)).strftime("%Y%m%dT%H%M%S")
        number, pipeline = values.get("pipeline_run_id"), values.get("pipeline_uuid") or "a block run by hand"
        run = f"{number}_{stamp}" if number is not None else f"interactive_{stamp}"
        return cls(variables, run, f"{pipeline}, run {run}")

    @cached_property
    def settings(self) -> Settings:
        """Settings of this process, with logging set up by them."""
        settings = load_settings()
        configure_logging(settings)
        return settings

    @cached_property
    def use_case(self) -> UseCase:
        """The declared use case of the run."""
        return load_use_case(self.settings, self.variables.use_case)


def to_primitives(value: BaseModel) -> dict[str, Any]:
    """A contract as JSON primitives: Mage hands nothing else from block to block unharmed."""
    primitives: dict[str, Any] = json.loads(value.model_dump_json())
    return primitives
