"""`deploy`, `build`, `push`, `sideload`, `serve`: from an inventory to containers that answer."""

import time
from dataclasses import dataclass, replace

from fleet.cli import Options
from fleet.errors import HostError
from fleet.inventory.model import Host, Inventory
from fleet.report import errors, outcomes, terminal
from fleet.report import plan as plan_report
from fleet.rollout import deploy as rollout
from fleet.rollout.distribute import distribute
from fleet.rollout.releases import Stock, certificates, obtain
from fleet.rollout.run import Outcome, Run, failures
from fleet.rollout.site import Wishes
from fleet.transport import Connector
from fleet.verbs import secrets
from fleet.verbs.common import ROOT, Narrator, close, connected, inventory_and_hosts, narrator, serving


@dataclass(frozen=True)
class Scope:
    """Which parts of a deploy a verb does."""

    make: bool = True  # build or find the images, and publish them
    bring: bool = True  # images to hosts
    serve: bool = True  # containers
    sideload: bool = False  # over SSH whatever the inventory says
    prune: bool = False
    take_over: frozenset[str] = frozenset()


def deploy(options: Options, scope: Scope) -> int:
    """The whole way, or a part of it. With `check` it is the same way stopped before the effects."""
    inventory, chosen = inventory_and_hosts(options)
    hosts = serving(chosen)
    if scope.sideload:
        hosts = tuple(replace(host, settings=replace(host.settings, delivery="sideload")) for host in hosts)
    skipped = [host.name for host in chosen if not host.settings.services]
    secrets.require(hosts, services=scope.serve)
    say = narrator(options)
    with connected(options) as connector:
        stock = _stock(inventory, hosts, connector, say, dry=options.check or not scope.make)
        run = _run(connector, options, hosts, stock, scope, say)
        with terminal.counting("looking", len(hosts)) as done:
            found = rollout.survey(run, hosts, done)
        if not scope.bring:
            _refuse_missing_images(found)
        if options.check:
            return _show_plan(options, found, stock, skipped)
        if scope.bring:
            distribute(run, found, stock)
        if scope.serve:
            rollout.serve(run, found)
            rollout.answer(run, found)
        rollout.confirm(run, found)
    return _show_outcome(options, found, stock, skipped)


def build(options: Options, *, update: bool, publish: bool) -> int:
    """Make the images of the selected hosts, once; `publish` pushes them too."""
    inventory, chosen = inventory_and_hosts(options)
    secrets.require(serving(chosen), services=False)
    say = narrator(options, loud=terminal.err().is_terminal)
    with connected(options) as connector:
        stock = obtain(
            inventory,
            serving(chosen),
            connector,
            ROOT,
            say=say.line,
            update=update,
            dry=options.check,
            publish=publish,
            moving=say.moving,
        )
    if options.json:
        terminal.show_json(outcomes.stock_document(stock))
    else:
        outcomes.show_stock(stock)
    return 0


def _stock(inventory: Inventory, hosts: tuple[Host, ...], connector: Connector, say: Narrator, *, dry: bool) -> Stock:
    return obtain(inventory, hosts, connector, ROOT, say=say.line, dry=dry, moving=say.moving)


def _run(
    connector: Connector, options: Options, hosts: tuple[Host, ...], stock: Stock, scope: Scope, say: Narrator
) -> Run:
    wishes = Wishes(
        stock.releases,
        certificates({host.name: host for host in hosts}) if scope.bring else {},
        prune=scope.prune,
        take_over=scope.take_over,
        serve=scope.serve,
    )
    return Run(connector, wishes, ROOT, options.forks, say.host, time.time, moving=say.moving)


def _refuse_missing_images(found: dict[str, Outcome]) -> None:
    for outcome in found.values():
        if outcome.error is None and outcome.site and any(step.changes for step in outcome.site.plan.images):
            outcome.error = HostError(outcome.host, "the image is not on the host", hint="invoke deploy brings it")


def _show_plan(options: Options, found: dict[str, Outcome], stock: Stock, skipped: list[str]) -> int:
    plans = {name: outcome.site.plan for name, outcome in found.items() if outcome.site is not None}
    failed = failures(found)
    if options.json:
        hosts = {name: plan_report.document(plan) for name, plan in plans.items()}
        terminal.show_json(
            {"images": outcomes.stock_document(stock), "hosts": hosts, "failed": errors.document(failed)}
        )
        return 1 if failed else 0
    outcomes.show_stock(stock)
    plan_report.show(terminal.out(), plans.values(), verbose=options.verbose, diff=options.diff)
    for outcome in found.values():
        outcome.changed = outcome.site.plan.changed if outcome.site and outcome.error is None else 0
    return close(options, found, skipped)


def _show_outcome(options: Options, found: dict[str, Outcome], stock: Stock, skipped: list[str]) -> int:
    if options.json:
        terminal.show_json(outcomes.document(found, stock))
    else:
        outcomes.show_stock(stock)
        outcomes.show_proofs(found)
    return close(options, found, skipped)
