"""The login that every H2O server of the platform asks for: one name, one password.

The client knows the password, the server only its digest. Jetty, the web server inside H2O, takes four spellings in
its file; of those `CRYPT:` would compare the first eight characters only, `OBF:` is readable and so is plain text.
MD5 is quick to try out, which does not help against a password of 128 random bits.
"""

from __future__ import annotations

import base64
import hashlib

from pydantic import SecretStr

LOGIN = "platform"
SECRET = "platform_h2o_password"
"""Name of the secret file with the password."""
OPTIONS = ("-file_deny_glob", "**")
"""What else every server is started with: it imports no file of its machine for a client, and exports no frame to
one. Rows and models come by upload. (`-disable_flow` would take away the genmodel jar as well.)"""


def credentials(password: SecretStr | None) -> tuple[str, str] | None:
    """Name and password, as HTTP clients take them; a secret, never log it. None where there is no password."""
    return (LOGIN, password.get_secret_value()) if password else None


def authorization(password: SecretStr) -> str:
    """Value of the HTTP header `Authorization`; a secret, never log it.

    Source: RFC 7617.
    """
    return "Basic " + base64.b64encode(f"{LOGIN}:{password.get_secret_value()}".encode()).decode()


def realm(password: SecretStr) -> str:
    """What `realm.properties` holds, the file that H2O is given with `-hash_login -login_conf`.

    >>> realm(SecretStr("abc"))  # the digest is the one of RFC 1321, appendix A.5
    'platform: MD5:900150983cd24fb0d6963f7d28e17f72,user\\n'
    """
    digest = hashlib.md5(password.get_secret_value().encode(), usedforsecurity=False).hexdigest()
    return f"{LOGIN}: MD5:{digest},user\n"
