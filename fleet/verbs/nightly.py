"""`nightly` and `promote`: build when something is new, prove it on a canary, then the rest; else all stays as it was."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fleet import calendar
from fleet.errors import FleetError, UsageError
from fleet.inventory import select
from fleet.inventory.model import Host, Inventory
from fleet.inventory.settings import Nightly
from fleet.journal import redactor_for
from fleet.nightly import nights, plan
from fleet.nightly.nights import Book
from fleet.options import Options
from fleet.report import night_page, terminal
from fleet.report import nightly as report
from fleet.report.night_words import serves
from fleet.rollout.leftout import read_quarantine
from fleet.rollout.seen import remembered
from fleet.verbs import secrets
from fleet.verbs.common import ROOT, in_maintenance, inventory_and_hosts, serving
from fleet.verbs.night import FOLDER, Scene, night, rest
from fleet.verbs.night_hosts import held
from fleet.verbs.night_images import foreign, last_good, look
from fleet.verbs.nightly_timer import nightly_of


def nightly(options: Options, *, force: bool) -> int:
    """One night, from looking upstream to the report."""
    inventory, chosen = inventory_and_hosts(options)
    hosts, settings = serving(chosen), nightly_of(inventory)
    if options.check:
        return _check(options, inventory, hosts, settings, force=force)
    with nights.alone(inventory.lock_path):
        name = str(inventory.sources[0].resolve())
        before = nights.nights(FOLDER, name)
        if before and not before[-1].result:
            _page(before[-1].id)  # it was killed, and wrote none
        book = Book.begin(FOLDER, name, calendar.now(), redactor_for(hosts))
        with _closing(settings, book, hosts):
            left = {**in_maintenance(inventory, inventory.hosts.values())}
            kept = {name: before[-1].document.get(name, []) if before else [] for name in ("owed", "good")}
            book.put(hosts=[host.name for host in hosts], left_out=left, **kept)
            canaries = _fit(inventory, hosts, settings)
            book.put(canaries=list(canaries))
            with held(options, hosts, book.id) as hold:
                return night(Scene(options, inventory, hosts, book, hold), canaries, before, force=force)


def promote(options: Options) -> int:
    """The rest of the fleet, for a night that waits. Raises UsageError where none does."""
    inventory, chosen = inventory_and_hosts(options)
    hosts, settings = serving(chosen), nightly_of(inventory)
    secrets.require(hosts)
    with nights.alone(inventory.lock_path):
        waits = nights.unsettled(nights.nights(FOLDER, str(inventory.sources[0].resolve())))
        if waits is None or waits.result != "waiting":
            raise UsageError("no night waits to be promoted", hint="invoke nightly.status")
        book = Book.again(FOLDER, waits, redactor_for(hosts))
        if foreign(options, inventory, hosts, book):
            raise UsageError("the inventory asks for other images than that night proved", hint="invoke nightly")
        with held(options, hosts, book.id) as hold:
            book.put(result="", said="", next="")
            with _closing(settings, book, hosts):
                return rest(Scene(options, inventory, hosts, book, hold))


@contextmanager
def _closing(settings: Nightly, book: Book, hosts: Sequence[Host]) -> Iterator[None]:
    """Whatever ends the night, its report says so; then old ones go, and the hook hears of it."""
    try:
        yield
    except FleetError as error:
        book.put(next=error.hint)
        book.end("failed", _with_left(book, error.message))
        raise
    except KeyboardInterrupt:
        book.end("interrupted", _with_left(book, "it was interrupted; the next night begins it again"))
        raise
    except Exception as error:
        book.end("failed", _with_left(book, f"a mistake in fleet: {type(error).__name__}: {error}"))
        raise
    finally:
        changed = remembered(ROOT, hosts).items()
        told = {name: [{"subject": one.subject, "what": one.what} for one in of] for name, of in changed}
        book.put(changed=told, serves=serves(book.document))
        _page(book.id)
        nights.keep(FOLDER, str(book.document["inventory"]), settings.keep)
        _hook(settings.hook, book)
        report.show_night(book.document, book.path)


def _with_left(book: Book, said: str) -> str:
    left = book.document.get("not_back") or ()
    return "; ".join([*left, said])


def _fit(inventory: Inventory, hosts: Sequence[Host], settings: Nightly) -> tuple[str, ...]:
    """The canaries, where all that a night needs of the inventory is there. Raises FleetError."""
    if not hosts:
        raise UsageError("no selected host serves anything")
    secrets.require(hosts)
    return _canaries(inventory, hosts, settings)


def _check(options: Options, inventory: Inventory, hosts: Sequence[Host], settings: Nightly, *, force: bool) -> int:
    canaries = _fit(inventory, hosts, settings)
    failed = nights.failed(FOLDER)
    good = last_good(options, inventory, hosts)
    found = look(options, inventory, hosts, None, () if force else failed)
    decision = plan.decide(
        {name: one.key for name, one in good.items()}, found.new, failed, force=force, spared=found.spared
    )
    report.show_decision(decision, canaries, settings, [one.why for one in found.stock.found])
    return 0


def _canaries(inventory: Inventory, hosts: Sequence[Host], settings: Nightly) -> tuple[str, ...]:
    wanted = settings.canary
    names = [host.name for host in hosts]
    if isinstance(wanted, int):
        away = read_quarantine(ROOT)  # one that nobody can reach proves nothing, and would fail every night
        return tuple([name for name in names if name not in away][:wanted] or names[:wanted])
    chosen = [host.name for host in select(inventory, wanted) if host.name in names]
    if not chosen:
        raise UsageError(f"fleet.nightly.canary {wanted!r} names none of the {len(names)} hosts that take part")
    return tuple(chosen)


def _page(name: str) -> None:
    """The night as a page, with the nights before it."""
    document = nights.read(FOLDER / name / "report.json")
    past = [one for one in nights.nights(FOLDER, str(document["inventory"])) if one.id <= name]
    try:
        night_page.write(document, past, FOLDER / name / "report.html")
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
