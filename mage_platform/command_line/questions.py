"""What a command cannot know: given by an option, asked on a terminal, or named as missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import click

from mage_platform.errors import ContractViolated

NONE = "none"


@dataclass(frozen=True)
class Questions:
    """How questions are answered.

    Args:
        terminal: Whether a person is there to ask.
        yes: Whether every proposal is taken without asking.
    """

    terminal: bool
    yes: bool

    def answer(
        self,
        option: str,
        question: str,
        *,
        given: str | None,
        choices: Sequence[str],
        proposed: str | None,
        sure: bool = False,
        check: Callable[[str], str | None] | None = None,
    ) -> str:
        """One answer.

        Args:
            option: Such as `--target`.
            question: Asked on a terminal.
            given: By the option; it wins.
            choices: What can be answered; empty where anything can.
            proposed: Answer when nothing else is said; None when there is none.
            sure: Whether the proposal needs no asking.
            check: Says what is wrong with an answer, or None.

        Raises:
            ContractViolated: The answer does not fit, or it is needed and nobody can be asked; names the option.
        """

        def fault(answer: str) -> str | None:
            if choices and answer not in choices:
                near = get_close_matches(answer, choices, n=1)
                return f"{answer!r} is none of {', '.join(choices)}" + (f": did you mean {near[0]!r}?" if near else "")
            return check(answer) if check else None

        if given is not None:
            if problem := fault(given):
                raise ContractViolated(f"{option}: {problem}", field=_field(option))
            return given
        if proposed is not None and (sure or self.yes):
            return proposed
        if not self.terminal or self.yes:
            hint = f"; it could be {', '.join(choices[:12])}" if choices else ""
            accept = f"; --yes takes {proposed}" if proposed is not None else ""
            raise ContractViolated(f"{option} is needed: {question}{hint}{accept}", field=_field(option))
        return self._ask(question, choices, proposed, fault)

    def _ask(
        self, question: str, choices: Sequence[str], proposed: str | None, fault: Callable[[str], str | None]
    ) -> str:
        listed = f" ({', '.join(choices[:20])})" if choices else ""
        while True:
            answer: str = click.prompt(f"{question}{listed}", default=proposed, err=True)
            problem = fault(answer.strip())
            if problem is None:
                return answer.strip()
            click.echo(f"  {problem}", err=True)


def _field(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")
