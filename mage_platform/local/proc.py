"""What /proc tells about processes: who lives, since when, with which children and how much memory."""

from __future__ import annotations

from pathlib import Path

_PROC = Path("/proc")


def started_at(pid: int) -> int | None:
    """Clock ticks after boot at which the process started; with the pid it names a process for good."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] != "Z" else None


def is_alive(pid: int, ticks: int | None) -> bool:
    """True while the very process that had this pid and this start lives."""
    return ticks is not None and started_at(pid) == ticks


def children_of(pid: int) -> list[int]:
    """Direct children, zombies included."""
    return [child for child, parent in _parents().items() if parent == pid]


def descendants_of(pid: int) -> list[int]:
    """Children, their children and so on."""
    parents = _parents()
    found: list[int] = []
    layer = {pid}
    while layer:
        layer = {child for child, parent in parents.items() if parent in layer}
        found += sorted(layer)
    return found


def memory_mib(pid: int) -> float:
    """Memory of a process and its descendants in MiB, shared pages counted once in all (PSS)."""
    kib = 0
    for each in (pid, *descendants_of(pid)):
        try:
            lines = (_PROC / str(each) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


def command_of(pid: int) -> str:
    """Short name of the process, such as `make` or `java`; empty when it is gone."""
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def listener_on(port: int) -> tuple[int, str] | None:
    """Pid and command of the process that listens on a TCP port, where this user may see it."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for folder in _PROC.glob("[0-9]*/fd"):
        try:
            if any(str(entry.readlink()) in sockets for entry in folder.iterdir()):
                pid = int(folder.parent.name)
                return pid, command_of(pid)
        except OSError:
            continue
    return None


def ignores_interrupts(pid: int) -> bool:
    """True when a process that used to handle SIGINT has put the handler away, as make does on Ctrl-C."""
    try:
        status = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "2")
    return not int(caught, 16) & 0b10


def _listening_inodes(port: int) -> list[str]:
    inodes = []
    for table in ("tcp", "tcp6"):
        try:
            rows = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.append(fields[9])
    return inodes


def _parents() -> dict[int, int]:
    pairs = {}
    for folder in _PROC.glob("[0-9]*"):
        fields = _stat(int(folder.name))
        if fields:
            pairs[int(folder.name)] = int(fields[1])
    return pairs


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()  # the command in brackets may hold blanks
