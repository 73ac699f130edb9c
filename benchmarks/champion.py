"""Brings a champion out of the registry into a folder, for `benchmarks.serving`.

.venv/bin/python -m benchmarks.champion USE_CASE REGION FOLDER     while `make run` is up
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from mage_platform.command_line.surroundings import present_settings
from mage_platform.database import connect
from mage_platform.errors import ModelNotFound, PlatformError
from mage_platform.registry import champion, fetch_model, verification_keys


def bring(use_case: str, region: str, folder: Path) -> None:
    """Write `model.zip`, `h2o-genmodel.jar` and `schema.json` of a region's champion.

    Raises:
        ModelNotFound: The region has none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = present_settings()
    with connect(settings) as connection:
        serving = champion(connection, use_case, region)
        if serving is None:
            raise ModelNotFound(f"{use_case}/{region} has no champion; `make run` trains one")
        model = serving.model
        mojo, jar = fetch_model(connection, model, folder, verification_keys(settings))
        shutil.copy(mojo, folder / "model.zip")
        shutil.copy(jar, folder / "h2o-genmodel.jar")
    (folder / "schema.json").write_text(model.input_schema.model_dump_json())


if __name__ == "__main__":
    try:
        bring(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except PlatformError as error:
        sys.exit(f"error: {error}")
