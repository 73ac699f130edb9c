"""What an API server would accept and still not work: checks over the rendered documents of an overlay.

Each check is a function from `Rendered` to findings, in the module of its subject. Schemas, images with known holes and
the usual hardening are left to the tools that know them; here stands what they do not see.
"""

from tests.manifests.admission import (
    access,
    availability,
    images,
    names,
    network_policies,
    platform_settings,
    pod_security,
    references,
    resources,
    secrecy,
    selectors,
    services,
    volumes,
)
from tests.manifests.admission.documents import Container, Document, Rendered, Workload
from tests.manifests.admission.findings import CHECKS, Finding, examine

__all__ = [
    "CHECKS", "Container", "Document", "Finding", "Rendered", "Workload", "access", "availability", "examine", "images",
    "names", "network_policies", "platform_settings", "pod_security", "references", "resources", "secrecy", "selectors",
    "services", "volumes",
]  # fmt: skip
