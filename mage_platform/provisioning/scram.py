"""Whether a SCRAM verifier that PostgreSQL keeps is that of a password."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):[A-Za-z0-9+/=]+")


def fits(verifier: str | None, password: str) -> bool:
    """Tell whether a role with this verifier logs in with this password.

    Args:
        verifier: `rolpassword` of `pg_authid`; None when the role has no password.
        password: In clear. One with characters beyond ASCII may be taken for another.

    Source: RFC 5802, section 3: StoredKey = H(HMAC(Hi(password, salt, iterations), "Client Key")).
    """
    parts = _VERIFIER.fullmatch(verifier or "")
    if parts is None:
        return False
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(parts[2]), int(parts[1]))
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return hmac.compare_digest(stored, base64.b64decode(parts[3]))
