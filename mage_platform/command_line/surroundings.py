"""Which stack a command talks to: the one that runs on this checkout's state folder, else what settings say."""

from __future__ import annotations

from mage_platform.local.lookup import find_running
from mage_platform.logs import configure_logging
from mage_platform.settings import Settings, load_settings


def present_settings() -> Settings:
    """Settings under which the platform is reached now, with logging set up."""
    settings = load_settings()
    if settings.environment == "local":
        settings = find_running(settings) or settings
    configure_logging(settings)
    return settings
