"""Which releases somebody elsewhere needs: what the inventory asks for now, and what was good last."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fleet.errors import FleetError
from fleet.image import lock as locks
from fleet.image.machine import Here
from fleet.image.produce import known
from fleet.image.registry_api import RegistryClient
from fleet.image.store import Store
from fleet.image.strategy import decided
from fleet.image.workshop import Workshop
from fleet.inventory.model import Host, Inventory
from fleet.rollout.imageorders import declared_gfx, orders

ASKED = "the inventory asks for it"
LAST_GOOD = "last-good"  # the registry's tag that moves at the end of a good night


def wanted_by(inventory: Inventory, hosts: Sequence[Host], root: Path, note: Callable[[str], None]) -> dict[str, str]:
    """Release id -> why. What could not be found out is noted: what runs and the newest stay in any case.

    The lock is what was good last, so what the inventory means by it is last-good without a registry too.
    """
    found: dict[str, str] = {}
    lock, gfx = locks.read(inventory.lock_path), declared_gfx(inventory)
    for order in orders(host for host in hosts if host.settings.services):
        workshop = Workshop(Store(root), Here(), order.registry, lambda _line: None, registries=order.registries)
        try:
            image = decided(order.image, lock, gfx)
            if image is None:
                note(f"what the inventory means by image {order.image.name} has not been decided: invoke build")
            release = known(image, workshop, lock, gfx=gfx) if image is not None else None
            if release is not None:
                found.setdefault(release.id, ASKED)
            if order.registry is not None:
                with RegistryClient(order.registry) as client:
                    digest = client.digest(order.image.name, LAST_GOOD)
                if digest:
                    found.setdefault(digest.removeprefix("sha256:")[:12], f"{LAST_GOOD} in {order.registry.host}")
        except (FleetError, OSError) as error:
            note(f"what the inventory means by image {order.image.name} is not known: {error}")
    return found
