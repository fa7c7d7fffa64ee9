"""Which releases the hosts would get, as far as that can be told at once; for the gate of a preflight."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fleet.errors import FleetError
from fleet.image import lock as locks
from fleet.image.machine import Here
from fleet.image.produce import known
from fleet.image.release import Release
from fleet.image.store import Store
from fleet.image.strategy import decided
from fleet.image.workshop import Workshop
from fleet.inventory.model import Host, Inventory
from fleet.rollout.imageorders import Order, declared_gfx, orders

PATIENCE = 5.0  # seconds for registries, while the hosts are being asked; a gate is better late than a preflight


class KnownReleases:
    """Looks releases up beside the probes, and never longer than PATIENCE. What is not known in time is a note."""

    def __init__(self, inventory: Inventory, hosts: Sequence[Host], root: Path, *, patience: float = PATIENCE) -> None:
        self._inventory, self._root, self._patience = inventory, root, patience
        self._deadline = time.monotonic() + patience
        self._found: dict[str, dict[str, Release]] = {}
        self._notes: dict[str, str] = {}
        self._done: list[tuple[Order, threading.Event]] = []
        try:
            self._orders: tuple[Order, ...] = orders(hosts)
            self._lock = locks.read(inventory.lock_path)
        except FleetError as error:
            self._orders = ()
            self._notes["inventory"] = f"{error}; the gate goes by what the inventory says of images"
        for order in self._orders:
            event = threading.Event()
            self._done.append((order, event))
            # A daemon, so that a registry that says nothing does not hold up the end of the program either.
            threading.Thread(target=self._find, args=(order, event), daemon=True).start()

    def of(self, host: Host) -> Mapping[str, Release]:
        """A host's releases by service, those that are known; waits for the lookups that concern it."""
        for order, event in self._done:
            if any(name == host.name for name, _ in order.wanted_by) and not event.wait(
                max(self._deadline - time.monotonic(), 0)
            ):
                self._note(order, f"not found out in {self._patience:g} s")
        return dict(self._found.get(host.name, {}))

    @property
    def notes(self) -> tuple[str, ...]:
        """Why the gate went without some release, once for each."""
        return tuple(dict.fromkeys(self._notes.values()))

    def _find(self, order: Order, done: threading.Event) -> None:
        workshop = Workshop(Store(self._root), Here(), order.registry, lambda _line: None, registries=order.registries)
        try:
            gfx = declared_gfx(self._inventory)
            image = decided(order.image, self._lock, gfx)
            if image is None:
                self._note(order, "its strategy has not been decided yet")
                return
            release = known(image, workshop, self._lock, gfx=gfx)
        except (FleetError, OSError) as error:
            self._note(order, str(error))
        else:
            if release is None:
                self._note(order, "not made yet, or not by this controller")
            else:
                for host, service in order.wanted_by:
                    self._found.setdefault(host, {})[service] = release
        finally:
            done.set()

    def _note(self, order: Order, why: str) -> None:
        text = f"release of {order.image.name}: {why}; the gate goes by what the inventory says of it"
        self._notes.setdefault(repr(order), text)
