"""Makes the Python environments. Run by any python3, before anything is installed:

    python3 mage_platform/local/bootstrap.py run|test|lock|reset

This file must parse on every Python 3, so that a wrong version is told in one line; the work is done elsewhere.
"""

import sys
from pathlib import Path

NEEDED = (3, 11)


def refusal(version: "tuple[int, ...]", command: str) -> str:
    """The sentence for a Python the locked requirements are not made for; empty for the right one."""
    if tuple(version[:2]) == NEEDED:
        return ""
    found = ".".join(str(part) for part in version[:2])  # no f-string: the oldest Python 3 does not know them
    cure = "install it, or name it, for example make " + command + " PYTHON=/usr/bin/python3.11"
    return "error: Python 3.11 is needed, this is " + found + ": " + cure


def main(arguments: "list[str]") -> int:
    """Check the Python, then hand over."""
    said = refusal(tuple(sys.version_info[:3]), arguments[0] if arguments else "run")
    if said:
        sys.stderr.write(said + "\n")
        return 2
    # the project instead of this folder, whose modules are named like servers
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)
    from mage_platform.local.environments import main as make_environments

    return make_environments(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
