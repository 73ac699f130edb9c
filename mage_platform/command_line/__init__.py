"""The command line: `mage-platform`, also `python -m mage_platform`.

Exit codes: 0 done; 1 the work itself failed; 2 wrong input, mend it first; 3 not found; 4 a server is unavailable,
try again; 130 interrupted.
"""

from mage_platform.command_line.program import main

__all__ = ["main"]
