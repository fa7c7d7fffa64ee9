"""`image.strategy: auto` over the hosts of an inventory: the facts are asked for where they are, the choice is locked."""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.errors import FleetError, HostError
from fleet.facts import collect
from fleet.image.candidates import ask
from fleet.image.lock import Lock
from fleet.image.strategy import AUTO, Choice, Known, choose, decided, key_of, narrowed
from fleet.image.workshop import Workshop
from fleet.inventory.model import Host
from fleet.inventory.settings import Image
from fleet.preflight import needs_of
from fleet.transport import Connector, fan_out

FORKS = 32  # hosts that are asked for their driver at once


@dataclass(frozen=True)
class Explained:
    """Why an image is had the way it is. `locked` is what the lock says, "" where it says nothing.

    `choice` None: the inventory itself names the one way there is.
    """

    image: Image
    locked: str
    choice: Choice | None


def settle(
    image: Image, hosts: Sequence[Host], gfx: tuple[str, ...], connector: Connector, workshop: Workshop, lock: Lock
) -> tuple[Image, Lock, str]:
    """The image with one way to it, the lock with that choice, and why where it was made just now.

    What the lock has is taken, unless the workshop updates. `hosts` are all of the inventory that want the image, `gfx`
    all that it declares. Raises FleetError where nothing fits.
    """
    before = None if workshop.update and image.strategy == AUTO else decided(image, lock, gfx)
    if before is not None:
        return before, lock, ""
    choice = weigh(image, hosts, gfx, connector, workshop, lock)
    if not choice.kind:
        raise FleetError(f"image {image.name}: {choice.why}", hint="invoke build --explain")
    return narrowed(image, choice.kind), lock.with_choice(key_of(image, gfx), choice.kind), choice.why


def weigh(
    image: Image,
    hosts: Sequence[Host],
    gfx: tuple[str, ...],
    connector: Connector,
    workshop: Workshop,
    lock: Lock,
    *,
    everything: bool = False,
) -> Choice:
    """The choice by what is so now. Changes nothing on any host; `everything` asks also what would not be needed."""
    known = Known(
        gfx,
        drivers=_drivers(hosts, connector),
        sideloaded=tuple(host.name for host in hosts if host.settings.delivery == "sideload"),
        before=lock.choice(key_of(image, gfx)),
    )
    return choose(image, ask(image, workshop, lock, known, everything=everything))


def _drivers(hosts: Sequence[Host], connector: Connector) -> dict[str, str]:
    """Versions of the loaded driver by host; "" for a host that does not answer, or whose driver has none of its own."""

    def version(host: Host) -> str:
        with connector.visiting(host) as session:
            return collect(session, needs_of(host, None, 0.0)).driver.version or ""

    found = fan_out(tuple(hosts), version, forks=FORKS)
    return {name: "" if isinstance(one, HostError) else one for name, one in found.items()}
