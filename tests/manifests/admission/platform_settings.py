"""PLATFORM_* variables are settings, and together they make a production that starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest.mock import patch

from mage_platform.errors import SettingsInvalid
from mage_platform.settings import PREFIX, load_settings, setting_names
from tests.manifests.admission.documents import Rendered
from tests.manifests.admission.findings import Finding, check, found


@check
def settings_exist(rendered: Rendered) -> Iterator[Finding]:
    """The platform refuses to start with a variable it does not know."""
    known = set(setting_names())
    for workload in rendered.workloads:
        for container in workload.containers:
            for name, value in rendered.variables(container).items():
                if name.upper().startswith(PREFIX) and name not in known:
                    yield found(workload, f"{container.where}.env[{name}]", value, "there is no such setting")


@check
def settings_make_a_production(rendered: Rendered) -> Iterator[Finding]:
    """Every container with settings says `production`, and the platform accepts all of its values."""
    known = set(setting_names())
    for workload in rendered.workloads:
        for container in workload.containers:
            given = {name: value for name, value in rendered.variables(container).items() if name in known}
            if not given:
                continue
            where = f"{container.where}.env"
            if given.get("PLATFORM_ENVIRONMENT") != "production":
                value = given.get("PLATFORM_ENVIRONMENT")
                yield found(workload, f"{where}[PLATFORM_ENVIRONMENT]", value, "must be production")
            try:
                with patch.dict(os.environ, {**_without_settings(), **given}, clear=True):
                    load_settings()
            except SettingsInvalid as error:
                yield found(workload, where, error.field, str(error))


def _without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
