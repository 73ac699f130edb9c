"""What goes wrong, as RFC 9457 problem details: one table from error family to HTTP status.

A problem names the field, the value and the rule, all of them at once. It never holds a stack trace or a secret: an
error that is not one of ours is logged with its traceback, and answered with its reference alone.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mage_platform.errors import (
    ContractViolated,
    EntityNotFound,
    FeaturesInvalid,
    ModelNotFound,
    NotFound,
    PlatformError,
    SidecarUnavailable,
    Unavailable,
)
from serving.encoding import Fault
from serving.refusals import KeyRefused, NotAllowed, Overloaded, TooManyRequests

log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"
LONGEST_VALUE = 200
MOST_FAULTS = 1_000
"""Faults one answer lists: a body of nothing but unknown features must not be answered at greater length."""


class BodyMalformed(ContractViolated):
    """The body is not JSON."""


class BodyTooLarge(ContractViolated):
    """The body is longer than the sidecar reads."""


class BodyNotJson(ContractViolated):
    """The request says itself that its body is something else than plain JSON.

    Args:
        fault: The header that says so.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"the header {fault.field} {fault.message}", field=fault.field)
        self.faults = (fault,)


class BodyTooSlow(ContractViolated):
    """The body did not come within the time the sidecar waits for it."""


class AnswerTooSlow(SidecarUnavailable):
    """A prediction took longer than the sidecar's time for it, and was given up."""


class RequestInvalid(ContractViolated):
    """The body is JSON, but not the request it should be.

    Args:
        faults: Everything that is wrong with it; at least one.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"{faults[0].field} {faults[0].message}{more}", field=faults[0].field)
        self.faults = tuple(faults)


class NotServed(ModelNotFound):
    """No champion answers for a use case and region, which the caller may mend by naming another.

    Args:
        message: What was asked for, and what is served.
        fault: The field that names nothing.
    """

    def __init__(self, message: str, fault: Fault) -> None:
        super().__init__(message, field=fault.field)
        self.faults = (fault,)


class VectorNotStored(EntityNotFound):
    """An entity without a stored vector.

    Args:
        message: Whose vector was looked for, and where.
        fault: The entity.
    """

    def __init__(self, message: str, fault: Fault) -> None:
        super().__init__(message, field=fault.field)
        self.faults = (fault,)


class VectorTooOld(ContractViolated):
    """The newest stored vector of an entity is older than its use case allows.

    Args:
        message: Whose vector, of when, and the limit.
        fault: The entity, with the vector's event time.
    """

    def __init__(self, message: str, fault: Fault) -> None:
        super().__init__(message, field=fault.field)
        self.faults = (fault,)


class ExplanationsNotAvailable(ContractViolated):
    """The model that answers cannot be explained, nor is there another one to explain in its place."""


# The first line that fits decides.
TABLE: tuple[tuple[type[PlatformError], int, str, str], ...] = (
    (BodyMalformed, 400, "body-malformed", "The body is not valid JSON"),
    (KeyRefused, 401, "key-refused", "No key came with the request, or none that counts"),
    (NotAllowed, 403, "not-allowed", "The key is not for this"),
    (BodyTooSlow, 408, "body-too-slow", "The body did not arrive in time"),
    (BodyTooLarge, 413, "body-too-large", "The body is too large"),
    (BodyNotJson, 415, "body-not-json", "The body is said to be something else than JSON"),
    (RequestInvalid, 422, "request-invalid", "The request does not keep its contract"),
    (FeaturesInvalid, 422, "features-invalid", "The feature vector does not keep the model's schema"),
    # 409 and not 422: the request is in order, it is what is stored that stands against it, until the next ingest.
    (VectorTooOld, 409, "vector-too-old", "The stored feature vector is older than the use case allows"),
    (ExplanationsNotAvailable, 409, "explanations-not-available", "The model cannot be explained"),
    (TooManyRequests, 429, "too-many-requests", "More requests than the limit allows"),
    (ContractViolated, 422, "contract-violated", "The request cannot be answered as it is"),
    (ModelNotFound, 404, "model-not-found", "No model answers for this use case and region"),
    (EntityNotFound, 404, "entity-not-found", "No feature vector of this entity is stored"),
    (NotFound, 404, "not-found", "There is no such thing"),
    (Overloaded, 503, "overloaded", "More is asked than can be answered in time"),
    (AnswerTooSlow, 503, "answer-too-slow", "The answer took too long"),
    (Unavailable, 503, "unavailable", "Not available at the moment"),
)


class ProblemError(BaseModel):
    """One thing that is wrong with the request."""

    field: str = Field(..., examples=["features.month"])
    message: str = Field(..., examples=["must be at most 12"])
    value: Any = Field(None, description="What was sent; null when the field was not sent", examples=[13])


class Problem(BaseModel):
    """Problem details by RFC 9457."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(..., examples=["urn:problem:mage-platform:features-invalid"])
    title: str
    status: int
    detail: str
    instance: str = Field(..., description="This very occurrence, as it stands in the log")
    errors: list[ProblemError] = []


def problem_of(error: BaseException) -> tuple[int, str, bytes]:
    """Status, slug and body for an error.

    Args:
        error: Anything that was raised. What is not a `PlatformError` is logged, and its text is not given away.
    """
    instance = f"urn:uuid:{uuid.uuid4()}"
    if isinstance(error, ValidationError):
        error = as_invalid_request(error)
    if not isinstance(error, PlatformError):
        log.error("request failed", instance=instance, exc_info=error)
        text = "The sidecar failed; its log has the cause under this instance"
        return 500, "internal-error", _write(500, "internal-error", "The sidecar failed", text, instance, [])
    status, slug, title = next(line[1:] for line in TABLE if isinstance(error, line[0]))
    if status >= 500 and not isinstance(error, Overloaded):  # of which there may be thousands a second
        log.warning("request not answered", instance=instance, reason=error.message)
    faults = getattr(error, "faults", None) or ([Fault(error.field, error.message)] if error.field is not None else [])
    return status, slug, _write(status, slug, title, error.message, instance, faults)


def problem_of_status(status: int, detail: str) -> bytes:
    """Body for a fault below our routes: unknown address, method not allowed."""
    return _write(status, "http", HTTPStatus(status).phrase, detail, f"urn:uuid:{uuid.uuid4()}", [])


def as_invalid_request(error: ValidationError) -> RequestInvalid | BodyMalformed:
    """What pydantic found, as faults that name their fields."""
    if (count := error.error_count()) > MOST_FAULTS:  # to tell them one by one takes the event loop a second
        return RequestInvalid([Fault("body", f"breaks {count} rules, too many to name: see the documentation")])
    found = error.errors(include_url=False, include_context=False)
    if found and found[0]["type"] == "json_invalid":
        return BodyMalformed(f"the body is not valid JSON: {found[0]['msg'].removeprefix('Invalid JSON: ')}")
    return RequestInvalid([_fault(item) for item in found])


# What pydantic's kinds of fault mean to a caller, in the words the fields of a vector are refused with.
_RULES = {
    "extra_forbidden": "is not a field of this request",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "uuid_type": "must be a UUID, as text",
    "uuid_parsing": "must be a UUID, such as 7cf06540-e6e0-54cb-8483-c525c4b50d97",
    "timezone_aware": "must have a time zone, as in 2026-01-31T12:00:00Z",
    "datetime_type": "must be a time with its zone, as in 2026-01-31T12:00:00Z",
    "datetime_parsing": "must be a time with its zone, as in 2026-01-31T12:00:00Z",
    "datetime_from_date_parsing": "must be a time with its zone, as in 2026-01-31T12:00:00Z",
}
_PATTERNS = {
    "use_case": "must be lower-case letters, digits and underscores, a letter first, at most 63",
    "region": "must not hold a slash or a control character",
}


def _fault(item: Any) -> Fault:
    field = ".".join(str(part) for part in item["loc"]) or "body"
    if item["type"] == "missing":
        return Fault(field, "is missing")
    rule = _PATTERNS.get(field) if item["type"] == "string_pattern_mismatch" else _RULES.get(item["type"])
    return Fault(field, rule or _as_rule(item["msg"]), item["input"])


def _as_rule(message: str) -> str:
    """Pydantic's own sentence, as a rule that a field's name can stand before.

    >>> _as_rule("String should have at most 100 characters")
    'must have at most 100 characters'
    """
    _, should, rest = message.partition(" should ")
    return f"must {rest}" if should else message[:1].lower() + message[1:]


def _write(status: int, slug: str, title: str, detail: str, instance: str, faults: Sequence[Fault]) -> bytes:
    body = {
        "type": f"urn:problem:mage-platform:{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance,
        "errors": [
            {"field": _short(fault.field), "message": _short(fault.message), "value": echo(fault.value)}
            for fault in faults[:MOST_FAULTS]
        ],
    }
    return json.dumps(body, allow_nan=False).encode()


def echo(value: Any) -> Any:
    """A value as it may stand in an answer: primitives as they are, everything else as short text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 1 << 53:
        return value
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        return value
    return _short(value if isinstance(value, str) else _text(value))


def _text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # an integer of more digits than Python writes
        return "an integer of very many digits"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


Status = Literal[400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503]


def responses(*statuses: Status) -> dict[int | str, dict[str, Any]]:
    """What an OpenAPI operation says about its problems."""
    titles: dict[int, str] = {status: title for _, status, _, title in reversed(TABLE)}
    titles[503] = TABLE[-1][3]
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": titles.get(status, "The sidecar failed"), "content": {MEDIA_TYPE: schema}}
        for status in statuses
    }
