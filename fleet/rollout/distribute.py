"""Bringing the images to the hosts: side by side, a registry's pulls bounded, every host for itself."""

import threading
from collections.abc import Iterable, Mapping

from fleet.delivery.execute import Way, carry_out
from fleet.delivery.progress import STALL
from fleet.engine import docker_client
from fleet.image.layout import LayoutImage, read
from fleet.image.release import Release
from fleet.image.workshop import ensure_layout
from fleet.inventory.model import Host
from fleet.inventory.settings import Registry
from fleet.rollout.audit import of_images
from fleet.rollout.images import pulls_from
from fleet.rollout.records import leave
from fleet.rollout.releases import Stock
from fleet.rollout.run import Outcome, Run, going, note, site_of
from fleet.rollout.site import Site
from fleet.transport import fan_out

# An engine with the containerd store (26.1) unpacks a loaded image without a word; a ROCm image takes it minutes.
UNPACK = 1800.0  # seconds


def distribute(run: Run, outcomes: Mapping[str, Outcome], stock: Stock) -> None:
    """Bring the images to every host that is ready for them, side by side, a registry's pulls bounded."""
    chosen = [one for one in going(outcomes) if any(step.changes for step in site_of(one).plan.images)]
    slots = slots_of(registries_of(site_of(one).host, run.wishes.releases).values() for one in chosen)
    layouts = threading.Lock()

    def bring(host: Host) -> int:
        site = site_of(outcomes[host.name])
        for step in site.plan.images:
            if step.changes and not step.size:  # what has a size is told as its bytes move
                run.say(host.name, step.what)
        return carry_out(site.plan.images, _way(run, site, stock, slots, layouts))

    for name, result in fan_out([site_of(one).host for one in chosen], bring, forks=run.forks).items():
        outcomes[name].deeds += of_images(site_of(outcomes[name]), result)
        note(outcomes[name], result)
    leave(run, outcomes, stock.records)


def slots_of(registries: Iterable[Iterable[Registry]]) -> dict[str, threading.Semaphore]:
    """One bound on pulls for each registry, the smallest that any host's settings name."""
    most: dict[str, int] = {}
    for of_host in registries:
        for registry in of_host:
            most[registry.host] = min(most.get(registry.host, registry.parallel_pulls), registry.parallel_pulls)
    return {host: threading.Semaphore(max(number, 1)) for host, number in most.items()}


def registries_of(host: Host, releases: Mapping[str, Mapping[str, Release]]) -> dict[str, Registry]:
    """The registry of every repository that a host pulls from, and by it the credentials and the CA of each pull."""
    found: dict[str, Registry] = {}
    for name, release in releases.get(host.name, {}).items():
        registry = pulls_from(host.settings, host.settings.services[name])
        if registry is not None:
            found.setdefault(f"{registry.host}/{release.name}", registry)
    return found


def _way(run: Run, site: Site, stock: Stock, slots: Mapping[str, threading.Semaphore], layouts: threading.Lock) -> Way:
    def layout(name: str) -> LayoutImage:
        release = next(one for one in run.wishes.releases[site.host.name].values() if one.local_name == name)
        with layouts:  # two hosts that want the same layout fetch it once
            if stock.store.layout(release) is None:
                run.say(site.host.name, f"fetching {name} to this controller first")
            ensure_layout(stock.workshops[release.id], release)
        return read(stock.store.layout_path(release))

    return Way(
        site.host.name,
        site.session,
        site.client,
        registries=registries_of(site.host, run.wishes.releases),
        layout=layout,
        moving=run.moving,
        slot=slots.__getitem__,
        loader=docker_client(site.session, timeout=(STALL, UNPACK)),
        seam=run.seam,
    )
