"""A group of hosts under way with its relay, and what a relay runs with and is entered by."""

import secrets
import threading
from dataclasses import dataclass, field
from datetime import datetime

import bcrypt

from fleet.delivery.relay import USER, Access, configuration
from fleet.delivery.site_ca import SiteCa
from fleet.inventory.settings import Registry
from fleet.rollout.relays import Group, Post
from fleet.secret import Secret

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
