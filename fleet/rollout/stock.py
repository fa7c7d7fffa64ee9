"""What a run has of images: found or made, for whom, and where each can be had."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleet.delivery.depot import Depot
from fleet.delivery.progress import Moving
from fleet.image import lock as locks
from fleet.image.release import Release
from fleet.image.store import Store
from fleet.image.workshop import Outlook, Produced, Workshop
from fleet.inventory.settings import Registry
from fleet.rollout.imageorders import Order
from fleet.rollout.publish import publish as publish_release


@dataclass(frozen=True)
class Found:
    """What an image of the inventory comes to. `release` is None where it has yet to be made; `why` says so.

    `avoided` is the content key that it would have by now, where that one was to be avoided.
    """

    image: str
    key: str
    release: Release | None
    registry: Registry | None  # where hosts pull it from, None where none does
    why: str
    avoided: str = ""


@dataclass
class Stock:
    """What was found or made. `releases` go by host and service; `changes` tell what was made or pushed.

    `records`, by host and content key, are for the hosts to keep, because no registry of ours does.
    """

    store: Store
    releases: dict[str, dict[str, Release]] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: dict[str, dict[str, Release]] = field(default_factory=dict)
    workshops: dict[str, Workshop] = field(default_factory=dict)  # release id -> where its layout can be had
    depots: dict[str, Depot] = field(default_factory=dict)  # release id -> where its builder hands it out
    left_out: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by release id, layers that no store has
    relays: dict[str, Release] = field(default_factory=dict)  # by host that may be a relay, the registry's image
    found: list[Found] = field(default_factory=list)  # the images of services, in the inventory's order
    lock: locks.Lock = field(default_factory=locks.Lock)  # with all that was resolved

    @property
    def origins(self) -> dict[str, str]:
        """By release id, the registry or the builder that its layout would have to be fetched from, because it is not here."""
        releases = {one.id: one for of_host in self.releases.values() for one in of_host.values()}
        missing = {name for name, one in releases.items() if self.store.layout(one) is None}
        builders = {name: self.depots[name].name for name in missing & set(self.depots)}
        registries = {
            name: one.registry.host for name, one in self.workshops.items() if name in missing and one.registry
        }
        return {**registries, **builders}

    @classmethod
    def empty(cls) -> "Stock":
        return cls(Store(Path()))


def take_in(stock: Stock, order: Order, produced: Produced | Outlook, release: Release, workshop: Workshop) -> None:
    """Give the release to everybody who asked for it, and its record to the hosts where no registry of ours has it."""
    if isinstance(produced, Produced) and produced.changes:
        stock.changes.append(f"made {release.local_name}: {produced.why}")
    else:
        stock.notes.append(f"{release.local_name}: {produced.why}")
    stock.workshops[release.id] = workshop
    for host, service in order.wanted_by:
        if not service:
            stock.relays[host] = release
            continue
        stock.releases.setdefault(host, {})[service] = release
        if order.registry is None or not order.published:
            stock.records.setdefault(host, {})[produced.key] = release


def push_missing(
    stock: Stock,
    order: Order,
    registry: Registry,
    produced: Produced | Outlook,
    workshop: Workshop,
    *,
    dry: bool,
    moving: Moving,
) -> None:
    """See that the order's hosts can pull its release; where the registry takes no record, they keep it."""
    if produced.release is None:
        return
    done = publish_release(produced.release, produced.key, registry, workshop, dry=dry, moving=moving)
    stock.changes += done.changes
    stock.notes += [one for one in done.notes if one not in stock.notes]
    for host, service in order.wanted_by:
        if service and not done.recorded:
            stock.records.setdefault(host, {})[produced.key] = produced.release
