"""`mage-platform models reproduce`: train a registered version once more, and compare."""

from __future__ import annotations

import click

from mage_platform.command_line.output import json_option, print_json, print_table
from mage_platform.command_line.surroundings import present_settings
from mage_platform.database import connect
from mage_platform.registry import model_version
from mage_platform.training.reproduction import Reproduction
from mage_platform.training.reproduction import reproduce as train_again
from mage_platform.use_cases import load_use_case


@click.command("reproduce")
@click.argument("use_case")
@click.argument("region")
@click.argument("version", type=int)
@json_option
def reproduce(use_case: str, region: str, version: int, as_json: bool) -> None:
    """Train VERSION again and compare every score.

    Takes window, seed and budget from its lineage, trains on the H2O server, and holds the predictions on the held-out
    rows against those of the registered MOJO. Nothing is registered or moved. The exit code is 0 when every score is
    equal to the last bit, else 1; what is known to differ since is said.
    """
    settings = present_settings()
    with connect(settings) as connection:
        model = model_version(connection, use_case, region, version)
    declared = load_use_case(settings, use_case)
    if not as_json:
        rows = sum(model.rows.values())
        click.echo(f"training {use_case}/{region} version {version} again on {rows:,} rows", err=True)
    outcome = train_again(settings, declared, model)
    if as_json:
        print_json(outcome)
    else:
        _print(outcome)
    raise SystemExit(0 if outcome.same_scores else 1)


def _print(outcome: Reproduction) -> None:
    verdict = "the same" if outcome.same_scores else f"differ by up to {outcome.largest_difference:.3g}"
    facts = [
        ["scores", verdict],
        ["held-out rows compared", f"{outcome.rows:,}"],
        ["algorithm", outcome.algorithm],
        ["training", f"{outcome.training_seconds:.1f} s"],
        *(["since then", each] for each in outcome.differences),
    ]
    print_table(["", f"{outcome.use_case}/{outcome.region} version {outcome.version}"], facts, empty="")
