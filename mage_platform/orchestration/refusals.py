"""What goes wrong around a pipeline run, besides the run itself failing."""

from __future__ import annotations

from mage_platform.errors import ContractViolated, NotFound


class LoginRefused(ContractViolated):
    """Mage did not accept the owner's login."""


class MageVersionUnknown(ContractViolated):
    """The installed Mage lacks a part that a guard replaces, so the guard would silently do nothing."""


class PipelineNotFound(NotFound):
    """The Mage project has no pipeline of that name."""


class RunNotFound(NotFound):
    """Mage knows no pipeline run of that number."""
