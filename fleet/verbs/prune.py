"""`prune`: take away what this tool built or brought and nothing needs."""

import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from fleet import calendar
from fleet.errors import HostError, UsageError
from fleet.image.release import Release
from fleet.inventory import select
from fleet.inventory.model import Host, Inventory
from fleet.journal import Journal, RunHeader, outcome_of, redactor_for
from fleet.journal.audit import AuditEntry
from fleet.locks import Owner
from fleet.options import Options
from fleet.prune import controller
from fleet.prune.facts import HostFacts, Policy, PrunePlan, RemoveImage, Step
from fleet.prune.hosts import PartlyError, carry_out, policy_of, read
from fleet.prune.ledger import Ledger
from fleet.prune.ownership import ours
from fleet.prune.plan import plan_prune
from fleet.prune.wanted import wanted_by
from fleet.report import errors, terminal
from fleet.report import prune as report
from fleet.report.hosts import fold
from fleet.report.prune import HostPrune, Place
from fleet.rollout import audit
from fleet.rollout.claims import Claimed, Claims
from fleet.rollout.goback import cached
from fleet.seam import Seam
from fleet.transport import Connector, Session, fan_out
from fleet.verbs import prune_places as places
from fleet.verbs.closing import Teller
from fleet.verbs.common import ROOT, active, connected, inventory_and_hosts, narrator, serving
from fleet.verbs.prune_garbage import collect_garbage


@dataclass
class Pruned:
    """What came of it: by host, and on the controller. `notes` are for people."""

    hosts: dict[str, HostPrune] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    failed: dict[str, HostError] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    known: dict[str, Release] = field(default_factory=dict)  # all releases that anybody told of
    wanted: dict[str, str] = field(default_factory=dict)  # by the inventory and by the registry's last-good
    proven: set[str] = field(default_factory=set)  # those that a host tells were brought to it or answered on it


def prune(options: Options, *, keep: int, lock_wait: float) -> int:
    """All that `fleet:` gives a part. With `check` it is the same way stopped before the effects."""
    if keep < 0:
        raise UsageError(f"--keep {keep} is no number of releases", hint="1 or more; what runs always stays")
    found = pruned(options, keep=keep, lock_wait=lock_wait)
    if options.json:
        document = report.document(found.hosts, found.places, check=options.check)
        terminal.show_json({**document, "notes": found.notes, "failed": errors.document(found.failed)})
    else:
        report.show(found.hosts, found.places, found.notes, check=options.check, verbose=options.verbose)
        terminal.show_failures(found.failed)
    return 1 if found.failed else 0


def pruned(options: Options, *, keep: int = 0, lock_wait: float = 0.0) -> Pruned:
    """The work of `prune`, for whoever tells of it."""
    inventory, chosen = inventory_and_hosts(options)
    hosts = active(chosen) or chosen
    found = Pruned()
    with ExitStack() as stack:
        journal = None if options.check else stack.enter_context(_journal(options, hosts, keep))
        say = Teller(narrator(options), journal)
        connector = stack.enter_context(connected(options))
        _prune_hosts(options, inventory, hosts, connector, journal, say, found, keep=keep, lock_wait=lock_wait)
        _prune_places(options, inventory, hosts, connector, journal, say, found, keep=keep, lock_wait=lock_wait)
        if journal is not None:
            document = report.document(found.hosts, found.places, check=False)
            journal.finish(1 if found.failed else 0, {"prune": document, "notes": found.notes})
    return found


@dataclass(frozen=True)
class _Work:
    """What the hosts of one prune share."""

    policies: Mapping[str, Policy]
    known: Mapping[str, Release]
    say: Teller
    seam: Claimed | None = None
    claims: Claims | None = None
    run: str = ""

    def look(self, session: Session) -> tuple[HostFacts, PrunePlan]:
        facts = read(session, self.known)
        return facts, plan_prune(facts, facts.past.releases, self.policies[session.host.name])


def _prune_hosts(
    options: Options,
    inventory: Inventory,
    hosts: Sequence[Host],
    connector: Connector,
    journal: Journal | None,
    say: Teller,
    found: Pruned,
    *,
    keep: int,
    lock_wait: float,
) -> None:
    known = found.known
    known.update(cached(ROOT))
    found.wanted.update(wanted_by(inventory, hosts, ROOT, found.notes.append))
    policies = {host.name: policy_of(host, keep, found.wanted) for host in hosts}
    work = _Work(policies, known, say)
    sessions: dict[str, Session] = {}
    seen: list[HostFacts] = []

    def look(host: Host) -> HostPrune:
        session = sessions[host.name] = connector.connect(host)
        facts, plan = work.look(session)
        seen.append(facts)
        return HostPrune(plan, facts.room)

    with terminal.counting("looking", len(hosts)) as done:
        answers = fan_out(hosts, look, forks=options.forks, on_done=lambda host, _result: done(host.name))
    _take(found, answers)
    known.update({name: one for facts in seen for name, one in facts.past.releases.items()})
    found.proven.update(name for facts in seen for name in facts.past.touched | facts.past.recorded)
    if journal is None:
        return
    with Claims(Owner.here(journal.id)) as claims:
        todo = {name: sessions[name] for name, one in found.hosts.items() if one.plan.steps}
        missing = claims.take(todo, forks=options.forks, wait=lock_wait, say=say.host)
        found.failed |= missing
        active = _Work(policies, known, say, Claimed(journal, claims), claims, journal.id)
        chosen = [host for host in hosts if host.name in todo and host.name not in missing]
        results = fan_out(chosen, lambda host: _clean(active, sessions[host.name]), forks=options.forks)
        _take(found, results)
    for name in answers:
        error = found.failed.get(name)
        changed = len(found.hosts[name].done) if name in found.hosts else 0
        journal.host_done(name, outcome_of(error, changed), message=error.message if error else "")


def _take(found: Pruned, answers: Mapping[str, HostPrune | HostError]) -> None:
    for name, one in answers.items():
        if isinstance(one, HostError):
            found.failed[name] = one
            if isinstance(one, PartlyError) and name in found.hosts:
                found.hosts[name].done = tuple(one.done)
        else:
            found.hosts[name] = one


def _clean(work: _Work, session: Session) -> HostPrune:
    """Under the host's lock, by a fresh look; what is said to be gone is gone by another."""
    if work.seam is None or work.claims is None:
        raise HostError(session.host.name, "nothing is changed without a lock")
    work.claims.check(session.host.name)
    host = session.host.name
    facts, plan = work.look(session)
    done: list[Step] = []
    error: HostError | None = None
    try:
        done = carry_out(plan, session, work.seam, lambda line: work.say.host(host, line))
    except PartlyError as partly:
        done, error = partly.done, partly
    _audit(work, work.seam.seam, session, done, error)
    if error is not None:
        raise error
    after, rest = work.look(session)
    if rest.steps:
        raise PartlyError(host, f"still to do after it: {rest.steps[0].what}", hint="invoke prune --check", done=done)
    return HostPrune(plan, facts.room, after.room, tuple(done))


def _audit(work: _Work, seam: Seam, session: Session, done: Sequence[Step], error: HostError | None) -> None:
    now = time.time()
    entries = [
        AuditEntry(
            work.run, "prune", "prune", "done",
            release=step.release if isinstance(step, RemoveImage) else "", message=step.what, at=now,
        )
        for step in done
    ]  # fmt: skip
    if error is not None:
        entries.append(AuditEntry(work.run, "prune", "prune", "failed", message=error.message, at=now))
    if missing := audit.put(session, entries, seam):
        work.say.host(session.host.name, missing)


def _prune_places(
    options: Options,
    inventory: Inventory,
    hosts: Sequence[Host],
    connector: Connector,
    journal: Journal | None,
    say: Teller,
    found: Pruned,
    *,
    keep: int,
    lock_wait: float,
) -> None:
    """The controller's files; and what many hosts share, of which they all have to say what they need."""
    ledger = Ledger.of(ROOT, inventory)
    needed = dict(found.wanted)
    needed |= {name: why for one in found.hosts.values() for name, why in one.plan.needed.items()}
    if journal is not None:
        for host, one in found.hosts.items():
            ledger.remember(host, one.plan.needed, found.known)
    chosen = {host.name for host in select(inventory, options.limit)}
    judged = recall(inventory, chosen, ledger, found, needed)
    scene = places.Scene(
        hosts,
        keep or max((host.settings.retention.keep for host in hosts), default=1),
        needed,
        judged,
        ledger,
        ours(ledger.owned, found.proven, found.known),
        found.known,
        found.places,
        found.failed,
        found.notes,
        journal,
        say,
    )
    with scene.measured(controller.NAME, partial(controller.read_room, ROOT)):
        places.prune_files(scene, inventory)
        places.prune_layouts(scene)
    if all(host.name in chosen for host in serving(inventory.hosts.values())):
        places.prune_builders(scene, inventory, connector, forks=options.forks, wait=lock_wait)
    if not judged:
        return
    registries = places.prune_registries(scene)
    collect_garbage(scene, registries, inventory, connector, forks=options.forks, wait=lock_wait)


def recall(
    inventory: Inventory, chosen: Collection[str], ledger: Ledger, found: Pruned, needed: dict[str, str]
) -> bool:
    """Add what hosts needed that cannot be asked today, so that one of them does not keep all disks from being tidied up.

    False where that is not known of all: nobody asked them yet, or they are not among those chosen.
    """
    names = [name for name, host in inventory.hosts.items() if host.settings.services and name not in found.hosts]
    known = {name: ledger.needs(name) for name in names if name in chosen}
    strange = [name for name in names if name not in known or not known[name].day]
    if strange:
        told = "layouts, images on the builder and the registry are left alone"
        found.notes.append(f"{told}: not asked, now or before, were {fold(strange)}")
        return False
    for name, needs in known.items():
        told = f"{name} cannot be asked: what it needed on {needs.day} counts, and what was meant for it since"
        found.notes.append(told)
        found.known.update({key: one for key, one in needs.releases.items() if key not in found.known})
        for key, why in needs.needed.items():
            needed.setdefault(key, f"{name}: {why}")
    return True


def _journal(options: Options, hosts: Sequence[Host], keep: int) -> Journal:
    names = tuple(host.name for host in hosts)
    header = RunHeader("prune", tuple(sys.argv[1:]), names, options.inventory, options.limit, {"keep": keep})
    return Journal.open(ROOT, header, redact=redactor_for(hosts), clock=calendar.now)
