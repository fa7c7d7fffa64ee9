"""A group of hosts under way with its relay, what is undone of it, and what a relay runs with and is entered by."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import bcrypt

from fleet.delivery.plan import Step
from fleet.delivery.relay import USER, Access, configuration
from fleet.delivery.site_ca import SiteCa
from fleet.errors import HostError
from fleet.inventory.settings import Registry
from fleet.rollout.relays import Group, Post
from fleet.secret import Secret

PATIENCE = 30.0  # seconds for a step that is under way at the end
ROUNDS = 6  # of the password's hash: it is random, and every request costs one check


@dataclass(frozen=True)
class Up:
    """A relay that serves."""

    post: Post
    registry: Registry


@dataclass
class Circle:
    """`waiting` are the hosts of the group that do not have their images yet. `lock` is held while its relay changes."""

    group: Group
    waiting: set[str]
    lock: threading.Lock = field(default_factory=threading.Lock)
    up: Up | None = None
    failed: set[str] = field(default_factory=set)


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


def admit(place: Post, ca: SiteCa, now: datetime) -> tuple[Up, Access]:
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
    return Up(place, registry), Access(registry, files)
