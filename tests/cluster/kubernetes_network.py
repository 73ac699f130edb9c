"""What Kubernetes gives the pods of a StatefulSet, on one machine: each an address, a host name, DNS and process ids.

A pod here is a process in network, mount, host name and process namespaces of its own, on a bridge in the namespace
of the caller; dnsmasq answers for the headless Service with SRV and A records. The caller must be in namespaces of
its own already (`in_private`), so that nothing of it can be seen, met or left behind outside: everything that runs in
them ends with the first process in them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h2o

from mage_platform.local.java import find_java
from mage_platform.local.surroundings import plain_environment
from mage_platform.settings import Settings

SERVICE = "h2o.ml-us.svc.cluster.local"
GATEWAY = "10.244.9.1"
REST_PORT = 54321
QUICK_START = "-XX:TieredStopAtLevel=1 -XX:-UsePerfData"  # these servers live for half a minute
OWN = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def with_system_programs() -> dict[str, str]:
    """This process's environment, with the folder of `ip` and `dnsmasq` on the path, which not every user has there."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


def in_private(command: Sequence[str]) -> list[str]:
    """The command line that runs a command in namespaces of its own, in which only loopback is up."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *as_root, *OWN, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]


def why_not() -> str | None:
    """Why this machine cannot play Kubernetes' network; None when it can."""
    environment = with_system_programs()
    for program in ("unshare", "nsenter", "ip", "dnsmasq"):
        if shutil.which(program, path=environment["PATH"]) is None:
            return f"{program} is not installed (Debian: util-linux, iproute2, dnsmasq-base)"
    done = subprocess.run(in_private(["true"]), env=environment, capture_output=True, text=True, check=False)
    return f"the kernel forbids namespaces: {done.stderr.strip()}" if done.returncode else None


@contextlib.contextmanager
def bridge() -> Iterator[None]:
    """A switch for the pods in the namespace of the caller, which takes the gateway's address on it."""
    for command in (
        "ip link add h2o-pods type bridge",
        f"ip addr add {GATEWAY}/24 dev h2o-pods",
        "ip link set h2o-pods up",
    ):
        subprocess.run(command.split(), check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "delete", "h2o-pods"], check=True)


@contextlib.contextmanager
def cluster_dns(folder: Path, pods: Sequence[int]) -> Iterator[None]:
    """The DNS of the cluster, which knows these pods as members of the headless Service; the caller asks it too."""
    lines = ["no-resolv", "no-hosts", "bind-interfaces", f"listen-address={GATEWAY}", "local=/cluster.local/"]
    for pod in pods:
        lines += [f"host-record=h2o-{pod}.{SERVICE},{address_of(pod)}", f"host-record={SERVICE},{address_of(pod)}"]
        # a record for each port of the Service, as the cluster's DNS has it
        lines += [f"srv-host={SERVICE},h2o-{pod}.{SERVICE},{port}" for port in (REST_PORT, REST_PORT + 1)]
    configuration = folder / "dnsmasq.conf"
    configuration.write_text("\n".join(lines) + "\n")
    command = ["dnsmasq", "--keep-in-foreground", "--user=root", "--pid-file", f"--conf-file={configuration}"]
    subprocess.run(["mount", "--bind", str(resolver(folder)), "/etc/resolv.conf"], check=True)
    try:
        with _stopped_at_the_end(subprocess.Popen(command, text=True)) as server:
            _await_port(server, GATEWAY, 53)
            yield
    finally:
        subprocess.run(["umount", "/etc/resolv.conf"], check=True)


def address_of(pod: int) -> str:
    """The address of a pod."""
    return f"10.244.9.1{pod}"


def resolver(folder: Path) -> Path:
    """A resolv.conf as the kubelet writes it."""
    path = folder / "resolv.conf"
    path.write_text(
        f"nameserver {GATEWAY}\nsearch ml-us.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )
    return path


@dataclass(frozen=True)
class Pod:
    """An H2O server as the StatefulSet runs it."""

    number: int
    process: subprocess.Popen[str]
    log: Path

    @property
    def url(self) -> str:
        """Its REST address."""
        return f"http://{address_of(self.number)}:{REST_PORT}"

    def kill(self) -> None:
        """As the kernel does when memory runs out: at once."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def h2o_pod(settings: Settings, folder: Path, number: int, environment: Mapping[str, str]) -> Iterator[Pod]:
    """One pod with an H2O server in it.

    Args:
        settings: Where scratch files may lie.
        folder: Where its logs go.
        number: Its ordinal in the StatefulSet.
        environment: The variables of its container.
    """
    name, java = f"h2o-{number}", find_java()
    place = folder / name
    (place / "scratch").mkdir(parents=True, exist_ok=True)
    hosts = place / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{address_of(number)} {name}.{SERVICE} {name}\n")
    jar = Path(h2o.__file__).parent / "backend" / "bin" / "h2o.jar"
    # it waits for its network before it starts the server
    prepare = (
        f"mount --bind {resolver(folder)} /etc/resolv.conf && mount --bind {hosts} /etc/hosts && hostname {name} && "
        f"read network && exec {java.command} -Xmx600m -XX:+UseSerialGC {QUICK_START} -Duser.timezone=UTC -jar {jar} "
        f"-ice_root {place / 'scratch'} -log_dir {place / 'logs'} -nthreads 1"
    )
    log = place / "output.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["unshare", *OWN, "--uts", "sh", "-c", prepare],
            stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, text=True,
            env={**plain_environment(settings), "DO_NOT_TRACK": "1", **environment},
        )  # fmt: skip
    with _stopped_at_the_end(process):
        _plug_in(process.pid, number)
        assert process.stdin is not None
        process.stdin.write("ready\n")
        process.stdin.close()
        yield Pod(number, process, log)


def _plug_in(pid: int, number: int) -> None:
    """Connect the namespace of a process to the bridge."""
    cable, inside = f"v{number}", ["nsenter", f"--target={pid}", "--net"]
    own = Path("/proc/self/ns/net").readlink()
    while Path(f"/proc/{pid}/ns/net").readlink() == own:  # until it has unshared
        time.sleep(0.02)
    for command in (
        f"ip link add {cable} type veth peer name eth0 netns {pid}".split(),
        f"ip link set {cable} master h2o-pods up".split(),
        [*inside, *["ip", "link", "set", "lo", "up"]],
        [*inside, *f"ip addr add {address_of(number)}/24 dev eth0".split()],
        [*inside, *["ip", "link", "set", "eth0", "up"]],
        [*inside, *f"ip route add default via {GATEWAY}".split()],
    ):
        subprocess.run(command, check=True)


@contextlib.contextmanager
def _stopped_at_the_end(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _await_port(server: subprocess.Popen[str], host: str, port: int) -> None:
    while server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{server.args!r} ended with exit code {server.returncode}")
