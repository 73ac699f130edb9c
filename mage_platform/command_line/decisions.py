"""`mage-platform decisions`: the technology decision registry, and a project held against it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.decisions import RULES, Judgement, check_project
from mage_platform.decisions.registry import BY_ID
from mage_platform.decisions.sarif import as_sarif
from mage_platform.decisions.waivers import FILE
from mage_platform.settings import PROJECT

path_argument = click.argument("path", type=click.Path(path_type=Path), default=PROJECT, required=False)


@click.group()
def decisions() -> None:
    """Mandates and forbidden patterns, held against a project."""


@decisions.command()
@path_argument
@click.option("--sarif", type=click.Path(dir_okay=False, path_type=Path), help="Also write SARIF 2.1.0 to this file.")
@json_option
def check(path: Path, sarif: Path | None, as_json: bool) -> None:
    """Hold PATH (this project) against every rule.

    Looks at Python, SQL, YAML, Dockerfiles, requirements and PgBouncer's configuration: the project's own, and whatever
    blocks, queries, manifests and images were added. The exit code is 1 when something breaks a rule or cannot be read,
    or when a waiver covers nothing any more.

    An exception is an item of decision_waivers.yaml in the project: `rule`, `path` (may be a pattern), `reason`,
    `until` (a date), and `holding` for a part of the message.
    """
    judgement = check_project(path)
    if sarif is not None:
        sarif.write_text(json.dumps(as_sarif(judgement), indent=2) + "\n", encoding="utf-8")
    if as_json:
        print_json(_as_json(judgement))
    else:
        _print(judgement)
    raise SystemExit(0 if judgement.kept else 1)


@decisions.command("list")
@path_argument
@json_option
def list_rules(path: Path, as_json: bool) -> None:
    """Every rule, and how PATH (this project) stands to it."""
    judgement = check_project(path)
    broken = Counter(each.rule for each in judgement.findings)
    waived = Counter(each.rule for each, _ in judgement.waived)
    if as_json:
        print_json([{**asdict(r), "findings": broken[r.id], "waived": waived[r.id]} for r in RULES])
        return
    rows = [[rule.id, rule.layer, rule.title, _state(broken[rule.id], waived[rule.id])] for rule in RULES]
    print_table(["rule", "layer", "asks for (forbids, where it says no-)", "state"], rows, empty="")


def _state(broken: int, waived: int) -> str:
    words = [f"{broken} to mend"] if broken else []
    words += [f"{waived} waived"] if waived else []
    return ", ".join(words) or "kept"


def _print(judgement: Judgement) -> None:
    for finding in judgement.findings:
        rule = BY_ID[finding.rule]
        click.echo(f"{finding.path}:{finding.line}: {finding.rule}: {finding.message}")
        click.echo(f"    because {rule.reason}. {rule.alternative}")
    for path, reason in judgement.unreadable.items():
        click.echo(f"{path}: not looked into: {reason}")
    for waiver in judgement.idle_waivers:
        which = f"{waiver.rule} for {waiver.path} (until {waiver.until})"
        click.echo(f"{FILE}: the waiver of {which} covers nothing, or has run out: mend what it covered, or remove it")
    state = f"{len(judgement.findings)} places to mend" if judgement.findings else "all kept"
    click.echo(f"{len(RULES)} rules: {state}, {len(judgement.waived)} waived")


def _as_json(judgement: Judgement) -> dict[str, object]:
    return {
        "kept": judgement.kept,
        "findings": [
            {**asdict(each), "reason": BY_ID[each.rule].reason, "alternative": BY_ID[each.rule].alternative}
            for each in judgement.findings
        ],
        "waived": [{**asdict(each), "waiver": waiver.model_dump(mode="json")} for each, waiver in judgement.waived],
        "idle_waivers": [each.model_dump(mode="json") for each in judgement.idle_waivers],
        "unreadable": judgement.unreadable,
    }
