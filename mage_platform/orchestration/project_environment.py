"""The environment in which Mage serves or runs the platform's project."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mage_platform.errors import NotFound

PACKAGE_ROOT = Path(__file__).resolve().parents[2]

# Mage's own default looks for work every ten seconds, which costs ten seconds for each block of a chain.
SCHEDULER_INTERVAL_SECONDS = "1.7"


def project_environment(project: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Environment for a process that runs Mage on a project.

    Args:
        project: Folder with the project's `metadata.yaml`.
        environment: What is set already; a setting of Mage's in it is kept.

    Returns:
        The environment with which blocks can import `mage_platform` and `use_cases`, nothing is sent home, no
        browser opens, and the dashboards of the UI are those of the project.
    """
    folders = [str(project), str(PACKAGE_ROOT), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    defaults = {
        "SCHEDULER_TRIGGER_INTERVAL": SCHEDULER_INTERVAL_SECONDS,
        "DISABLE_AUTO_BROWSER_OPEN": "1",
        "GE_USAGE_STATS": "FALSE",
        # Mage's own default lies among its data, where no commit reaches.
        "MAGE_PRESENTERS_DIRECTORY": str(project / "dashboards"),
    }
    return {
        **defaults,
        **environment,
        "MAGE_REPO_PATH": str(project),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(each for each in folders if each)),
    }


def existing_project(project: Path) -> Path:
    """Check that a folder is a Mage project.

    Args:
        project: The folder.

    Returns:
        Its absolute path.

    Raises:
        NotFound: There is no `metadata.yaml` in it.
    """
    folder = project.resolve()
    if not (folder / "metadata.yaml").is_file():
        raise NotFound(
            f"{folder} is not a Mage project: it has no metadata.yaml. Name the folder that has one, usually "
            "the root of the repository."
        )
    return folder
