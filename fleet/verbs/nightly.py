"""`nightly` and `promote`: build when something is new, prove it on a canary, then the rest; else all stays as it was."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fleet import calendar
from fleet.cli import Options
from fleet.errors import FleetError, UsageError
from fleet.image import lock as locks
from fleet.image.build import BuildError
from fleet.image.smoke import SmokeError
from fleet.inventory import select
from fleet.inventory.model import Host, Inventory
from fleet.journal import redactor_for
from fleet.nightly import nights, plan
from fleet.nightly.nights import Book, Night
from fleet.nightly.plan import Standing
from fleet.report import night_page, terminal
from fleet.report import nightly as report
from fleet.report.hosts import fold
from fleet.rollout.leftout import read_quarantine
from fleet.verbs import secrets
from fleet.verbs.common import ROOT, in_maintenance, inventory_and_hosts, serving
from fleet.verbs.drift import show_strays
from fleet.verbs.night_images import foreign, keys_of, look, make, move_last_good, upstream
from fleet.verbs.night_prune import retain
from fleet.verbs.night_rolls import FailedError, promise, put_back, standing_of, tried
from fleet.verbs.nightly_timer import nightly_of
from fleet.verbs.services import verify

FOLDER = ROOT / "nights"


def nightly(options: Options, *, force: bool) -> int:
    """One night, from looking upstream to the report."""
    inventory, chosen = inventory_and_hosts(options)
    hosts = serving(chosen)
    if not hosts:
        raise UsageError("no selected host serves anything")
    secrets.require(hosts)
    canaries = _canaries(inventory, hosts)
    if options.check:
        return _check(options, inventory, hosts, canaries, force=force)
    with nights.alone(FOLDER):
        name = str(inventory.sources[0].resolve())
        before = nights.nights(FOLDER, name)
        book = Book.begin(FOLDER, name, calendar.now(), redactor_for(hosts))
        left = {**in_maintenance(inventory, inventory.hosts.values())}
        book.put(hosts=[host.name for host in hosts], canaries=list(canaries), left_out=left)
        with _closing(inventory, book):
            return _night(options, inventory, hosts, canaries, book, before, force=force)


def promote(options: Options) -> int:
    """The rest of the fleet, for a night that waits. Raises UsageError where none does."""
    inventory, chosen = inventory_and_hosts(options)
    hosts = serving(chosen)
    secrets.require(hosts)
    with nights.alone(FOLDER):
        past = nights.nights(FOLDER, str(inventory.sources[0].resolve()))
        if not past or past[-1].result != "waiting":
            raise UsageError("no night waits to be promoted", hint="invoke nightly.status")
        book = Book.again(FOLDER, past[-1], redactor_for(hosts))
        if foreign(options, inventory, hosts, book):
            raise UsageError("the inventory asks for other images than that night proved", hint="invoke nightly")
        book.put(result="", said="")
        with _closing(inventory, book):
            return _rest(options, inventory, hosts, book)


@contextmanager
def _closing(inventory: Inventory, book: Book) -> Iterator[None]:
    """Whatever ends the night, its report says so; then old ones go, and the hook hears of it."""
    try:
        yield
    except FleetError as error:
        book.end("failed", error.message)
        raise
    except KeyboardInterrupt:
        book.end("interrupted", "it was interrupted; the next night begins it again")
        raise
    finally:
        settings = nightly_of(inventory)
        _page(book)
        nights.keep(FOLDER, str(book.document["inventory"]), settings.keep)
        _hook(settings.hook, book)
        report.show_night(book.document, book.path)


def _night(
    options: Options,
    inventory: Inventory,
    hosts: Sequence[Host],
    canaries: tuple[str, ...],
    book: Book,
    past: Sequence[Night],
    *,
    force: bool,
) -> int:
    with book.phase("look"):
        now = standing_of(options, hosts)
        unended = nights.unsettled(past)
        standing = plan.carried(unended.before, now, unended.brought) if unended else now
        brought = sorted(unended.brought) if unended else []
        book.put(before=standing, brought=brought, continues=unended.id if unended else "")
        old, stock = look(options, inventory, hosts, book.lock)
        new = keys_of(stock.found)
        decision = plan.decide(old, new, nights.failed(FOLDER), force=force)
        changed = upstream(hosts, locks.read(inventory.lock_path), stock.lock) if decision.kind != plan.KEPT else []
        book.put(keys=new, before_keys=old, decision=decision.kind, upstream=changed)
        terminal.event("nightly", decision.why)
    if decision.kind != plan.BUILD:
        with book.phase("restore"):  # what a night that came to no end, or that waited, has left on its canaries
            put_back(options, hosts, book, standing)
    if decision.kind == plan.HELD:
        retain(options, book)
        book.end("held", decision.why)
        return 1
    if decision.kind == plan.KEPT:
        return _keep(options, book, decision)
    fresh = {key for name, key in new.items() if old.get(name) != key}
    try:
        with book.phase("build"):
            make(options, inventory, hosts, book)
        with book.phase("canary") as phase:
            carried = unended.document.get("pace") if unended else None
            tried(options, hosts, canaries, book, phase, now, carried if isinstance(carried, dict) else {})
    except (BuildError, SmokeError, FailedError) as error:
        blame = not isinstance(error, FailedError) or error.blame
        cause = book.redact(f"night {book.id}: {error.message}")
        nights.remember(FOLDER, dict.fromkeys(fresh, cause) if blame else {})
        _undo(options, hosts, book, standing)
        raise
    except FleetError:
        _undo(options, hosts, book, standing)
        raise
    if nightly_of(inventory).promote == "manual":
        retain(options, book)
        book.end("waiting", f"well on {fold(canaries)}; invoke promote brings it to the rest")
        return 0
    return _rest(options, inventory, hosts, book)


def _rest(options: Options, inventory: Inventory, hosts: Sequence[Host], book: Book) -> int:
    """All hosts, and only then the lock and last-good."""
    fresh = {key for name, key in book.document["keys"].items() if book.document["before_keys"].get(name) != key}
    try:
        with book.phase("promote") as phase:
            behind = promise(options, hosts, book, phase)
    except FleetError as error:
        if isinstance(error, FailedError) and error.blame:
            nights.remember(FOLDER, dict.fromkeys(fresh, book.redact(f"night {book.id}: {error.message}")))
        _undo(options, hosts, book, book.document["before"])
        raise
    locks.write(inventory.lock_path, locks.read(book.lock))
    nights.remember(FOLDER, {}, forget=tuple(fresh))
    said = "the fleet runs the new release"
    if behind:
        said += f"; not on {fold(behind)}, which a deploy takes up"
    missed = move_last_good(options, inventory, hosts)
    book.put(settled=True)
    if not missed:  # or what the tag means would be kept in the place of what is good now
        retain(options, book)
    book.end("promoted", f"{said}; {missed}" if missed else said)
    return 0


def _undo(options: Options, hosts: Sequence[Host], book: Book, standing: Standing) -> None:
    """A night that failed leaves hosts as they were, and of what it built no more than any other."""
    with book.phase("restore"):
        put_back(options, hosts, book, standing)
    retain(options, book)


def _keep(options: Options, book: Book, decision: plan.Decision) -> int:
    """Nothing is new: is the fleet still as the last good night left it, and does it answer?"""
    with book.phase("verify") as phase:
        differs = show_strays(options)
        silent = verify(options, accept=False)
        phase["ok"] = not (differs or silent)
    if differs or silent:
        word = "does not answer as it should" if silent else "differs from the last good release"
        retain(options, book)
        book.end("drift", f"{decision.why}, and the fleet {word}: invoke drift, invoke verify")
        return 1
    retain(options, book)
    book.end("kept", f"{decision.why}; the fleet is as it should be")
    return 0


def _check(
    options: Options, inventory: Inventory, hosts: Sequence[Host], canaries: tuple[str, ...], *, force: bool
) -> int:
    old, stock = look(options, inventory, hosts, None)
    decision = plan.decide(old, keys_of(stock.found), nights.failed(FOLDER), force=force)
    report.show_decision(decision, canaries, nightly_of(inventory), [one.why for one in stock.found])
    return 0


def _canaries(inventory: Inventory, hosts: Sequence[Host]) -> tuple[str, ...]:
    wanted = nightly_of(inventory).canary
    names = [host.name for host in hosts]
    if isinstance(wanted, int):
        away = read_quarantine(ROOT)  # one that nobody can reach proves nothing, and would fail every night
        return tuple([name for name in names if name not in away][:wanted] or names[:wanted])
    chosen = [host.name for host in select(inventory, wanted) if host.name in names]
    if not chosen:
        raise UsageError(f"fleet.nightly.canary {wanted!r} names none of the {len(names)} hosts that take part")
    return tuple(chosen)


def _page(book: Book) -> None:
    try:
        night_page.write(
            nights.read(book.path / "report.json"),
            nights.nights(FOLDER, str(book.document["inventory"])),
            book.path / "report.html",
        )
    except OSError as error:
        terminal.event("nightly", f"the report's page could not be written: {error}")


def _hook(command: Sequence[str], book: Book) -> None:
    """The report as JSON on its standard input; its failure is said and fails no night."""
    if not command:
        return
    text = (book.path / "report.json").read_bytes()
    try:
        done = subprocess.run(command, input=text, capture_output=True, check=False, timeout=120)
        said = f"exited with {done.returncode}" if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if said:
        book.put(hook=said)
        terminal.event("hook", f"{command[0]}: {said}")
