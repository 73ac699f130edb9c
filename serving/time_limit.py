"""How long an answer may take to be made."""

from __future__ import annotations

from serving.calls import Call
from serving.front_door import Answer
from serving.patience import Patience
from serving.problems import AnswerTooSlow


def in_time(answer: Answer, seconds: float) -> Answer:
    """The same answer, given up when it takes longer: the request is told so, and its place is free again.

    Args:
        answer: Makes the answer of a body.
        seconds: How long that may take; up to a quarter more before it is noticed.

    Returns:
        Makes the same answer, or raises `AnswerTooSlow`.
    """
    patience = Patience(seconds)

    async def answer_in_time(body: bytes, call: Call) -> bytes:
        try:
            with patience:
                return await answer(body, call)
        except TimeoutError:
            raise AnswerTooSlow(f"no answer within {seconds:g} seconds: try again in a moment") from None

    return answer_in_time
