"""No secret stands in a variable, an argument or a ConfigMap: secrets are files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import SecretStr

from mage_platform.settings import PREFIX, Settings
from tests.manifests.admission.documents import Container, Rendered, lines_of
from tests.manifests.admission.findings import Finding, check, found

_NAMED_LIKE_A_SECRET = re.compile(
    r"(^|_)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|(API|PRIVATE|SIGNING|SESSION|ACCESS|ENCRYPTION)_?KEYS?)$"
)
_URL_WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+]*://[^\s/:@]*:[^\s/@$]+@")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_PASSWORD_OPTION = re.compile(r"--?(?:password|requirepass|masterauth|api-key|token)[= ]\s*[\"']?[^\s$/\"'-]")
_PASSWORD_LINE = re.compile(
    r"(?im)^\s*(?:requirepass|masterauth|\S*(?:password|passwd|secret))\s*[=: ]\s*[\"']?[^\s$/%{\"']\S*\s*$"
)
_SETTING_SECRETS = {
    f"{PREFIX}{name}".upper() for name, field in Settings.model_fields.items() if field.annotation == (SecretStr | None)
}


@check
def variables_hold_no_secret(rendered: Rendered) -> Iterator[Finding]:
    """Neither from a Secret nor as a plain value; a variable may name the file a secret is in."""
    for workload in rendered.workloads:
        for container in workload.containers:
            for each in container.spec.get("env") or []:
                where = f"{container.where}.env[{each.get('name')}]"
                if "secretKeyRef" in (each.get("valueFrom") or {}):
                    yield found(workload, where, each["valueFrom"], "a Secret in a variable: mount it as a file")
            for each in container.spec.get("envFrom") or []:
                if "secretRef" in each:
                    yield found(
                        workload, f"{container.where}.envFrom", each, "a Secret in variables: mount it as files"
                    )
            for name, value in rendered.variables(container).items():
                if reason := _looks_like_a_secret(name, value):
                    yield found(workload, f"{container.where}.env[{name}]", "(not shown)", reason)


@check
def commands_hold_no_secret(rendered: Rendered) -> Iterator[Finding]:
    """Commands and arguments, of probes and hooks too: everybody on the node reads them."""
    for workload in rendered.workloads:
        for container in workload.containers:
            for where, text in _commands(container):
                if _PASSWORD_OPTION.search(text) or _URL_WITH_PASSWORD.search(text):
                    yield found(workload, where, "(not shown)", "a password in a command: read it from a file")


@check
def configuration_holds_no_secret(rendered: Rendered) -> Iterator[Finding]:
    """ConfigMaps are for everybody's eyes."""
    for document in rendered.of("ConfigMap"):
        for key, text in (document.get("data") or {}).items():
            for pattern in (_URL_WITH_PASSWORD, _PRIVATE_KEY, _PASSWORD_LINE):
                if pattern.search(str(text)):
                    yield found(
                        document, f"data[{key}]", "(not shown)", "holds a password or a key: put it into a Secret"
                    )


def _looks_like_a_secret(name: str, value: str) -> str:
    if name in _SETTING_SECRETS:
        return "this setting is a secret: the file of its name among the secrets, not a variable"
    if not value or value.startswith("/"):
        return ""
    if _NAMED_LIKE_A_SECRET.search(name):
        return "named like a secret: mount it as a file, and name the file in ..._FILE"
    if _URL_WITH_PASSWORD.search(value) or _PRIVATE_KEY.search(value):
        return "holds a password or a key: mount it as a file"
    random = re.fullmatch(r"[A-Za-z0-9+_=-]{20,}", value) is not None
    if random and all(re.search(kind, value) for kind in ("[a-z]", "[A-Z]", "[0-9]")):
        return "looks like a password: mount it as a file"
    return ""


def _commands(container: Container) -> Iterator[tuple[str, str]]:
    for field in ("command", "args", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
        texts = [str(text) for where, text in lines_of(container.spec.get(field)) if text is not None]
        yield f"{container.where}.{field}", " ".join(texts)
