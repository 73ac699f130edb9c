"""What each check must catch, and what none may: small changes to the rendered production overlay."""

from tests.manifests.faults import (
    of_availability,
    of_names,
    of_network_policies,
    of_resources,
    of_secrecy,
    of_security,
    of_selectors,
    of_services,
    of_volumes,
)
from tests.manifests.faults.changes import Fault, NearMiss, changed

_SUBJECTS = (
    of_names, of_selectors, of_resources, of_volumes, of_services, of_network_policies, of_secrecy, of_security,
    of_availability,
)  # fmt: skip
FAULTS: list[Fault] = [each for subject in _SUBJECTS for each in subject.FAULTS]
NEAR_MISSES: list[NearMiss] = [each for subject in _SUBJECTS for each in subject.NEAR_MISSES]

__all__ = ["FAULTS", "NEAR_MISSES", "Fault", "NearMiss", "changed"]
