"""Carrying fixes out on one host, over its open session; nothing counts as changed before a fresh look agrees."""

import io
import shlex
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial

from fleet.errors import HostError
from fleet.facts import Facts, collect
from fleet.preflight import Finding, check, needs_of
from fleet.prepare.fix import BACKUP, Edit, Fix, NotEditableError
from fleet.prepare.plan import plan
from fleet.seam import Bare, Seam
from fleet.transport import Session

LOAD = 300.0  # seconds without a word: a driver that finds eight GPUs takes its time
ROUNDS = 2  # the driver brings devices, and these bring findings of their own
ABSENT, LINKED = 44, 45
READ = f'[ -L "$1" ] && exit {LINKED}; [ -e "$1" ] || exit {ABSENT}; stat -c %a "$1" && cat "$1"'
KEEP = f"""
n=1
while [ -e "$1{BACKUP}.$n" ] && ! cmp -s "$1" "$1{BACKUP}.$n"; do n=$((n + 1)); done
[ -e "$1{BACKUP}.$n" ] || cp -p "$1" "$1{BACKUP}.$n" && echo "$1{BACKUP}.$n"
"""

Say = Callable[[str], None]


def look(session: Session, *, clock: Callable[[], float] = time.time) -> tuple[Facts, tuple[Finding, ...]]:
    """What the host says of itself now, and what preflight finds in it."""
    before = clock()
    facts = collect(session, needs_of(session.host, None, before))
    return facts, check(facts, needs_of(session.host, None, (before + clock()) / 2))


def make_ready(
    session: Session,
    seam: Seam | None = None,
    *,
    only: Collection[str] = (),
    say: Say = lambda _line: None,
    clock: Callable[[], float] = time.time,
) -> int:
    """Look, plan and carry out, until a plan is empty; returns how many fixes changed something. Raises HostError."""
    changed = 0
    for _ in range(ROUNDS):
        facts, findings = look(session, clock=clock)
        fixes = plan(findings, facts, session.host.settings, only=only)
        if not fixes:
            break
        changed += carry_out(fixes, session, seam or Bare(), say=say, clock=clock)
    return changed


def carry_out(
    fixes: Sequence[Fix],
    session: Session,
    seam: Seam,
    *,
    say: Say = lambda _line: None,
    clock: Callable[[], float] = time.time,
) -> int:
    """Do every fix, then read the facts again; returns how many findings are gone by it.

    A fix that fails leaves its files as they were and does not keep the others from being done. `say` hears how each is
    undone. Raises HostError that names every fix that failed or whose finding is still there.
    """
    if not fixes:
        return 0
    failed: dict[str, HostError] = {}
    done: list[Fix] = []
    for fix in fixes:
        try:
            seam.perform(session.host.name, fix, partial(_do, fix, session, say))
            done.append(fix)
        except HostError as error:
            if not session.alive:
                raise
            failed[fix.what] = error
    facts, findings = look(session, clock=clock)
    again = plan(findings, facts, session.host.settings)
    evidence = {finding.id: finding.evidence for finding in findings}
    for fix in done:
        others = any(one.finding == fix.finding for one in again)
        if fix.what in {one.what for one in again} or (fix.finding in evidence and not others):
            still = f"it was done, and a fresh look still finds: {evidence.get(fix.finding, fix.why)}"
            failed[fix.what] = HostError(session.host.name, still)
    if failed:
        raise _together(session.host.name, failed)
    return len(done)


def _do(fix: Fix, session: Session, say: Say) -> None:
    """Edits, then commands. When one fails, the files are put back before the error goes on."""
    back: list[tuple[str, ...]] = []
    try:
        for edit in fix.edits:
            _edit(fix, edit, session, back)
        for command in fix.commands:
            session.run(command, sudo=True, timeout=LOAD)
    except HostError:
        if session.alive:
            for command in reversed(back):
                session.run(command, sudo=True, check=False)
        raise
    undo = (*reversed(back), *fix.undo)
    say(f"{fix.what}: done; to undo it: {'; '.join(map(shlex.join, undo))}" if undo else f"{fix.what}: done")
    if fix.note:
        say(f"{fix.what}: {fix.note}")


def _edit(fix: Fix, edit: Edit, session: Session, back: list[tuple[str, ...]]) -> None:
    """Write the file if it has to change; `back` is given the command that puts it back, before it is written.

    The copy of what was there stays where a cut connection ends this, and is found again by the next run.
    """
    host, path = session.host.name, edit.path
    found = session.run(("sh", "-c", READ, "sh", path), sudo=True, check=False)
    if not found.ok and found.exit_code != ABSENT:
        why = "is a link, which somebody else keeps" if found.exit_code == LINKED else "cannot be read"
        raise HostError(host, f"could not {fix.what}: {path} {why}", tail=found.tail(), hint=f"by hand: {edit.says}")
    mode, _, before = found.stdout.partition("\n") if found.ok else ("644", "", "")
    try:
        if "\ufffd" in before:
            raise NotEditableError("is not UTF-8 text")
        after = edit.edited(before)
    except NotEditableError as error:
        raise HostError(host, f"could not {fix.what}: {path} {error}", hint="it was left as it is") from error
    if found.ok and after == before:
        return
    if found.ok:
        kept = session.run(("sh", "-c", KEEP, "sh", path), sudo=True).stdout.strip()
        back.append(("mv", "-f", kept, path))
    else:
        session.run(("mkdir", "-p", path.rpartition("/")[0]), sudo=True)
        back.append(("rm", "-f", path))
    session.upload(io.BytesIO(after.encode()), path, mode=int(mode, 8), sudo=True)


def _together(host: str, failed: dict[str, HostError]) -> HostError:
    if len(failed) == 1:
        ((what, error),) = failed.items()
        return HostError(host, f"{what}: {error.message}", hint=error.hint, tail=error.tail)
    told = "; ".join(f"{what}: {error.message}" for what, error in failed.items())
    return HostError(host, f"{len(failed)} fixes failed: {told}", hint="invoke preflight shows what is open")
