"""Who is not let in, and what is too much: the errors of the guard at the door."""

from __future__ import annotations

from mage_platform.errors import ContractViolated, SidecarUnavailable
from serving.calls import Header
from serving.encoding import Fault

_BEARER = b'Bearer realm="predictions"'
_BASIC = b'Basic realm="predictions: any name, and a key as the password", charset="UTF-8"'


class KeyRefused(ContractViolated):
    """No key came with the request, or none that counts.

    Args:
        message: Why; never holds what was sent.
        sent: Whether there was one.
        browser: Whether a person sits in front of it, who can be asked for a key.
    """

    def __init__(self, message: str, *, sent: bool, browser: bool) -> None:
        super().__init__(message)
        bearer = _BEARER + (b', error="invalid_token"' if sent else b"")
        self.headers: tuple[Header, ...] = ((b"www-authenticate", bearer),)
        if browser:
            self.headers += ((b"www-authenticate", _BASIC),)


class NotAllowed(ContractViolated):
    """The key is good, but not for this.

    Args:
        message: Whose key it is and what it is not for.
        fault: The field that asks for it, where there is one.
    """

    def __init__(self, message: str, fault: Fault | None = None) -> None:
        super().__init__(message, field=fault.field if fault else None)
        self.faults = (fault,) if fault else ()


class TooManyRequests(ContractViolated):
    """A caller asks more often than its limit allows.

    Args:
        message: Whose limit it is, and which.
        retry_after_seconds: When the next request is let in.
    """

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Overloaded(SidecarUnavailable):
    """More is asked at the moment than can be answered in time. Counted in the log, not told one by one.

    Args:
        message: What there is too much of.
        retry_after_seconds: When it is worth trying again.
    """

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
