"""Where the host itself reaches a replica: loopback, unless it was bound to one address only. Pure."""

import itertools
from collections.abc import Sequence

from fleet.inventory.settings import Service

LOOPBACK = "127.0.0.1"
_EVERYWHERE = frozenset({"", "0.0.0.0", "::", "localhost"})  # noqa: S104  compared with, not bound to


def address_of(service: Service | None) -> str:
    """Of a replica that is made by the inventory's words."""
    return LOOPBACK if service is None else _reached(service.host, service.network)


def address_in(words: Sequence[str], network: str) -> str:
    """Of a container by its own command line, which may be older than the inventory."""
    bound = next((word for before, word in itertools.pairwise(words) if before == "--host"), "")
    return _reached(bound, network)


def _reached(bound: str, network: str) -> str:
    """In a network of its own a container's port is published, whatever it binds to inside."""
    return LOOPBACK if bound in _EVERYWHERE or network != "host" else bound
