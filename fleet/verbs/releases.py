"""`releases`: what each host runs, ran, and can go back to; what one release is, and what two have otherwise."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from fleet.errors import FleetError, HostError, UsageError
from fleet.image.between import between
from fleet.image.registry_shelf import ShelfClient
from fleet.image.release import Release
from fleet.inventory import load, select
from fleet.inventory.model import Host, Inventory
from fleet.options import Options
from fleet.prune import registry
from fleet.prune.registry import Shelf
from fleet.prune.wanted import ASKED, wanted_by
from fleet.report import catalogue as catalogue_report
from fleet.report import errors, terminal
from fleet.report import release as one_report
from fleet.report import releases as report
from fleet.rollout.catalogue import Entry, catalogue
from fleet.rollout.compare import differences, layers
from fleet.rollout.goback import cached, named, pasts
from fleet.rollout.imageorders import orders
from fleet.rollout.images import registry_of
from fleet.rollout.past import Past
from fleet.verbs.common import ROOT, connected, inventory_and_hosts, selected, serving


def show_releases(options: Options, services: frozenset[str], *, history: bool) -> int:
    """The releases of these services (all where empty) that hosts, registries and this controller tell of.

    `history`: only what each host runs and ran, as it remembers, and what it would go back to. Changes nothing.
    """
    inventory, chosen = inventory_and_hosts(options)
    hosts = serving(chosen)
    missing = sorted(services - {name for host in hosts for name in host.settings.services})
    if missing:
        raise UsageError(f"no selected host has a service {', '.join(missing)}")
    with connected(options) as connector:
        found, failed = pasts(hosts, connector, ROOT, forks=options.forks)
    known = cached(ROOT)
    entries: tuple[Entry, ...] = ()
    notes: list[str] = []
    if not history:
        mine = [_only(host, services) for host in hosts]
        shelves, down = _shelves(mine)
        failed |= down
        asked = _asked(inventory, [host for host in mine if not _behind(host, down)], notes)
        entries = catalogue(shelves, found, known, asked)
        names = {order.image.name for order in orders(mine)}
        entries = tuple(one for one in entries if not services or one.release is None or one.release.name in names)
    rows_of = {
        host.name: report.rows(
            found[host.name], [name for name in host.settings.services if not services or name in services], known
        )
        for host in hosts
        if host.name in found
    }
    if options.json:
        whole = {} if history else {"releases": catalogue_report.document(entries), "notes": notes}
        terminal.show_json({**whole, "hosts": report.document(rows_of), "failed": errors.document(failed)})
    else:
        if history:
            report.show(rows_of)
        else:
            catalogue_report.show(entries, notes)
        terminal.show_failures(failed)
    return 1 if failed else 0


def _only(host: Host, services: frozenset[str]) -> Host:
    """The host with these services, all where empty."""
    kept = {name: one for name, one in host.settings.services.items() if not services or name in services}
    return replace(host, settings=replace(host.settings, services=kept))


def _shelves(hosts: Sequence[Host]) -> tuple[list[Shelf], dict[str, HostError]]:
    """Every repository that the hosts pull from, and the registries that did not answer."""
    wanted = {
        (order.registry.host, order.image.name): order.registry
        for order in orders(hosts)
        if order.registry is not None and order.published
    }
    shelves: list[Shelf] = []
    down: dict[str, HostError] = {}
    for (host, name), one in wanted.items():
        told = f"registry {host}"
        if told in down:
            continue
        try:
            with ShelfClient(one) as client:
                shelves.append(registry.read(client, host, name))
        except FleetError as error:
            down[told] = HostError(told, error.message, hint=error.hint)
    return shelves, down


def _behind(host: Host, down: Collection[str]) -> bool:
    """What such a host should run is told by a registry that does not answer."""
    used = (registry_of(host.settings, one) for one in host.settings.services.values())
    return any(f"registry {one.host}" in down for one in used if one is not None)


def _asked(inventory: Inventory, hosts: Sequence[Host], notes: list[str]) -> list[str]:
    wanted = wanted_by(inventory, hosts, ROOT, notes.append)
    return [name for name, why in wanted.items() if why == ASKED]


def show_release(options: Options, text: str) -> int:
    """What one release is, and which of the hosts hold, run or ran it. Changes nothing."""
    (release,), found, failed = known_releases(options, (text,))
    where = one_report.places(release, found)
    if options.json:
        terminal.show_json({**one_report.document(release, where), "failed": errors.document(failed)})
    else:
        one_report.show(release, where)
        terminal.show_failures(failed)
    return 1 if failed else 0


def diff_releases(options: Options, before: str, after: str) -> int:
    """What the second release has otherwise than the first, by their records and the repository's history."""
    (old, new), _, failed = known_releases(options, (before, after))
    found, told = differences(old, new), layers(old, new)
    images = [order.image for order in orders(serving(select(load(options.inventory), options.limit)))]
    past = between(old, new, [image.source for image in images if image.source is not None], ROOT)
    if options.json:
        document = one_report.difference_document(old, new, found, told, past)
        terminal.show_json({**document, "failed": errors.document(failed)})
    else:
        one_report.show_difference(old, new, found, told, past)
        terminal.show_failures(failed)
    return 1 if failed else 0


def known_releases(
    options: Options, texts: Sequence[str]
) -> tuple[tuple[Release, ...], dict[str, Past], dict[str, HostError]]:
    """The releases that these words mean, to the hosts or to this controller, else to the registries. Raises UsageError."""
    hosts = serving(selected(options))
    with connected(options) as connector:
        found, failed = pasts(hosts, connector, ROOT, forks=options.forks)
    releases = {**cached(ROOT), **{name: one for past in found.values() for name, one in past.releases.items()}}
    try:
        return tuple(named(text, releases) for text in texts), found, failed
    except UsageError:
        shelves, down = _shelves(hosts)
        more = {release.id: release for shelf in shelves for release in shelf.records.values()}
    try:
        return tuple(named(text, {**more, **releases}) for text in texts), found, failed
    except UsageError:
        terminal.show_failures({**failed, **down})  # one of them may be the one that knows
        raise
