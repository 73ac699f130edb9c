"""The one door to great-expectations: which rows break which rule."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import pandas as pd

from mage_platform.contracts.use_case import Rule

# No usage statistics leave the machine; read by great-expectations when it is imported.
os.environ.setdefault("GE_USAGE_STATS", "FALSE")

_RESULT_FORMAT = {
    "result_format": "COMPLETE",
    # Without this every result carries a pandas expression that lists each offending index once more.
    "return_unexpected_index_query": False,
    "partial_unexpected_count": 3,
}


@dataclass(frozen=True)
class RuleResult:
    """What became of one rule."""

    rule: str
    """Expectation and arguments, as declared."""
    column: str
    """The column or columns it looks at; empty for the whole table."""
    holds: bool
    offenders: dict[Any, Any] = field(default_factory=dict)
    """Index label of each offending row, with the value found there. Only for row-level rules."""
    problem: str = ""
    """What was observed, for a rule that does not hold, or why it could not be evaluated."""
    evaluated: bool = True
    """False when the rule itself is at fault."""


def check(rows: pd.DataFrame, rules: list[Rule]) -> list[RuleResult]:
    """Hold rows against rules, in the order of the rules.

    Args:
        rows: The table; its index must be unique.
        rules: Each one expectation with its arguments.
    """
    if not rules:
        return []
    import great_expectations as gx  # takes seconds, so only where it is used
    from great_expectations.core import ExpectationConfiguration, ExpectationSuite

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.sources.add_pandas("rows").add_dataframe_asset("rows")
    results = []
    for rule in rules:
        # One suite each: expectations of the same name and column would otherwise replace one another.
        (name, arguments), text = next(iter(rule.items())), rule_text(rule)
        suite = ExpectationSuite("rules", expectations=[ExpectationConfiguration(name, arguments)])
        batch = asset.build_batch_request(dataframe=rows)
        try:
            validator = context.get_validator(batch_request=batch, expectation_suite=suite)
            outcome = validator.validate(result_format=_RESULT_FORMAT).results[0]
        except Exception as error:  # an unknown expectation or argument surfaces as one of many types
            results.append(
                RuleResult(text, _columns(arguments), False, problem=_first_line(str(error)), evaluated=False)
            )
            continue
        results.append(_result(text, arguments, outcome))
    return results


def fault(rule: Rule) -> tuple[str | None, str] | None:
    """What is wrong with a rule itself, whatever rows it will meet.

    Returns:
        The argument at fault (None for the rule as a whole) and a sentence; None when nothing is.
    """
    from great_expectations.core import ExpectationConfiguration
    from great_expectations.exceptions import InvalidExpectationConfigurationError
    from great_expectations.expectations.registry import (
        get_expectation_impl,
        list_registered_expectation_implementations,
    )

    name, arguments = next(iter(rule.items()))
    known = sorted(list_registered_expectation_implementations())
    if name not in known:
        by_words = {" ".join(sorted(each.split("_"))): each for each in known}  # their order is easily confused
        nearest = by_words[get_close_matches(" ".join(sorted(name.split("_"))), by_words, n=1, cutoff=0.0)[0]]
        return None, f"great-expectations 0.18 knows no {name}: did you mean {nearest}?"
    expectation = get_expectation_impl(name)
    names = [
        each
        for each in (*expectation.domain_keys, *expectation.success_keys)
        if each not in ("batch_id", "table", "auto", "profiler_config")
    ]
    for argument in arguments:
        if argument not in names and argument != "meta":
            near = get_close_matches(argument, names, n=1, cutoff=0.5)
            return argument, f"{name} takes no {argument!r}" + (
                f": did you mean {near[0]!r}?" if near else f"; it takes {', '.join(names)}"
            )
    configuration = ExpectationConfiguration(name, arguments)
    try:
        expectation(configuration=configuration).validate_configuration(configuration)
    except InvalidExpectationConfigurationError as error:
        return None, f"{_first_line(str(error))}; {name} takes {', '.join(names)}"
    lowest, highest = arguments.get("min_value"), arguments.get("max_value")
    if isinstance(lowest, (int, float)) and isinstance(highest, (int, float)) and lowest > highest:
        return "min_value", f"min_value {lowest:g} is above max_value {highest:g}: no value can hold"
    return None


def rule_text(rule: Rule) -> str:
    """A rule on one line, as it stands in reports.

    >>> rule_text({"expect_column_values_to_not_be_null": {"column": "origin"}})
    'expect_column_values_to_not_be_null(column="origin")'
    """
    name, arguments = next(iter(rule.items()))
    return f"{name}({', '.join(f'{key}={json.dumps(value, default=str)}' for key, value in arguments.items())})"


def _result(rule: str, arguments: dict[str, Any], outcome: Any) -> RuleResult:
    column = _columns(arguments)
    if "exception_message" not in outcome.exception_info or outcome.exception_info["raised_exception"]:
        messages = [
            info["exception_message"]
            for info in (outcome.exception_info, *outcome.exception_info.values())
            if isinstance(info, dict) and info.get("exception_message")
        ]
        problem = _first_line(messages[0] if messages else "unknown")
        return RuleResult(rule, column, False, problem=problem, evaluated=False)
    details = outcome.result
    offenders = dict(
        zip(details.get("unexpected_index_list") or [], details.get("unexpected_list") or [], strict=False)
    )
    problem = "" if outcome.success else f"observed {details.get('observed_value', f'{len(offenders)} rows')}"
    return RuleResult(rule, column, bool(outcome.success), offenders, problem)


def _columns(arguments: dict[str, Any]) -> str:
    named = [arguments[key] for key in ("column", "column_A", "column_B") if key in arguments]
    return ", ".join(map(str, named or arguments.get("column_list", [])))


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no message"
