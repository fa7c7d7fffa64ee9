"""A deploy: look at every host, plan, bring the images, replace the containers, look again. Each host ends by itself."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet.delivery.execute import Way, carry_out
from fleet.errors import HostError
from fleet.image.layout import LayoutImage, read
from fleet.image.workshop import ensure_layout
from fleet.inventory.model import Host
from fleet.inventory.settings import Registry
from fleet.rollout.images import pulls_from
from fleet.rollout.releases import Stock
from fleet.rollout.site import Site, Wishes, look, visit
from fleet.serving.context import Context
from fleet.serving.execute import carry_out as carry_out_serving
from fleet.serving.execute import prove
from fleet.serving.verify import Proof
from fleet.transport import Connector, fan_out

Say = Callable[[str, str], None]
PUT_BACK = 150.0  # seconds: a stop with its grace, and the start of the old container


@dataclass
class Outcome:
    """What became of one host. `changed` counts steps that were carried out and found done by a fresh look."""

    host: str
    site: Site | None = None
    changed: int = 0
    kept: int = 0
    error: HostError | None = None
    proofs: Mapping[str, Proof] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One execution over some hosts. `say(host, line)` hears what happens and may be called from any thread."""

    connector: Connector
    wishes: Wishes
    root: Path
    forks: int
    say: Say
    clock: Callable[[], float] = time.time


@dataclass(frozen=True)
class _Work:
    """One host whose containers are being changed."""

    context: Context
    done: threading.Event = field(default_factory=threading.Event)


def failures(outcomes: Mapping[str, Outcome]) -> dict[str, HostError]:
    """The hosts that failed, with why."""
    return {name: outcome.error for name, outcome in outcomes.items() if outcome.error is not None}


def survey(run: Run, hosts: Sequence[Host], on_done: Callable[[str], None] = lambda _host: None) -> dict[str, Outcome]:
    """Look at every host and plan; nothing is changed."""
    found = fan_out(
        tuple(hosts),
        lambda host: visit(run.connector, host, run.wishes, run.clock),
        forks=run.forks,
        on_done=lambda host, _: on_done(host.name),
    )
    return {name: _outcome(name, result) for name, result in found.items()}


def distribute(run: Run, outcomes: Mapping[str, Outcome], stock: Stock) -> None:
    """Bring the images to every host that is ready for them, side by side, a registry's pulls bounded."""
    slots: dict[str, threading.Semaphore] = {}
    layouts = threading.Lock()
    for outcome in _going(outcomes):
        for registry in _registries(outcome):
            slots.setdefault(registry.host, threading.Semaphore(registry.parallel_pulls))

    def bring(host: Host) -> int:
        outcome = outcomes[host.name]
        site = _site(outcome)
        if not any(step.changes for step in site.plan.images):
            return 0
        registries = _registries(outcome)
        held = slots[registries[0].host] if registries else threading.Semaphore(1)
        with held:
            for step in site.plan.images:
                if step.changes:
                    run.say(host.name, step.what)
            return carry_out(site.plan.images, _way(run, site, stock, layouts))

    for name, result in fan_out([_site(one).host for one in _going(outcomes)], bring, forks=run.forks).items():
        _note(outcomes[name], result)


def serve(run: Run, outcomes: Mapping[str, Outcome]) -> None:
    """Carry out the containers' plans: first deploys side by side, hosts that serve already one at a time."""
    going = [outcome for outcome in _going(outcomes) if _site(outcome).plan.serving.changes]
    first = [_site(one).host for one in going if not _site(one).plan.replaces]
    later = [_site(one).host for one in going if _site(one).plan.replaces]

    begun: list[_Work] = []

    def change(host: Host) -> int:
        outcome = outcomes[host.name]
        site = _site(outcome)
        work = _Work(site.context(run.root, run.say))
        begun.append(work)
        try:
            outcome.proofs = carry_out_serving(site.plan.serving, work.context)
        finally:
            work.done.set()
        return sum(len(change.steps) + len(change.commit) for change in site.plan.serving.changes)

    try:
        for hosts, forks in ((first, run.forks), (later, 1)):
            for name, result in fan_out(hosts, change, forks=forks).items():
                _note(outcomes[name], result)
    except KeyboardInterrupt:
        _put_back(begun, run.say)
        raise


def answer(run: Run, outcomes: Mapping[str, Outcome]) -> None:
    """Ask the replicas that nothing was done to as well: running is not yet answering."""

    def ask(host: Host) -> None:
        outcome = outcomes[host.name]
        site = _site(outcome)
        context = site.context(run.root, lambda _host, _line: None)
        for spec in site.prepared.desired.specs if site.prepared else ():
            if spec.name not in outcome.proofs:
                prove(spec.name, host.settings.services[spec.service], spec.port, context)
        outcome.proofs = {**context.proofs, **outcome.proofs}

    for name, result in fan_out([_site(one).host for one in _going(outcomes)], ask, forks=run.forks).items():
        if isinstance(result, HostError):
            outcomes[name].error = result


def confirm(run: Run, outcomes: Mapping[str, Outcome]) -> None:
    """Changed is said only where a fresh look finds nothing left to do."""

    def again(host: Host) -> None:
        site = look(_site(outcomes[host.name]).session, run.wishes, run.clock)
        left = [line.what for line in site.plan.lines if line.changes]
        if left:
            raise HostError(
                host.name, f"after the run a fresh look still finds: {'; '.join(left)}", hint="run it again"
            )
        outcomes[host.name].site = site

    changed = [_site(one).host for one in _going(outcomes) if one.changed]
    for name, result in fan_out(changed, again, forks=run.forks).items():
        if isinstance(result, HostError):
            outcomes[name].error = result


def _put_back(begun: Sequence[_Work], say: Say) -> None:
    """After Ctrl-C: let every begun host put back what served before. A second Ctrl-C does not wait for it."""
    waiting = [work for work in begun if not work.done.is_set()]
    for work in waiting:
        work.context.cancelled.set()
        say(work.context.name, "interrupted: putting back what served before")
    for work in waiting:
        work.done.wait(PUT_BACK)


def _outcome(name: str, result: Site | HostError) -> Outcome:
    if isinstance(result, HostError):
        return Outcome(name, error=result)
    kept = sum(not line.changes for line in result.plan.lines)
    if result.plan.ready:
        return Outcome(name, result, kept=kept)
    reasons = [*(f"{finding.id}: {finding.evidence}" for finding in result.plan.blocked), *result.plan.problems]
    hint = result.plan.blocked[0].fix if result.plan.blocked else ""
    error = HostError(name, f"is not fit, and was left alone: {'; '.join(reasons)}", hint=hint)
    return Outcome(name, result, kept=kept, error=error)


def _going(outcomes: Mapping[str, Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes.values() if outcome.error is None and outcome.site is not None]


def _site(outcome: Outcome) -> Site:
    if outcome.site is None:
        raise HostError(outcome.host, "was not looked at")
    return outcome.site


def _registries(outcome: Outcome) -> list[Registry]:
    settings = _site(outcome).host.settings
    found = [pulls_from(settings, service) for service in settings.services.values()]
    return [registry for registry in found if registry is not None]


def _note(outcome: Outcome, result: int | HostError) -> None:
    if isinstance(result, HostError):
        outcome.error = result
    else:
        outcome.changed += result


def _way(run: Run, site: Site, stock: Stock, lock: threading.Lock) -> Way:
    settings = site.host.settings
    registry = next((r for s in settings.services.values() if (r := pulls_from(settings, s))), None)

    def auth() -> Mapping[str, str] | None:
        if registry is None or registry.username is None or registry.password is None:
            return None
        return {"username": registry.username.reveal(), "password": registry.password.reveal()}

    def layout(name: str) -> LayoutImage:
        release = next(one for one in run.wishes.releases[site.host.name].values() if one.local_name == name)
        with lock:  # two hosts that want the same layout fetch it once
            ensure_layout(stock.workshops[release.id], release)
        return read(stock.store.layout_path(release))

    return Way(site.host.name, site.session, site.client, registry.ca_file if registry else "", auth, layout)
