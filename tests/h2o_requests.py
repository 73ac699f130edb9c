"""What the tests ask an H2O server themselves, past the platform."""

from __future__ import annotations

from typing import Any

import httpx

from mage_platform.h2o_login import credentials
from mage_platform.settings import Settings


def h2o_json(settings: Settings, path: str, *, url: str | None = None) -> Any:
    """The JSON that a server answers to the platform's login; that of the settings, or the one at a base address."""
    answer = httpx.get(f"{url or settings.h2o.url}{path}", auth=credentials(settings.h2o_password), timeout=10)
    return answer.raise_for_status().json()
