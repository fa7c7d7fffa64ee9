"""Bringing the images to the hosts: side by side, a registry's pulls bounded, every host for itself."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fleet.delivery.from_builder import FromBuilder
from fleet.delivery.plan import Load, Step
from fleet.delivery.progress import STALL
from fleet.delivery.relay import Courier, Distrust, StopRelay
from fleet.delivery.throttle import Throttle, least
from fleet.delivery.way import Way
from fleet.delivery.workbench import FAILURES
from fleet.engine import docker_client
from fleet.errors import HostError, RefusedError
from fleet.image.layout import LayoutImage, read
from fleet.image.release import Release
from fleet.image.workshop import ensure_layout
from fleet.inventory.model import Host
from fleet.inventory.settings import Registry
from fleet.locks import LockedError
from fleet.rollout.audit import of_images
from fleet.rollout.claims import Claims
from fleet.rollout.images import pulls_from
from fleet.rollout.records import leave
from fleet.rollout.relaycircle import Standing
from fleet.rollout.relayed import Pulls
from fleet.rollout.relaying import Relays
from fleet.rollout.relayplan import Images
from fleet.rollout.relaystart import standing, undo
from fleet.rollout.run import Outcome, Run, going, note, site_of
from fleet.rollout.stock import Stock
from fleet.transport import fan_out
from fleet.transport.openssh import Bulk, bulk

PAUSE = 3.0  # seconds between two tries, doubled each time
LONGEST_PAUSE = 20.0


def distribute(
    run: Run,
    outcomes: Mapping[str, Outcome],
    stock: Stock,
    claims: Claims,
    everybody: Mapping[str, Outcome],
    relaying: Standing,
) -> None:
    """Bring the images to every host that is ready for them, side by side, a registry's pulls bounded.

    A host whose connection breaks in a sideload is connected and claimed anew. Any of `everybody` may be a relay, and
    `relaying` goes on; what earlier runs left of relays is removed at the end.
    """
    chosen = [one for one in going(outcomes) if any(step.changes for step in site_of(one).plan.images)]
    slots = slots_of(registries_of(site_of(one).host, run.wishes.releases).values() for one in chosen)
    throttle = Throttle(least(site_of(one).host.settings.sideload.limit for one in chosen))
    roads = Roads(run, stock, claims, slots, throttle, threading.Lock())
    done: dict[str, tuple[Step, ...]] = {}

    def bring(host: Host) -> int:
        outcome = outcomes[host.name]
        own = tuple(step for step in site_of(outcome).plan.images if not _is_left(step))
        for step in own:
            if step.changes and not step.size:  # what has a size is told as its bytes move
                run.say(host.name, step.what)
            if isinstance(step, Load) and step.detour and not site_of(outcome).plan.relayed:
                run.say(host.name, f"{step.name} comes {step.way}: {step.detour}")
        done[host.name] = pulls.bring(outcome, own, relays)
        return sum(step.changes for step in done[host.name])

    pulls, load = Pulls(run, roads.to), Images(everybody, run.wishes)
    relays = Relays(run, everybody, [one.host for one in chosen], claims, roads.to, load, relaying)
    hosts = [site_of(outcomes[name]).host for name in relays.first(one.host for one in chosen)]
    for name, result in fan_out(hosts, bring, forks=run.forks).items():
        outcomes[name].deeds += of_images(done.get(name, ()), result)
        note(outcomes[name], result)
    _remove_leftovers(chosen, run, roads.to, relaying)
    leave(run, outcomes, stock.records)


def _is_left(step: Step) -> bool:
    return isinstance(step, StopRelay | Distrust)


def _remove_leftovers(
    chosen: Collection[Outcome], run: Run, roads: Callable[[Outcome], Way], relaying: Standing
) -> None:
    """What an earlier run left of relays, behind everything else. A relay of this run has taken the place of one that was
    left, and goes with what else it made.
    """
    late = {
        one.host: steps
        for one in chosen
        if one.error is None and (steps := [step for step in relaying.own(site_of(one)).plan.images if _is_left(step)])
    }
    failed = undo(run, {one.host: one for one in chosen}, roads, relaying.traces, late)
    for one in chosen:
        if one.host in late:
            note(one, failed.get(one.host, len(late[one.host])))


@contextmanager
def relays_of(run: Run, everybody: Mapping[str, Outcome], stock: Stock, claims: Claims) -> Iterator[Standing]:
    """Relays for as many stages as this is open for; leaving it removes what they made."""
    roads = Roads(run, stock, claims, {}, Throttle(0), threading.Lock())
    with standing(run, everybody, roads.to) as made:
        yield made


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
            found.setdefault(release.in_registry(registry.host).name, registry)
    return found


@dataclass(frozen=True)
class Roads:
    """Makes the ways to the hosts of a run. `layouts` is held while one is fetched: two hosts fetch the same one once."""

    run: Run
    stock: Stock
    claims: Claims
    slots: Mapping[str, threading.Semaphore]
    throttle: Throttle
    layouts: threading.Lock

    def to(self, outcome: Outcome) -> Way:
        """The way over the connection that the host has."""
        site = site_of(outcome)
        way = bulk(site.host.connection, site.session.user)
        return Way(
            site.host.name,
            site.session,
            site.client,
            registries=registries_of(site.host, self.run.wishes.releases),
            layout=lambda name: self._layout(site.host.name, name),
            straight=lambda name: self._straight(site.host.name, name),
            moving=self.run.moving,
            slot=self.slots.__getitem__,
            seam=self.run.seam,
            staging_dir=site.host.settings.staging_dir,
            sideload=site.host.settings.sideload,
            throttle=self.throttle,
            say=lambda line: self.run.say(site.host.name, line),
            renew=lambda: self._anew(outcome),
            bulk=way if isinstance(way, Bulk) else None,
            no_bulk=way if isinstance(way, str) else "",
        )

    def _anew(self, outcome: Outcome) -> Way:
        """A new connection to the host, claimed like the one that broke. Raises HostError when there is none in time."""
        site = site_of(outcome)
        site.session.close()
        until, pause = time.monotonic() + site.host.settings.sideload.wait, PAUSE
        while True:
            try:
                session = self.run.connector.connect(site.host, anew=True)
                client = docker_client(session, timeout=STALL)
                self.claims.again(session)
            except (RefusedError, LockedError):
                raise
            except HostError:  # it boots, or its sshd or engine starts
                if time.monotonic() + pause > until:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                outcome.site = replace(site, session=session, client=client)
                return self.to(outcome)

    def _straight(self, host: str, name: str) -> tuple[LayoutImage, Courier | None]:
        release = self._release(name)
        try:
            depot = self.stock.depots[release.id]
            return depot.image(release), FromBuilder(depot, release, lambda: self._layout(host, name))
        except (*FAILURES, OSError) as error:
            self.run.say(host, f"{name} comes through this controller and not from its builder: {error}")
            return self._layout(host, name), None

    def _release(self, name: str) -> Release:
        known = (
            *self.run.wishes.relays.values(),
            *(one for of in self.run.wishes.releases.values() for one in of.values()),
        )
        return next(one for one in known if one.local_name == name)

    def _layout(self, host: str, name: str) -> LayoutImage:
        release = self._release(name)
        with self.layouts:
            if release.id in self.stock.left_out:  # the hosts have the rest, or they were left alone
                return read(self.stock.store.layout_path(release))
            if self.stock.store.layout(release) is None:
                self.run.say(host, f"fetching {name} to this controller first")
            ensure_layout(self.stock.workshops[release.id], release)
        return read(self.stock.store.layout_path(release))
