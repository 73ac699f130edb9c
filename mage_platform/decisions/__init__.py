"""The technology decision registry as code: every mandate and forbidden pattern, held against a project."""

from mage_platform.decisions.checking import Judgement, check_project
from mage_platform.decisions.findings import Finding
from mage_platform.decisions.registry import RULES, Rule

__all__ = ["RULES", "Finding", "Judgement", "Rule", "check_project"]
