"""Candidates of a run that was cut off, when they are not what is wanted now: taken for what they are, or dropped. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from fleet.serving.inspection import KEPT, Inspection, replica_of
from fleet.serving.planning import Work, differences, stopped
from fleet.serving.spec import LABEL
from fleet.serving.steps import Change, Remove, Rename, SaveLogs, SetRestart, Start, Step


def clear_candidates(work: Work) -> None:
    """Before replicas are planned, and of all replicas before the first of them is: a candidate may hold another one's GPUs.

    Where there is one replica alone, its candidate is stopped in its own change (`work.dropped`), whose undo brings back what
    the candidate had replaced to the very end.
    """
    candidates = [one for one in work.real.values() if one.candidate]
    alone = len(work.wanted) == len(candidates) == 1
    for candidate in candidates:
        spec = work.wanted.get(replica_of(candidate))
        if spec is None:
            if (
                work.prune and candidate.service not in work.aside
            ):  # before it can be taken for something that served, and be put back
                why = "no service wants it"
                work.changes.append(Change(candidate.name, why, _drop(work, candidate, why)))
            continue
        current = work.real.get(spec.name)
        settled = current is not None and current.owned and not differences(spec, current, work.written)
        if not settled and not differences(spec, candidate, work.written):
            continue
        if _proved(work, candidate):
            _finish(work, candidate)
            continue
        reason = "left over by an earlier run, the serving one is right" if settled else "left over by an earlier run"
        back = tuple(_put_back(work, candidate))
        steps = _drop(work, candidate, reason)
        if alone:
            work.dropped[spec.name] = steps
        else:
            work.changes.append(Change(candidate.name, reason, steps, undo=back))


def _proved(work: Work, candidate: Inspection) -> bool:
    """Did it answer before its run was cut off, and does nothing else serve in its place?

    It gets its restart policy only then. One whose policy is "no" cannot be told from one that has not answered yet.
    """
    old = [work.real[held.name] for held in candidate.replaces if held.name in work.real]
    current = work.real.get(replica_of(candidate))
    return (
        candidate.state == "running"
        and candidate.restart == candidate.policy != "no"
        and not any(one.alive for one in old)
        and (current is None or current in old)
    )


def _finish(work: Work, candidate: Inspection) -> None:
    """Give it its name, as the run that was cut off was about to: it is what serves now, and is replaced like any other."""
    why = "it had answered when an earlier run was cut off"
    name = replica_of(candidate)
    current, previous = work.real.get(name), work.real.get(name + KEPT)
    keeps = current is not None and current.owned and previous is None and _other_release(current, candidate)
    steps: list[Step] = [
        Remove(held.name, why)
        for held in candidate.replaces
        if held.name in work.real and not (keeps and held.name == name)
    ]
    if keeps:
        steps.append(Rename(name, name + KEPT, "kept stopped, for a roll-back"))
    steps.append(Rename(candidate.name, name, why))
    for held in candidate.replaces:
        old = work.real.pop(held.name, None)
        if old is not None and keeps and held.name == name:
            work.real[name + KEPT] = replace(old, name=name + KEPT)
    del work.real[candidate.name]
    work.real[name] = replace(candidate, name=name)
    work.changes.append(Change(candidate.name, why, (), tuple(steps)))


def _other_release(one: Inspection, other: Inspection) -> bool:
    release = f"{LABEL}release"
    return one.labels.get(release) != other.labels.get(release) and one.secrets_file in ("", other.secrets_file)


def _put_back(work: Work, candidate: Inspection) -> Iterator[Step]:
    """What served before the candidate was tried, and serves again if this is cut off too."""
    for held in candidate.replaces:
        if held.running and held.name in work.real:
            yield SetRestart(held.name, held.restart, f"{candidate.name} does not replace it any more")
            yield Start(held.name, f"{candidate.name} does not replace it any more")


def _drop(work: Work, candidate: Inspection, why: str) -> tuple[Step, ...]:
    """Nothing about the old ones may be forgotten with it.

    Ours remember their policy by label, and one that stays held is known to have served; a stranger's is given back.
    """
    steps: list[Step] = []
    for held in candidate.replaces:
        old = work.real.get(held.name)
        if old is None:
            continue
        work.held[old.name] = held
        if not old.owned and old.restart != held.restart:
            steps.append(SetRestart(old.name, held.restart, f"{candidate.name} does not replace it any more"))
            work.real[old.name] = replace(old, restart=held.restart)
    steps.append(SaveLogs(candidate.name, why))
    if candidate.alive:
        steps[:0] = work.drains.out(candidate, why)  # an earlier run may have put it into its router
        steps += stopped(candidate, why)
    steps.append(Remove(candidate.name, why))
    del work.real[candidate.name]
    return tuple(steps)
