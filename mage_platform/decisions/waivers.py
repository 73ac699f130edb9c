"""Exceptions from the rules, each with its reason and the day it ends, in one file of the project."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatch
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mage_platform.decisions.findings import Finding
from mage_platform.errors import ContractViolated

FILE = "decision_waivers.yaml"


class Waiver(BaseModel):
    """One exception."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str
    path: str = Field(..., min_length=1)
    """File, or a pattern such as `benchmarks/*.sql`."""
    holding: str = ""
    """Part of the finding's message; only findings with it are waived."""
    reason: str = Field(..., min_length=15)
    until: date
    """Last day on which it counts."""

    def covers(self, finding: Finding) -> bool:
        """Whether it waives a finding."""
        return finding.rule == self.rule and fnmatch(finding.path, self.path) and self.holding in finding.message


def read_waivers(root: Path, rules: set[str]) -> list[Waiver]:
    """The waivers of a project; none without the file.

    Raises:
        ContractViolated: The file is malformed, or names a rule there is not.
    """
    file = root / FILE
    if not file.is_file():
        return []
    try:
        listed = yaml.safe_load(file.read_text(encoding="utf-8")) or []
        if not isinstance(listed, list):
            raise ContractViolated(f"{FILE} is no list: write one item with rule, path, reason and until for each")
        waivers = [Waiver.model_validate(each) for each in listed]
    except yaml.YAMLError as error:
        raise ContractViolated(f"{FILE} is no YAML: {error}", field=FILE) from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ContractViolated(f"{FILE}: {field} {first['input']!r}: {first['msg']}", field=field) from None
    for waiver in waivers:
        if waiver.rule not in rules:
            known = ", ".join(sorted(rules))
            raise ContractViolated(
                f"{FILE} waives {waiver.rule!r}, which is no rule; the rules are {known}", field="rule"
            )
    return waivers
