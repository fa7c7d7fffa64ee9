"""`verify`, `status` and `endpoints`: what runs, and whether it answers."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from fleet.errors import FleetError, HostError
from fleet.inventory.model import Host
from fleet.options import Options
from fleet.report import errors, outcomes, status, terminal
from fleet.rollout.looks import survey
from fleet.rollout.releases import obtain
from fleet.rollout.run import Outcome, Run, failures
from fleet.rollout.seen import remember
from fleet.rollout.site import Site, Wishes
from fleet.rollout.stock import Stock
from fleet.rollout.verdicts import judge, weighed
from fleet.serving.execute import prove
from fleet.serving.inspection import Inspection
from fleet.serving.status import Row, endpoints, file_sd, rows
from fleet.serving.verify import healthy
from fleet.transport import Connector, fan_out
from fleet.verbs import secrets
from fleet.verbs.common import ROOT, close, connected, inventory_and_hosts, narrator, serving, some


def verify(options: Options, *, load: float = 0.0, accept: bool = True) -> int:
    """Ask every replica that should run for a real answer and compare, changing nothing. `load` is in seconds.

    `accept`: what hosts that answer run on is right from here on, where it has changed.
    """
    return _verified(options, load, accept=accept)[0]


def unanswered(options: Options) -> dict[str, HostError]:
    """The same, told whole, and the hosts that fail it; nothing is accepted."""
    return failures(_verified(options, 0.0, accept=False)[1])


def _verified(options: Options, load: float, *, accept: bool) -> tuple[int, dict[str, Outcome]]:

    def compare(found: dict[str, Outcome]) -> None:
        judge(found, {}, lambda _host, _line: None)
        answered = [name for name, one in found.items() if one.error is None and one.proofs]
        remember(ROOT, found.values(), time.time(), accept=answered if accept else ())

    secrets.require(serving(inventory_and_hosts(options)[1]))
    return _told(options, _proving(options, load), show=outcomes.show_proofs, after=compare)


def measured(options: Options, *, load: float) -> dict[str, Outcome]:
    """The proofs of every replica, as `verify` takes them, for somebody who compares them."""
    return _reached(options, _proving(options, load))[0]


def _proving(options: Options, load: float) -> Callable[[Site, Outcome], None]:
    def work(site: Site, outcome: Outcome) -> None:
        context = site.context(ROOT, narrator(options).host)
        running = {one.name: one for one in site.containers() if one.alive}
        for service in site.host.settings.services.values():
            for number in range(service.replicas):
                name = f"{service.name}-{number}"
                if name not in running:
                    raise HostError(site.host.name, f"{name} does not run", hint="invoke deploy starts it")
                prove(name, service, service.port + number, context)
        outcome.proofs = weighed(site, context.proofs, context, load=load)
        outcome.kept = len(context.proofs)

    return work


def show_status(options: Options) -> int:
    """Every replica: state, release that really runs, age, health, GPUs, drift, orphans."""
    with connected(options) as connector:
        found, rows_of = _rows(options, connector)
    failed = failures(found)
    if options.json:
        hosts = {name: [row.to_json() for row in rows] for name, rows in rows_of.items()}
        terminal.show_json({"hosts": hosts, "failed": errors.document(failed)})
        return 1 if failed else 0
    status.show(rows_of)
    return close(options, found)


def show_endpoints(options: Options, *, prometheus: bool) -> int:
    """Every serving replica as JSON; `prometheus` gives file_sd instead."""
    with connected(options) as connector:
        found, rows_of = _rows(options, connector)
    addresses = {
        name: outcome.site.host.connection.address for name, outcome in found.items() if outcome.site is not None
    }
    terminal.show_json(file_sd(addresses, rows_of) if prometheus else endpoints(addresses, rows_of))
    failed = failures(found)
    terminal.show_failures(failed)
    return 1 if failed else 0


def _each(
    options: Options,
    work: Callable[[Site, Outcome], None],
    show: Callable[[dict[str, Outcome]], None] = lambda _found: None,
    after: Callable[[dict[str, Outcome]], None] = lambda _found: None,
) -> int:
    """Reach every serving host without asking for its image, do something there, and tell of it."""
    return _told(options, work, show, after)[0]


def _told(
    options: Options,
    work: Callable[[Site, Outcome], None],
    show: Callable[[dict[str, Outcome]], None],
    after: Callable[[dict[str, Outcome]], None],
) -> tuple[int, dict[str, Outcome]]:
    found, skipped = _reached(options, work)
    after(found)
    if options.json:
        terminal.show_json(outcomes.document(found, Stock.empty()))
    else:
        show(found)
    return close(options, found, skipped), found


def _reached(options: Options, work: Callable[[Site, Outcome], None]) -> tuple[dict[str, Outcome], list[str]]:
    """What came of it by host, and the hosts that serve nothing."""
    _, chosen = inventory_and_hosts(options)
    hosts = some(serving(chosen))
    with connected(options) as connector:
        run = Run(connector, Wishes(reveal=False), ROOT, options.forks, narrator(options).host, time.time)
        found = survey(run, hosts)

        def one(host: Host) -> None:
            outcome = found[host.name]
            if outcome.site is not None:
                outcome.error = None  # what keeps a new container out does not keep us from the one that runs
                work(outcome.site, outcome)

        for name, result in fan_out(hosts, one, forks=options.forks).items():
            if isinstance(result, HostError):
                found[name].error = result
    return found, [host.name for host in chosen if not host.settings.services]


def _rows(options: Options, connector: Connector) -> tuple[dict[str, Outcome], dict[str, tuple[Row, ...]]]:
    inventory, chosen = inventory_and_hosts(options)
    hosts = some(serving(chosen))
    say = narrator(options)
    try:
        stock = obtain(inventory, hosts, connector, ROOT, say=say.line, dry=True)
    except FleetError as error:  # what runs can be told without knowing what should
        terminal.event("images", f"what should run is not known: {error}")
        stock = Stock.empty()
    run = Run(connector, Wishes(stock.releases, reveal=False), ROOT, options.forks, say.host, time.time)
    found = survey(run, hosts)
    now = datetime.now(UTC)

    def one(host: Host) -> tuple[Row, ...]:
        outcome = found[host.name]
        if outcome.site is None:
            return ()
        outcome.error = None
        site = outcome.site
        seen = site.containers()
        health = {
            container.name: _healthy(site, container) for container in seen if container.owned and container.alive
        }
        specs = site.prepared.desired.specs if site.prepared else ()
        written = site.prepared.desired.written if site.prepared else frozenset[str]()
        return rows(host.name, specs, seen, healthy=health, written=written, now=now)

    rows_of: dict[str, tuple[Row, ...]] = {}
    for name, result in fan_out(hosts, one, forks=options.forks).items():
        if isinstance(result, HostError):
            found[name].error = result
        else:
            rows_of[name] = result
    return found, rows_of


def _healthy(site: Site, container: Inspection) -> bool:
    with site.session.forward_local(container.port, container.address) as (address, port):
        return healthy(address, port)
