"""Every error the platform raises on purpose.

    PlatformError
    ├── ContractViolated          the caller sent or declared something wrong: do not retry, mend it
    │   ├── SettingsInvalid       a PLATFORM_* setting or secret is missing, unknown or out of range
    │   ├── UseCaseInvalid        use_case.yaml (or the code beside it) is wrong; names file and line
    │   ├── SourceInvalid         the source rows cannot be read as declared
    │   ├── FeaturesInvalid       a feature vector breaks its schema; names feature and value
    │   ├── ValidationStopped     too many bad rows, or a broken table-level expectation
    │   ├── NothingToTrain        no region has rows to plan a training for
    │   ├── TrainingFailed        one or more regions ended with a reason instead of a candidate
    │   ├── ArtifactCorrupt       bytes do not match the SHA-256 they are registered under
    │   ├── SignatureInvalid      a model version is not signed by a known key as what it is to be served as
    │   └── PipelineFailed        a Mage pipeline run ended without completing
    ├── NotFound                  what was asked for by name does not exist (yet)
    │   ├── UseCaseNotFound
    │   ├── ModelNotFound
    │   ├── ReportNotFound        a version is registered, but no report of it is kept
    │   └── EntityNotFound
    └── Unavailable               a server did not answer: the same call may succeed later
        ├── DatabaseUnavailable
        ├── H2OUnavailable
        ├── MageUnavailable
        ├── SidecarUnavailable
        ├── PortTaken
        └── ServiceFailed         a process of the local stack did not start, or died

The sentence of an error says what happened, with the values, and then what to do. Errors pickle, because they
cross from a block's process to Mage's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class PlatformError(Exception):
    """Root of the tree.

    Args:
        message: What happened, with the values, then what to do about it.
        field: Path of the offending field (`features.month`, `database.port`) where there is one.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (type(self), self.__dict__.copy()))


def _restore(kind: type[PlatformError], state: dict[str, Any]) -> PlatformError:
    error = kind.__new__(kind)
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error


class ContractViolated(PlatformError):
    """The caller sent or declared something wrong. The same call fails again: mend it first."""


class SettingsInvalid(ContractViolated):
    """A setting or secret is missing, unknown or out of range."""


class UseCaseInvalid(ContractViolated):
    """A use case's declaration, or the code beside it, is wrong."""


class SourceInvalid(ContractViolated):
    """The source rows cannot be read as the use case declares them."""


class FeaturesInvalid(ContractViolated):
    """A feature vector breaks the schema it must keep."""


class ValidationStopped(ContractViolated):
    """Validation found more than the use case tolerates, so nothing was passed on."""


class NothingToTrain(ContractViolated):
    """No region has labelled vectors, so there is nothing to fan out."""


class TrainingFailed(ContractViolated):
    """Some regions ended with a reason instead of a candidate.

    Args:
        message: The report, one line for each failed region.
        regions: The failed regions.
    """

    def __init__(self, message: str, *, regions: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.regions = tuple(regions)


class ArtifactCorrupt(ContractViolated):
    """Bytes do not match the SHA-256 under which they are registered."""


class SignatureInvalid(ContractViolated):
    """A model version is unsigned, signed by an unknown key, or not what was signed."""


class PipelineFailed(ContractViolated):
    """A pipeline run ended as failed or cancelled."""


class NotFound(PlatformError):
    """What was asked for by name does not exist (yet)."""


class UseCaseNotFound(NotFound):
    """There is no use case of that name."""


class ModelNotFound(NotFound):
    """There is no such model version, or no champion."""


class ReportNotFound(NotFound):
    """A registered version has no report."""


class EntityNotFound(NotFound):
    """No feature vector of that entity is stored."""


class Unavailable(PlatformError):
    """A server did not answer. The same call may succeed later."""


class DatabaseUnavailable(Unavailable):
    """PostgreSQL (or PgBouncer before it) refused or did not answer."""


class H2OUnavailable(Unavailable):
    """The H2O server refused or did not answer."""


class MageUnavailable(Unavailable):
    """The Mage server refused or did not answer."""


class SidecarUnavailable(Unavailable):
    """The prediction API refused or did not answer."""


class PortTaken(Unavailable):
    """Another process listens on a port the local stack needs."""


class ServiceFailed(Unavailable):
    """A process of the local stack did not become ready, or died."""
