"""Ask every host once: connect, probe, and give back facts, a judgement, or the reason why there is none.

A run (fleet.rollout.site.look) reads a host in the same way and goes on to plan; here nothing is planned, and a host
whose release nobody knows yet costs one round trip.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from fleet.delivery.progress import STALL
from fleet.engine import docker_client
from fleet.errors import HostError
from fleet.facts import Facts
from fleet.image.release import Release
from fleet.inventory.model import Host
from fleet.preflight import Finding, check, needs_of
from fleet.rollout.images import weight
from fleet.rollout.site import Wishes, image_steps
from fleet.settled import settled
from fleet.transport import Connector, Session, fan_out

T = TypeVar("T")
Releases = Callable[[Host], Mapping[str, Release]]  # a host's releases by service; only those that are known


@dataclass(frozen=True)
class Answer:
    """What one host said, and the judgement on it."""

    facts: Facts
    findings: tuple[Finding, ...]


def nothing_known(_host: Host) -> Mapping[str, Release]:
    return {}


def each(
    hosts: Iterable[Host],
    connector: Connector,
    ask: Callable[[Session], T],
    *,
    forks: int,
    on_done: Callable[[str], None] = lambda _host: None,
) -> dict[str, T | HostError]:
    """One question to each host, at most `forks` at once. One bad host never spoils the others."""

    def visit(host: Host) -> T:
        session = connector.connect(host)
        try:
            return ask(session)
        finally:
            session.close()

    return fan_out(tuple(hosts), visit, forks=forks, on_done=lambda host, _result: on_done(host.name))


def look(session: Session, releases: Releases = nothing_known) -> Answer:
    """Facts and findings of one host. The gate goes by the releases that are known, else by what the inventory says."""
    host = session.host
    facts, now = settled(session, needs_of(host, None, time.time()))
    image = None
    known = releases(host)
    if known and facts.docker.state == "running":
        client = docker_client(session, timeout=STALL)
        image = weight(known, image_steps(session, client, facts, known, Wishes()))
    return Answer(facts, check(facts, needs_of(host, image, now)))
