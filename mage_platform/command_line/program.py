"""The program: its commands, its settings, and how errors reach the person."""

from __future__ import annotations

import sys
from typing import Any

import click

from mage_platform import __version__
from mage_platform.command_line.database import database
from mage_platform.command_line.decisions import decisions
from mage_platform.command_line.entities import features
from mage_platform.command_line.keys import keys
from mage_platform.command_line.model_upkeep import prune, sign
from mage_platform.command_line.models import models
from mage_platform.command_line.pipelines import run
from mage_platform.command_line.prediction_log import predictions
from mage_platform.command_line.predictions import explain, predict
from mage_platform.command_line.quarantine import quarantine
from mage_platform.command_line.secrets import secrets
from mage_platform.command_line.stack import doctor, status, up
from mage_platform.command_line.use_cases import use_case
from mage_platform.errors import ContractViolated, NotFound, PipelineFailed, PlatformError, TrainingFailed, Unavailable

EXIT_CODES: tuple[tuple[type[PlatformError], int], ...] = (
    (PipelineFailed, 1),
    (TrainingFailed, 1),
    (ContractViolated, 2),
    (NotFound, 3),
    (Unavailable, 4),
)


class Program(click.Group):
    """A group of commands that turns the platform's errors into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except PlatformError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1))
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def program() -> None:
    """Converged Data & ML Platform: validated features, one model a region, and their predictions.

    \b
    Start everything     mage-platform up          (or `make run`)
    Bring data in        mage-platform run ingest_features
    Train the regions    mage-platform run train_regional_models
    See what serves      mage-platform models list
    Ask for a prediction mage-platform predict flight_delays JFK ENTITY_ID

    Settings are PLATFORM_* environment variables; `mage-platform doctor --settings` lists them all.
    """


for command in (sign, prune):
    models.add_command(command)
COMMANDS = (up, status, doctor, run, predict, explain, predictions, models, keys, features, quarantine, use_case)
for command in (*COMMANDS, database, secrets, decisions):
    program.add_command(command)


def main() -> None:
    """Entry point."""
    program(prog_name="mage-platform", args=sys.argv[1:])
