"""`deploy`, `plan`, `play`, `sideload`, `serve`: a playbook over an inventory, from looking to a run's last word."""

import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fleet import calendar, playbook
from fleet.delivery.site_ca import SiteCa
from fleet.image import lock as locks
from fleet.inventory import select
from fleet.inventory.model import Host, Inventory
from fleet.journal import (
    Journal,
    RunHeader,
    redactor_for,
)
from fleet.locks import Owner
from fleet.options import Options
from fleet.prune.ledger import Ledger
from fleet.prune.wanted import wanted_by
from fleet.report import plan as plan_report
from fleet.report import roll as report
from fleet.report import terminal
from fleet.rollout.assign import Programme, assign, peers
from fleet.rollout.claims import Claimed, Claims
from fleet.rollout.goback import arrange, cached
from fleet.rollout.imageorders import certificates
from fleet.rollout.looks import survey
from fleet.rollout.makeroom import make_room, tell
from fleet.rollout.roll import conduct, interrupted
from fleet.rollout.run import Outcome, Run, failures
from fleet.rollout.scene import Scene
from fleet.rollout.site import Wishes
from fleet.rollout.standings import tally
from fleet.rollout.straighten import Depots
from fleet.transport import Connector
from fleet.verbs import secrets
from fleet.verbs.cargo import Examined, examine
from fleet.verbs.closing import Teller, close_roll, finisher, recorder, show_plan
from fleet.verbs.common import ROOT, connected, inventory_and_hosts, narrator, some
from fleet.verbs.order import Order, from_earlier
from fleet.verbs.partakers import arrange_relayed, claim, leave_out, refuse_missing_images
from fleet.verbs.supply import require_bundle, stock_of
from fleet.verbs.weights import Weights, gather, settle


def roll(options: Options, order: Order) -> int:
    """The whole way, or a part of it. With `check` it is the same way stopped before the effects."""
    options, order, continues = from_earlier(options, order)
    plays = order.plays or playbook.load(order.playbook)
    inventory, chosen = inventory_and_hosts(options)
    inventory = replace(inventory, lock=Path(order.lock)) if order.lock else inventory
    programme = assign(plays, inventory, chosen, stages=order.stages)
    if order.sideload:
        # Straight from here, whatever the inventory says.
        programme = replace(programme, hosts=tuple(map(_from_here, programme.hosts)))
    programme = replace(
        programme, prune=programme.prune or order.prune, take_over=programme.take_over | order.take_over
    )
    some(programme.hosts)
    if order.list_stages or order.list_hosts:
        report.show_programme(programme, stages=order.list_stages, hosts=order.list_hosts)
        return 0
    taking = {host.name for host in programme.hosts}
    skipped = [host.name for host in select(inventory, options.limit) if host.name not in taking]  # or in maintenance
    require_bundle(order, programme)
    serves = bool({"serve", "verify"} & programme.stages)
    secrets.require(programme.hosts, services=serves, images=order.cargo is None)
    cargo = examine(order.cargo, programme.hosts, options) if order.cargo else None
    weights = Weights()
    if order.back is None:
        lock = locks.read(inventory.lock_path)
        weights = gather(programme, cargo.bundle if cargo else None, narrator(options).moving, lock)
    with ExitStack() as stack:
        journal = None if options.check else stack.enter_context(_journal(options, order, programme, continues))
        say = Teller(narrator(options), journal)
        connector = stack.enter_context(connected(options))
        depots = stack.enter_context(Depots(say.line))
        return _run(options, order, inventory, programme, cargo, weights, connector, depots, journal, say, skipped)


def _run(
    options: Options,
    order: Order,
    inventory: Inventory,
    programme: Programme,
    cargo: Examined | None,
    weights: Weights,
    connector: Connector,
    depots: Depots,
    journal: Journal | None,
    say: Teller,
    skipped: list[str],
) -> int:
    refused: dict[str, str] = {}
    if order.back is None:
        stock = stock_of(inventory, programme, cargo, connector, depots, say, dry=options.check)
    else:
        everybody = tuple(inventory.hosts.values())
        road = arrange(order.back, programme.hosts, everybody, connector, ROOT, forks=options.forks, say=say.line)
        programme, stock, refused = replace(programme, hosts=road.hosts), road.stock, dict(road.refused)
    stock.notes += weights.notes
    ca = SiteCa(ROOT)
    if stock.relays and not options.check:
        ca.ensure(datetime.now(UTC))
    wishes = Wishes(
        stock.releases,
        certificates({host.name: host for host in programme.hosts}) if "distribute" in programme.stages else {},
        origins=stock.origins,
        depots=stock.depots,
        left_out=stock.left_out,
        prune=programme.prune,
        take_over=programme.take_over,
        serve="serve" in programme.stages or "verify" in programme.stages,
        tuning=programme.tuning,
        partial=order.back is not None,
        refused=refused,
        relays=stock.relays if {"distribute", "models"} & programme.stages else {},
        fingerprint=ca.fingerprint,
        tidy="distribute" in programme.stages,
        weights=weights.of_host,
        rehash=order.rehash,
        gate=order.gate,
    )
    run = Run(connector, wishes, ROOT, options.forks, say.host, moving=say.moving)
    with terminal.counting("looking", len(programme.hosts)) as done:
        found = survey(run, programme.hosts, done)
    stock.notes += settle(
        weights, inventory.lock_path, [one.site for one in found.values() if one.site], dry=options.check
    )
    arrange_relayed(programme, found, wishes)
    programme, left = leave_out(order, programme, found)
    if "distribute" not in programme.stages and "serve" in programme.stages:
        refuse_missing_images(found)
    if options.check or journal is None:
        if "distribute" in programme.stages:
            tell(found, say.host)
        return show_plan(options, {**found, **left}, stock, skipped)
    if options.diff and not options.json:
        plan_report.show_differences(terminal.out(), (one.site.plan for one in found.values() if one.site))
    journal.plan(_planned(found))
    ledger = Ledger.of(ROOT, inventory)
    for name, one in found.items():
        if one.site is not None:
            ledger.expect(name, stock.releases.get(name, {}).values(), f"run {journal.id} was to bring it")
    beside = [host for host in peers(programme, inventory) if host.name not in left]
    outside = {**survey(replace(run, wishes=Wishes(reveal=False)), beside), **left}
    with Claims(Owner.here(journal.id)) as claims:
        run = replace(run, seam=Claimed(journal, claims))
        if "distribute" in programme.stages:
            known = {one.id: one for of_host in stock.releases.values() for one in of_host.values()}

            def wanted() -> dict[str, str]:
                return wanted_by(inventory, programme.hosts, ROOT, say.line)

            make_room(run, found, claims, {**cached(ROOT), **known}, wanted, wait=order.lock_wait)
        claim(run, claims, found, programme, wait=order.lock_wait)
        if claims.waited:
            journal.plan(_planned(found))
        hosts = {name: inventory.hosts[name] for name in outside} | {host.name: host for host in programme.hosts}
        through = Counter[str]()
        scene = Scene(
            run,
            found,
            outside,
            hosts,
            stock,
            claims,
            on_batch=say.batch,
            on_done=finisher(journal, run, programme, through),
            on_deed=recorder(journal, run),
            proved=order.proved,
            through=through,
        )
        ended, broken_off = "", False
        try:
            ended = conduct(scene, programme.assignments)
        except KeyboardInterrupt as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                raise  # a second one, while things were being put back: nothing is waited for
            broken_off = True
            interrupted(scene, programme.assignments)
        if broken_off or left or failures(found):
            tally(scene)
    code = close_roll(options, journal, scene, left, skipped, ended, interrupted=broken_off)
    if order.back is not None and not options.json:
        report.show_gone_back(found)
    return code


def _from_here(host: Host) -> Host:
    sideload = replace(host.settings.sideload, from_builder=False)
    return replace(host, settings=replace(host.settings, delivery="sideload", relay=None, sideload=sideload))


def _journal(options: Options, order: Order, programme: Programme, continues: str) -> Journal:
    flags = {
        "playbook": order.playbook,
        "stages": sorted(order.stages),
        "prune": order.prune,
        "take_over": sorted(order.take_over),
        "include_quarantined": order.include_quarantined,
        "bundle": order.cargo.flags() if order.cargo else None,
        **({"night": order.night} if order.night else {}),
    }
    header = RunHeader(
        order.verb,
        tuple(sys.argv[1:]),
        tuple(host.name for host in programme.hosts),
        options.inventory,
        options.limit,
        flags,
        continues,
    )
    return Journal.open(ROOT, header, redact=redactor_for(programme.hosts), clock=calendar.now)


def _planned(found: dict[str, Outcome]) -> dict[str, object]:
    return {name: plan_report.document(one.site.plan) for name, one in found.items() if one.site}
