"""Lets Mage serve a project whose folder it cannot write to, as in an image.

Its web server writes an empty note about an SSH tunnel into the project before it listens, and does not start where it
cannot. The note goes to Mage's own data instead; a tunnel to a Spark cluster, which it is for, is nothing this project
has.
"""

from __future__ import annotations

from pathlib import Path

from mage_platform.orchestration.refusals import MageVersionUnknown

NOTE = Path("ssh_tunnel", "aws_emr.json")


def keep_tunnel_note_out_of_project() -> None:
    """Install it. Call once, after Mage knows its project and before its web server starts.

    Raises:
        MageVersionUnknown: The installed Mage's web server writes its note in another way.
    """
    from mage_ai.server import server
    from mage_ai.settings.repo import get_variables_dir

    if getattr(server, "file_path_aws_emr", None) is None:
        raise MageVersionUnknown(
            "Mage's server has no file_path_aws_emr, so it may write into its project; use the Mage version of "
            "requirements.txt."
        )
    server.file_path_aws_emr = lambda: str(Path(get_variables_dir(root_project=True)) / NOTE)
