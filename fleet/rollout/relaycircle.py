"""A group of hosts under way with its relay, what is undone of it, and what a relay runs with and is entered by."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

import bcrypt

from fleet.delivery.plan import Step
from fleet.delivery.relay import USER, Access, StopRelay, configuration
from fleet.delivery.site_ca import SiteCa
from fleet.errors import HostError
from fleet.inventory.settings import Registry
from fleet.rollout.relays import Group, Post
from fleet.rollout.site import Site
from fleet.secret import Secret

PATIENCE = 30.0  # seconds for a step that is under way at the end
ROUNDS = 6  # of the password's hash: it is random, and every request costs one check


@dataclass(frozen=True)
class Up:
    """A relay that serves. `count` tells one that was started again from what it was before."""

    post: Post
    registry: Registry
    access: Access
    count: int = 1


@dataclass
class Circle:
    """A group over the stages of a play. `waiting` are its hosts that do not have yet what the stage brings, `stocked` says that
    the relay's store has it, `again` are relays that were started a second time. `lock` is held while its relay changes.
    """

    group: Group
    waiting: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    up: Up | None = None
    stocked: bool = False
    failed: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)


class Traces:
    """What relays have made on hosts and is undone at the end; after that nothing more is made.

    After Ctrl-C the threads of a run go on while their work is undone, so on each host only one of the two goes at a time.
    """

    def __init__(self) -> None:
        self.over = False
        self._late: dict[str, list[Step]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    @contextmanager
    def making(self, host: str, undo: Step | None) -> Iterator[None]:
        """While something is made that `undo` will end. Raises HostError once the end has begun."""
        with self._lock(host):
            with self._guard:
                if self.over:
                    raise HostError(host, "the run is at its end")
                steps = self._late.setdefault(host, [])
                if undo is not None and undo not in steps:
                    steps.append(undo)
            yield

    def close(self) -> dict[str, list[Step]]:
        """The end begins; by host, what is to be undone."""
        with self._guard:
            self.over = True
            return {host: steps for host, steps in self._late.items() if steps}

    @contextmanager
    def ending(self, host: str) -> Iterator[None]:
        """While something is undone: what is being made there is waited for, but not for ever."""
        lock = self._lock(host)
        held = lock.acquire(timeout=PATIENCE)
        try:
            yield
        finally:
            if held:
                lock.release()

    def _lock(self, host: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(host, threading.Lock())


@dataclass
class Standing:
    """Relays from the first stage of a play that needs one to the last. `taken` are hosts that serve or were tried, `served`
    those that were relays.
    """

    traces: Traces = field(default_factory=Traces)
    circles: dict[str, Circle] = field(default_factory=dict)  # by the group's key
    taken: set[str] = field(default_factory=set)
    served: set[str] = field(default_factory=set)

    def circle(self, group: Group, waiting: set[str]) -> Circle:
        """The group as the next stage begins with it: its relay serves on, and has to get what that stage brings."""
        circle = self.circles.setdefault(group.key, Circle(group))
        circle.group, circle.waiting, circle.stocked = group, waiting, False
        return circle

    def own(self, site: Site) -> Site:
        """A host as it was looked at meanwhile: what is there of a relay of ours is no leftover."""
        if site.host.name not in self.served:
            return site
        steps = tuple(step for step in site.plan.images if not isinstance(step, StopRelay))
        return replace(site, plan=replace(site.plan, images=steps))


def admit(place: Post, ca: SiteCa, now: datetime) -> Up:
    """A certificate and a password for one run. Raises FleetError."""
    certificate, key = ca.server(place.address, now)
    password = secrets.token_urlsafe(32)
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()
    registry = Registry(
        place.registry,
        ca_file=str(ca.certificate),
        username=Secret("relay.username", literal=USER),
        password=Secret("relay.password", literal=password),
    )
    files = {
        "config.yml": configuration(place.registry, secrets.token_hex(16)),
        "htpasswd": f"{USER}:{hashed}\n".encode(),
        "server.crt": certificate,
        "server.key": key,
    }
    return Up(place, registry, Access(registry, files))
