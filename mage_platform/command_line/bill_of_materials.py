"""`mage-platform sbom`: the Python packages of an image, as a CycloneDX bill of materials."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from mage_platform.bill_of_materials import IMAGES, bill_of_materials, pins_of
from mage_platform.command_line.output import json_option, print_json
from mage_platform.settings import PROJECT


@click.command()
@click.option("--image", type=click.Choice(list(IMAGES)), default="platform", show_default=True, help="Whose packages.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it here, not to the terminal.")
@click.option(
    "--timestamp",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ"]),
    help="When it was made (UTC). None by default: the same lock file gives the same bytes.",
)
@json_option
def sbom(image: str, output: Path | None, timestamp: datetime | None, as_json: bool) -> None:
    """Write the bill of materials (CycloneDX 1.6, JSON) of an image.

    Every Python package of its lock file, with version, package URL and the SHA-256 of each file that may be installed,
    and which package needs which. `platform` is the environment of the local stack.

    With --output, --json tells what was written as JSON.
    """
    when = timestamp.replace(tzinfo=UTC) if timestamp else None
    bill = bill_of_materials(image, pins_of(PROJECT / IMAGES[image].lock), when)
    text = json.dumps(bill, indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    output.write_text(text, encoding="utf-8")
    components, serial = len(bill["components"]), bill["serialNumber"]
    if as_json:
        print_json({"image": image, "file": str(output), "components": components, "serial_number": serial})
    else:
        click.echo(f"{components} components of {image} in {output}")
