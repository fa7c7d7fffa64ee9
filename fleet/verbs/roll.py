"""`deploy`, `plan`, `play`, `sideload`, `serve`: a playbook over an inventory, from looking to a run's last word."""

import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fleet import calendar, playbook
from fleet.delivery.site_ca import SiteCa
from fleet.errors import FleetError, HostError, UsageError
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
from fleet.rollout import leftout
from fleet.rollout.assign import IMAGES, Programme, assign, peers, without
from fleet.rollout.claims import Claimed, Claims, others
from fleet.rollout.goback import arrange, cached
from fleet.rollout.imageorders import certificates
from fleet.rollout.looks import survey
from fleet.rollout.makeroom import make_room, tell
from fleet.rollout.modelrelays import arrange as arrange_models
from fleet.rollout.reach import look_anew
from fleet.rollout.relayplan import arrange as arrange_relays
from fleet.rollout.releases import obtain
from fleet.rollout.roll import conduct, interrupted
from fleet.rollout.run import Outcome, Run, failures, not_reached
from fleet.rollout.scene import Scene
from fleet.rollout.site import Wishes
from fleet.rollout.standings import tally
from fleet.rollout.stock import Stock
from fleet.rollout.straighten import Depots
from fleet.transport import Connector
from fleet.verbs import secrets
from fleet.verbs.cargo import Examined, examine, unload
from fleet.verbs.closing import Teller, close_roll, finisher, recorder, show_plan
from fleet.verbs.common import ROOT, connected, inventory_and_hosts, narrator, some
from fleet.verbs.order import Order, from_earlier
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
    _require_bundle(order, programme)
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
        stock = _stock(inventory, programme, cargo, connector, depots, say, dry=options.check)
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
    _arrange(programme, found, wishes)
    programme, left = _quarantine(order, programme, found)
    if "distribute" not in programme.stages and "serve" in programme.stages:
        _refuse_missing_images(found)
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
        _claim(run, claims, found, programme, wait=order.lock_wait)
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


def _require_bundle(order: Order, programme: Programme) -> None:
    for one in programme.assignments:
        if order.cargo is None and any(getattr(stage, "bundle", False) for stage in one.play.stages):
            raise UsageError(f"play {one.play.name} takes its images from a bundle alone", hint="--bundle DIR")


def _stock(
    inventory: Inventory,
    programme: Programme,
    cargo: Examined | None,
    connector: Connector,
    depots: Depots,
    say: Teller,
    *,
    dry: bool,
) -> Stock:
    """The releases, made (or taken from the bundle) where the stage `image` says so and found otherwise."""
    hosts = [host for host in programme.hosts if host.settings.services]
    if not hosts or not programme.stages & IMAGES:
        return _relays_alone(inventory, programme, connector, say, dry=dry) if cargo is None else Stock.empty()
    # A night has resolved everything already, and all its rolls mean the same.
    update = inventory.lock is None and any(
        getattr(stage, "update", False) for one in programme.assignments for stage in one.play.stages
    )
    dry = dry or "image" not in programme.stages
    if cargo is not None:
        return unload(cargo, inventory, hosts, say, dry=dry)
    return obtain(
        inventory, hosts, connector, ROOT, say=say.line, update=update, dry=dry, moving=say.moving, depots=depots
    )


def _relays_alone(inventory: Inventory, programme: Programme, connector: Connector, say: Teller, *, dry: bool) -> Stock:
    """What relays run, for a run that brings models and no images; without it models come as if there were no relay."""
    if "models" not in programme.stages:
        return Stock.empty()
    try:
        return obtain(
            inventory, programme.hosts, connector, ROOT, say=say.line, dry=dry, moving=say.moving, services=False
        )
    except FleetError as error:
        stock = Stock.empty()
        stock.notes.append(
            f"there is no image for a relay, so models come as if none had been asked for: {error.message}"
        )
        return stock


def _quarantine(order: Order, programme: Programme, found: dict[str, Outcome]) -> tuple[Programme, dict[str, Outcome]]:
    """Hosts that an earlier run could not reach and that do not answer now either are left out, with the reason: what
    is left of the programme, and these hosts. Nobody waits for them, and the run is not all well without them.
    """
    known = leftout.read_quarantine(ROOT)
    left: dict[str, Outcome] = {}
    for name in known.keys() & found.keys():
        if not not_reached(found[name]):
            terminal.event(name, "was in quarantine, answers again and takes part")
        elif not order.include_quarantined:
            terminal.event(name, f"left out: {known[name]}; --include-quarantined takes it in")
            left[name] = Outcome(name, error=leftout.QuarantinedError(known[name]))
            del found[name]
    return without(programme, left), left


def _arrange(programme: Programme, found: dict[str, Outcome], wishes: Wishes) -> None:
    """What of the hosts' plans goes through relays."""
    if "models" in programme.stages:
        arrange_models(found, wishes)
    if "distribute" in programme.stages:
        arrange_relays(found, wishes)


def _claim(run: Run, claims: Claims, found: dict[str, Outcome], programme: Programme, *, wait: float) -> None:
    """Take the locks of all hosts with something to do, before the first of them is touched.

    Whoever is ready to wait means what the others leave behind, also on hosts on which there is nothing to do yet.
    """
    wanted = {
        name: outcome.site.session
        for name, outcome in found.items()
        if outcome.site is not None
        and (outcome.error is None or outcome.site.plan.fixes)
        and (outcome.site.plan.changed or wait)
    }
    for name, error in claims.take(wanted, forks=run.forks, wait=wait, say=run.say).items():
        found[name].error = error
    # Where nothing is to be done another run may be about to change all of it.
    right = {
        name: outcome.site.session
        for name, outcome in found.items()
        if outcome.site is not None and outcome.error is None and not (name in wanted or claims.holds(name))
    }
    for name, holder in others(right, forks=run.forks).items():
        found[name].warnings.append(
            f"right as it was found, but locked by {holder}, which may change it; --lock-wait 5m waits and looks again"
        )
    if claims.waited:
        run.say("", "others were waited for, so every host is looked at again")
        look_anew(run, claims, found)
        _arrange(programme, found, run.wishes)
    claims.release([name for name in wanted if not (site := found[name].site) or not site.plan.changed])


def _planned(found: dict[str, Outcome]) -> dict[str, object]:
    return {name: plan_report.document(one.site.plan) for name, one in found.items() if one.site}


def _refuse_missing_images(found: dict[str, Outcome]) -> None:
    for outcome in found.values():
        if outcome.error is None and outcome.site and any(step.changes for step in outcome.site.plan.images):
            outcome.error = HostError(outcome.host, "the image is not on the host", hint="invoke deploy brings it")
