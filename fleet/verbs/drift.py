"""`drift`: the inventory against what is really there, hosts against their neighbours and against themselves of yesterday."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from fleet.errors import FleetError, HostError, no_connection
from fleet.options import Options
from fleet.report import drift as report
from fleet.report import errors, terminal
from fleet.rollout.drift import Drift, of_host, unlike
from fleet.rollout.imageorders import certificates
from fleet.rollout.looks import survey
from fleet.rollout.releases import obtain
from fleet.rollout.run import Run
from fleet.rollout.seen import remember
from fleet.rollout.site import Wishes
from fleet.rollout.stock import Stock
from fleet.verbs.common import ROOT, active, connected, inventory_and_hosts, narrator, some


def show_drift(options: Options, *, accept: bool) -> int:
    """1 when something differs or a host could not be read. Changes nothing there. `accept` takes kernels and such as right."""
    found, failed, notes = _told(options, accept=accept)
    return 1 if failed or any(found.values()) or notes else 0


@dataclass(frozen=True)
class Strays:
    """`differs` are lines of what a deploy would change, and of hosts that answer and cannot be looked at; `away` says of
    the others by host why they could not be reached.
    """

    differs: tuple[str, ...]
    away: Mapping[str, str]


def strays(options: Options) -> Strays:
    """The same, told whole, for a night: another kernel or an unlike neighbour is nothing that a deploy would change."""
    found, failed, notes = _told(options, accept=False)
    away = {name: error.message for name, error in failed.items() if no_connection(error)}
    told = [f"{name}: {error.message}" for name, error in failed.items() if name not in away]
    told += [
        f"{name}: {one.kind}: {one.subject}: {one.what}"
        for name, of_host in found.items()
        for one in of_host
        if one.kind not in ("changed", "unlike")
    ]
    return Strays((*told, *notes), away)


def _told(options: Options, *, accept: bool) -> tuple[dict[str, tuple[Drift, ...]], dict[str, HostError], list[str]]:
    inventory, chosen = inventory_and_hosts(options)
    hosts = some(active(chosen))
    say = narrator(options)
    notes: list[str] = []
    found: dict[str, tuple[Drift, ...]] = {}
    failed: dict[str, HostError] = {}
    with connected(options) as connector:
        try:
            stock = obtain(inventory, hosts, connector, ROOT, say=say.line, dry=True)
            notes += [note for note in stock.notes if note.startswith("would ")]
        except FleetError as error:  # containers and neighbours can be compared all the same
            notes.append(f"what should run is not known: {error}")
            stock = Stock.empty()
        wishes = Wishes(stock.releases, certificates({host.name: host for host in hosts}), partial=True)
        with terminal.counting("drift", len(hosts)) as done:
            outcomes = survey(Run(connector, wishes, ROOT, options.forks, say.host, time.time), hosts, done)
        for host in hosts:
            outcome = outcomes[host.name]
            if outcome.site is None:
                failed[host.name] = outcome.error or HostError(host.name, "nothing was found out")
                continue
            seen = outcome.site.containers() if outcome.site.facts.docker.state == "running" else ()
            found[host.name] = of_host(outcome.site.plan, seen, host.settings.services)
    facts = {name: one.site.facts for name, one in outcomes.items() if one.site is not None}
    for name, changes in remember(ROOT, outcomes.values(), time.time(), accept=facts if accept else ()).items():
        found[name] += () if accept else changes
        for one in changes if accept else ():
            say.host(name, f"accepted: {one.subject}: {one.what}")
    for name, odd in unlike(hosts, facts).items():
        found[name] += odd
    if options.json:
        terminal.show_json({**report.document(found, notes), "failed": errors.document(failed)})
    else:
        report.show(found, notes)
        terminal.show_failures(failed)
    return found, failed, notes
