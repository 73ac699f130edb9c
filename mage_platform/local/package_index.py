"""Where packages come from: what pip is configured with is handed on to uv, which does not read pip's settings.

Only the standard library, because it runs before anything is installed.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Mapping

_COMMANDS = ("download", "install")


def pip_settings(python: str) -> dict[str, str]:
    """What `pip install` of this interpreter is configured with, files and environment taken together."""
    done = subprocess.run(
        [python, "-m", "pip", "config", "list"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return parse_pip_settings(done.stdout) if done.returncode == 0 else {}


def parse_pip_settings(listing: str) -> dict[str, str]:
    """Read the answer of `pip config list`; the section of the command beats the global one, the environment both.

    >>> parse_pip_settings("global.index-url='https://a/simple'\\n:env:.index-url='https://b/simple'")
    {'index-url': 'https://b/simple'}
    """
    sections: dict[str, dict[str, str]] = {}
    for line in listing.splitlines():
        name, equals, value = line.partition("=")
        section, dot, key = name.rpartition(".")
        if equals and dot:
            sections.setdefault(section, {})[key] = _unquoted(value)
    merged: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        merged.update(sections.get(section, {}))
    return merged


def uv_variables(pip: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that make uv use the same index as pip.

    They travel in the environment because an address may hold a password. What is set for uv itself wins.

    Args:
        pip: Settings of pip, as `pip_settings` gives them.
        environment: The present environment.

    >>> uv_variables({"index-url": "https://a/simple", "extra-index-url": "https://b\\nhttps://c"}, {})["UV_INDEX"]
    'https://b https://c'
    """
    found: dict[str, str] = {}
    if pip.get("index-url"):
        found["UV_DEFAULT_INDEX"] = pip["index-url"]
    if pip.get("extra-index-url"):
        found["UV_INDEX"] = " ".join(pip["extra-index-url"].split())
        # pip takes a package from any of its indexes; hashes see to it that it is the right one
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if pip.get("find-links"):
        found["UV_FIND_LINKS"] = ",".join(pip["find-links"].split())
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        found["UV_NO_INDEX"] = "1"
    if pip.get("trusted-host"):
        found["UV_INSECURE_HOST"] = " ".join(pip["trusted-host"].split())
    if pip.get("cert"):
        found["SSL_CERT_FILE"] = pip["cert"]
    if pip.get("client-cert"):
        found["SSL_CLIENT_CERT"] = pip["client-cert"]
    if pip.get("proxy"):
        found["ALL_PROXY"] = pip["proxy"]
    if pip.get("timeout") or pip.get("default-timeout"):
        found["UV_HTTP_TIMEOUT"] = str(round(float(pip.get("timeout") or pip["default-timeout"])))
    if "UV_INDEX_URL" in environment:  # the older name of the same setting
        found.pop("UV_DEFAULT_INDEX", None)
    return {name: value for name, value in found.items() if not environment.get(name)}


def _unquoted(value: str) -> str:
    try:
        return str(ast.literal_eval(value.strip()))
    except (ValueError, SyntaxError):
        return value.strip()
