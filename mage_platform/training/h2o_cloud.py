"""What an H2O cloud says of itself, and whether it is fit to train on.

H2O calls its cluster a cloud. Each node sends a heartbeat every second, and the leader tells in `/3/Cloud` when it
last heard each of them. A cloud can be less than it seems: nodes that did not find each other in time form clouds of
their own, all of them healthy; a dead node counts as healthy for a minute; and one that is restarted at its address
counts as healthy again, though its data is gone and jobs may wait for it for ever.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

NOTICED_SILENCE_SECONDS = 3.0


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Node(_Answer):
    """One node, as the leader knows it."""

    ip_port: str
    """Its address and port."""
    last_ping: int
    """When the leader last heard it: epoch milliseconds by the leader's clock."""
    healthy: bool
    """Heard within the last minute."""
    pid: int
    """Process id; in containers often the same after a restart."""
    num_keys: int
    """Objects it holds."""
    gflops: float
    """What it measured of itself; NaN in its first minutes."""


class Cloud(_Answer):
    """A cloud, as its leader tells it."""

    cloud_size: int
    cloud_healthy: bool
    consensus: bool
    """The nodes agree on who belongs to the cloud."""
    locked: bool
    """Work has begun, so no node can join any more."""
    cloud_uptime_millis: int
    """How long the leader's process has been up."""
    nodes: tuple[Node, ...]

    def silence_seconds(self, node: Node) -> float:
        """How much longer ago than the liveliest node the leader heard this one."""
        return (max(each.last_ping for each in self.nodes) - node.last_ping) / 1000


class NotLeader(Exception):
    """The node is not the leader of its cloud; only the leader answers."""


class LoginRefused(Exception):
    """The node asks for a login, and does not take the one it was given."""


class NoAnswer(Exception):
    """Nothing, or not H2O, answered.

    Args:
        reason: Why, in a few words.
        refused: True when nobody listens at the address.
    """

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


@dataclass(frozen=True)
class Judgement:
    """What the answers of a cluster's addresses amount to."""

    leader: str | None
    """Address of the leader of a whole cloud; None when there is no such cloud."""
    fault: str = ""
    """Otherwise: what is wrong."""
    final: bool = False
    """True when waiting cannot mend it."""


def ask(url: str, timeout_seconds: float, login: tuple[str, str] | None) -> Cloud:
    """What the cloud of one node says of itself.

    Args:
        url: Base address of the node.
        timeout_seconds: How long it may take.
        login: Name and password.

    Raises:
        LoginRefused: The node does not take the login, or asks for one and was given none.
        NotLeader: The node is not the leader.
        NoAnswer: Nothing answered in time, or something else than H2O.
    """
    try:
        # A proxy of the environment is for addresses outside.
        answer = httpx.get(f"{url}/3/Cloud", timeout=timeout_seconds, trust_env=False, auth=login)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise LoginRefused
        if answer.status_code == httpx.codes.FORBIDDEN and "non-leader" in answer.text:
            raise NotLeader
        return Cloud.model_validate_json(answer.content)
    except httpx.TimeoutException as error:
        raise NoAnswer(f"no answer within {timeout_seconds:g} s") from error
    except httpx.HTTPError as error:
        raise NoAnswer(str(error) or type(error).__name__, refused=_is_refusal(error)) from error
    except ValidationError as error:
        raise NoAnswer(f"HTTP {answer.status_code}, and not as H2O answers") from error


def _is_refusal(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ConnectionRefusedError):
        error = error.__cause__ or error.__context__
    return error is not None


def addresses(host: str, port: int) -> list[str]:
    """Base addresses behind a name, sorted: one for each node when it is a headless Service.

    Raises:
        NoAnswer: The name is not known.
    """
    try:
        found = socket.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NoAnswer(f"the name {host} is not known: {error.strerror or error}") from error
    hosts = sorted({str(entry[4][0]) for entry in found})
    return [f"http://{each}:{port}" for each in (hosts if len(hosts) > 1 else [host])]


def judge(answers: Mapping[str, Cloud | NotLeader | NoAnswer], nodes: int, silence_limit_seconds: float) -> Judgement:
    """Whether one of the answering nodes leads a whole cloud. Pure: everything it depends on is an argument.

    Args:
        answers: What each address answered.
        nodes: How many nodes a whole cloud has.
        silence_limit_seconds: How long a node may be silent.
    """
    clouds = {url: answer for url, answer in answers.items() if isinstance(answer, Cloud)}
    faults = {url: fault_of(cloud, nodes, silence_limit_seconds) for url, cloud in clouds.items()}
    whole = [url for url, fault in faults.items() if fault is None]
    if len(whole) == 1:
        return Judgement(whole[0])
    if len(clouds) > 1:
        sizes = ", ".join(f"{cloud.cloud_size} at {url}" for url, cloud in clouds.items())
        return Judgement(None, f"it is split into {len(clouds)} clouds in place of one of {nodes} nodes ({sizes})")
    for url, cloud in clouds.items():
        too_small_for_ever = cloud.locked and cloud.cloud_size < nodes
        return Judgement(None, str(faults[url]), final=too_small_for_ever or cloud.cloud_size > nodes)
    if any(isinstance(answer, NotLeader) for answer in answers.values()):
        return Judgement(None, "only nodes that are not the leader answered, and they answer nothing else")
    reasons = [f"{url}: {answer}" for url, answer in answers.items()]
    return Judgement(None, f"it does not answer ({'; '.join(reasons)})")


def fault_of(cloud: Cloud, nodes: int, silence_limit_seconds: float) -> str | None:
    """What is wrong with a cloud, or None when all its nodes are there and alive."""
    if cloud.cloud_size > nodes:
        return f"it has {cloud.cloud_size} nodes, and {nodes} expected"
    if cloud.cloud_size < nodes:
        locked = ", and is locked: no node can join any more" if cloud.locked else ""
        return f"it has {cloud.cloud_size} of {nodes} nodes{locked}"
    silent = [
        f"{node.ip_port} silent for {cloud.silence_seconds(node):.0f} s"
        for node in cloud.nodes
        if cloud.silence_seconds(node) > silence_limit_seconds or not node.healthy
    ]
    if silent:
        return f"it has lost {len(silent)} of its {nodes} nodes ({', '.join(silent)})"
    if not cloud.cloud_healthy:
        return f"its {nodes} nodes are not healthy"
    return None if cloud.consensus else f"its {nodes} nodes do not agree yet on who belongs to the cloud"


def change_of(earlier: Sequence[Cloud], now: Cloud) -> str | None:
    """What makes a cloud another one than it was, though it looks whole; None when it is the same.

    A node that was restarted is known by a new process id, by a measure of itself that is gone, or by having lost
    most of its objects after it was silent.

    Args:
        earlier: What it said of itself in the last half minute, oldest first.
        now: What it says now.
    """
    restarted = set()
    for before in earlier:
        if now.cloud_uptime_millis < before.cloud_uptime_millis:
            return "its leader was restarted"
        known = {node.ip_port: node for node in before.nodes}
        if known.keys() != {node.ip_port for node in now.nodes}:
            return f"its nodes are others than before ({', '.join(node.ip_port for node in now.nodes)})"
        restarted |= {node.ip_port for node in now.nodes if _restarted(before, known[node.ip_port], node)}
    return f"{', '.join(sorted(restarted))} was restarted and has lost its data" if restarted else None


def _restarted(cloud: Cloud, before: Node, now: Node) -> bool:
    measure_gone = math.isnan(now.gflops) and not math.isnan(before.gflops)
    emptied = 2 * now.num_keys < before.num_keys
    was_silent = cloud.silence_seconds(before) >= NOTICED_SILENCE_SECONDS
    return before.pid != now.pid or measure_gone or (emptied and was_silent)
