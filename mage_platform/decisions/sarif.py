"""Findings as SARIF 2.1.0, which code hosts and editors show beside the lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mage_platform import __version__
from mage_platform.decisions.checking import Judgement
from mage_platform.decisions.findings import Finding
from mage_platform.decisions.registry import RULES
from mage_platform.decisions.waivers import FILE

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_sarif(judgement: Judgement) -> dict[str, Any]:
    """One run with every rule and every finding; waived ones are suppressed, with the reason.

    Source:
        OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0, 2020.
    """
    rules = [
        {
            "id": rule.id,
            "name": rule.title,
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": f"{rule.title}: {rule.reason}."},
            "help": {"text": rule.alternative},
            "defaultConfiguration": {"level": "error"},
            "properties": {"kind": rule.kind, "layer": rule.layer},
        }
        for rule in RULES
    ]
    driver = {"name": "mage-platform decisions", "version": __version__, "rules": rules}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "originalUriBaseIds": {"PROJECT": {"description": {"text": "The checked project"}}},
                "results": list(_results(judgement)),
                "invocations": [
                    {
                        "executionSuccessful": not judgement.unreadable,
                        "toolExecutionNotifications": [
                            {"level": "error", "message": {"text": f"{path}: {reason}"}}
                            for path, reason in judgement.unreadable.items()
                        ]
                        + [
                            {"level": "warning", "message": {"text": f"{FILE}: {each.rule} {each.path} covers nothing"}}
                            for each in judgement.idle_waivers
                        ],
                    }
                ],
            }
        ],
    }


def _results(judgement: Judgement) -> Iterator[dict[str, Any]]:
    yield from map(_result, judgement.findings)
    for finding, waiver in judgement.waived:
        justification = f"{waiver.reason} (until {waiver.until})"
        yield {**_result(finding), "suppressions": [{"kind": "external", "justification": justification}]}


def _result(finding: Finding) -> dict[str, Any]:
    place = {
        "artifactLocation": {"uri": finding.path, "uriBaseId": "PROJECT"},
        "region": {"startLine": finding.line},
    }
    return {
        "ruleId": finding.rule,
        "ruleIndex": [rule.id for rule in RULES].index(finding.rule),
        "level": "error",
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": place}],
    }
