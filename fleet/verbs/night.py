"""What a night does between its first look and its result; whatever goes wrong, hosts go back to what they ran."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fleet.errors import FleetError, no_connection
from fleet.image import lock as locks
from fleet.image.build import BuildError
from fleet.image.smoke import SmokeError
from fleet.inventory.model import Host, Inventory
from fleet.nightly import nights, plan
from fleet.nightly.nights import Book, Night
from fleet.options import Options
from fleet.report import terminal
from fleet.report.hosts import fold
from fleet.verbs.common import ROOT
from fleet.verbs.drift import strays
from fleet.verbs.night_hosts import Held
from fleet.verbs.night_images import good_now, good_ones, last_good, look, make, move_last_good
from fleet.verbs.night_news import news
from fleet.verbs.night_prune import retain
from fleet.verbs.night_rolls import FailedError, catch_up, promise, put_back, standing_of, tried
from fleet.verbs.nightly_timer import nightly_of
from fleet.verbs.services import unanswered

FOLDER = ROOT / "nights"


@dataclass(frozen=True)
class Scene:
    """What all steps of a night share."""

    options: Options
    inventory: Inventory
    hosts: tuple[Host, ...]
    book: Book
    held: Held

    def owes(self, names: Sequence[str]) -> None:
        """Hosts that lack the last good release, which a later night brings them."""
        self.book.put(owed=[name for name in dict.fromkeys(names) if name in self.inventory.hosts])


def night(scene: Scene, canaries: tuple[str, ...], past: Sequence[Night], *, force: bool) -> int:
    """From looking upstream to what came of it."""
    book, unended = scene.book, nights.unsettled(past)
    now, standing, decision = _look(scene, past, unended, force=force)
    if decision.kind != plan.BUILD:
        if unended:  # one that came to no end, or that waited, has left something on its canaries
            restore(scene, standing)
        book.put(settled=not book.document.get("not_back"))
        caught = _catch_up(scene)
    if decision.kind == plan.HELD:
        retain(scene.options, book)
        book.end("held", f"{decision.why}{caught}")
        return 1
    if decision.kind == plan.KEPT:
        return _keep(scene, decision, caught)
    carried = unended.document.get("pace") if unended else None
    with _undoing(scene, standing):
        with book.phase("build"):
            make(scene.options, scene.inventory, scene.hosts, book)
        with book.phase("canary") as phase:
            scene.held.check()
            before = carried if isinstance(carried, dict) else {}
            tried(scene.options, scene.hosts, canaries, book, phase, now, before, nights.good_paces(past))
    if nightly_of(scene.inventory).promote == "manual":
        retain(scene.options, book)
        book.end("waiting", f"well on {fold(canaries)}; invoke promote brings it to the rest")
        return 0
    return rest(scene)


def rest(scene: Scene) -> int:
    """All hosts, and only then the lock and last-good."""
    book, fresh = scene.book, scene.book.fresh
    with _undoing(scene, book.document["before"]), book.phase("promote") as phase:
        scene.held.check()
        behind = promise(scene.options, scene.hosts, book, phase)
    locks.write(scene.inventory.lock_path, locks.read(book.lock))
    nights.remember(FOLDER, {}, forget=tuple(fresh))
    brought = [str(one["release"]) for one in book.document.get("images", ()) if one["release"] != one.get("before")]
    said = f"the fleet runs the new release {', '.join(brought)}"
    if behind:
        said += f"; not on {fold(behind)}, which a later night or a deploy brings it to"
    spared = book.document.get("spared")
    if spared:
        said += f"; {', '.join(spared)} stays as it was, for what it would be now failed before"
    out = [name for name in book.document.get("left_out", {}) if scene.inventory.hosts[name].settings.services]
    scene.owes([*behind, *out])
    missed = move_last_good(scene.options, scene.inventory, scene.hosts)
    book.put(settled=True, good=good_now(book))
    if not missed:  # or what the tag means would be kept in the place of what is good now
        retain(scene.options, book)
    book.end("promoted", f"{said}; {missed}" if missed else said)
    return 0


def restore(scene: Scene, standing: plan.Standing) -> None:
    with scene.book.phase("restore") as phase:
        try:
            scene.held.check()
        except FleetError as error:  # they are another night's now, and so is what runs on them
            phase["ok"] = False
            scene.book.put(not_back=[error.message], settled=False)
            return
        put_back(scene.options, scene.hosts, scene.book, standing, phase)


def _look(
    scene: Scene, past: Sequence[Night], unended: Night | None, *, force: bool
) -> tuple[plan.Standing, plan.Standing, plan.Decision]:
    """What runs, what has to run again if the night fails, and what to do.

    A look that fails has touched nothing: a night that waits waits on, one that came to no end is put back all the same.
    """
    book, now, standing = scene.book, {}, {}
    known: dict[str, Any] = {}
    try:
        with book.phase("look"):
            now = standing_of(scene.options, scene.hosts)
            standing = plan.carried(unended.before, now, unended.brought) if unended else now
            brought = sorted(unended.brought) if unended else []
            known = {"before": standing, "brought": brought, "continues": unended.id if unended else ""}
            book.put(running=standing)
            failed = nights.failed(FOLDER)
            good = last_good(scene.options, scene.inventory, scene.hosts)
            book.put(good=good_ones(good, past) or book.document.get("good", []))
            old = {name: one.key for name, one in good.items()}
            found = look(scene.options, scene.inventory, scene.hosts, book.lock, () if force else failed)
            decision = plan.decide(old, found.new, failed, force=force, spared=found.spared)
            last = next((one for one in reversed(past) if one.result in ("promoted", "kept")), None)
            recipes = last.document.get("recipes") if last else None
            told = news(
                scene.hosts,
                locks.read(scene.inventory.lock_path),
                found.stock.lock,
                recipes if isinstance(recipes, Mapping) else {},
            )
            book.put(**known, **told, keys=found.new, before_keys=old, spared=found.spared)
            book.put(decision=decision.kind, why=decision.why)
            terminal.event("nightly", decision.why)
    except FleetError as error:
        if unended is None or not known:
            raise
        if unended.result == "waiting":
            canaries = fold(tuple(map(str, unended.document.get("canaries", ()))))
            still = f"night {unended.id} still waits for invoke promote, and {canaries} runs its release"
            raise FleetError(f"{error.message}; {still}", hint=error.hint) from error
        book.put(**known)
        restore(scene, standing)
        raise
    return now, standing, decision


@contextmanager
def _undoing(scene: Scene, standing: plan.Standing) -> Iterator[None]:
    """Whatever ends the steps inside, Ctrl-C too, hosts go back; a content key is blamed for what is its doing."""
    book = scene.book
    try:
        yield
    except BaseException as error:
        blamed: Sequence[str] = ()
        if isinstance(error, BuildError | SmokeError):
            blamed = [error.key]
        elif isinstance(error, FailedError):
            blamed = error.blame
        if isinstance(error, BuildError):
            log = {"path": str(error.log), "lines": list(error.tail)}
            book.put(logs=[*book.document.get("logs", []), log])
        cause = book.redact(f"night {book.id}: {error.message}") if isinstance(error, FleetError) else ""
        nights.remember(FOLDER, {key: cause for key in blamed if key in book.fresh})
        restore(scene, standing)
        if isinstance(error, FleetError):
            retain(scene.options, book)
        raise


def _catch_up(scene: Scene) -> str:
    """Hosts that were away when the last good release came get it in a night that brings no other; a clause of who did."""
    book = scene.book
    owed = [name for name in book.document.get("owed", ()) if name in {host.name for host in scene.hosts}]
    if not owed:
        return ""
    with book.phase("catch up") as phase:
        scene.held.check()
        behind = catch_up(scene.options, owed, str(scene.inventory.lock_path), book, phase)
    scene.owes([name for name in book.document["owed"] if name not in owed or name in behind])
    took = [name for name in owed if name not in behind]
    return f"; {fold(took)} took up the last good release" if took else ""


def _keep(scene: Scene, decision: plan.Decision, caught: str) -> int:
    """Nothing is new: the fleet has to be as it says and answer. A host that is down is told, and fails this night as
    little as one that brings a release: of a large fleet one always is, and what is wrong with a release would drown in that.
    """
    book, options = scene.book, scene.options
    with book.phase("verify") as phase:
        found, errors = strays(options), unanswered(options)
        silent = {name: error.message for name, error in errors.items() if not no_connection(error)}
        lost = {name: error.message for name, error in errors.items() if name not in silent}
        away = {name: why for name, why in {**lost, **found.away}.items() if name not in silent}
        nobody = all(host.name in away for host in scene.hosts)
        phase["ok"] = not (found.differs or silent or nobody)
        book.put(drift=list(found.differs), silent=silent, away=away)
    missing = f"; {fold(away)} could not be reached, and how it is there is not known" if away else ""
    if nobody:
        book.end("failed", f"{decision.why}, and no host could be reached to see whether the fleet is as it should be")
        return 1
    retain(options, book)
    if found.differs or silent:
        words = ["differs from the last good release"] if found.differs else []
        words += ["does not answer as it should"] if silent else []
        told = f"{decision.why}, and the fleet {' and '.join(words)}: invoke drift, invoke verify"
        book.end("drift", f"{told}{missing}{caught}")
        return 1
    book.end("kept", f"{decision.why}; {'all else' if away else 'the fleet'} is as it should be{missing}{caught}")
    return 0
