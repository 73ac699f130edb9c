"""Signs what the local registry held before versions were signed: once for each state folder.

Key and database belong to the same person here, so the first start after the update may vouch for what it finds. Later
starts never do: a version that lost its signature stays refused until somebody runs `mage-platform models sign`.
"""

from __future__ import annotations

from mage_platform.database import connect
from mage_platform.registry import sign_registered, signing_key, verification_keys
from mage_platform.settings import Settings

STAMP = "registry_signed"


def sign_once(settings: Settings) -> list[str]:
    """Sign the unsigned versions if this state folder has not done so before.

    Returns:
        What to tell: how many were signed, and each that was not with its reason.
    """
    stamp = settings.state_folder / STAMP
    if stamp.exists():
        return []
    with connect(settings) as connection:
        signings = list(sign_registered(connection, signing_key(settings), verification_keys(settings)))
    stamp.touch(mode=0o600)
    refused = [signing.refused for signing in signings if signing.refused]
    signed = len(signings) - len(refused)
    return [f"signed the {signed} model versions registered before the platform signed them"] * bool(signed) + refused
