"""One replica: whether its container is the wanted one, and the steps that put another in its place or back. Pure."""

from collections.abc import Iterable

from fleet.serving.command import memory_share
from fleet.serving.diff import Recreate, Update, compare
from fleet.serving.inspection import CANDIDATE, KEPT, Held, Inspection, listening, overlap, replica_of, spec_gpus
from fleet.serving.planning import Work, back_in, differences, free_vram, grace, held_as, needed, prove, remember
from fleet.serving.spec import LABEL, ContainerSpec
from fleet.serving.steps import (
    Change,
    Create,
    Remove,
    Rename,
    SaveLogs,
    SetRestart,
    Start,
    Step,
    Stop,
    Verify,
    Wait,
    WriteSecrets,
)


def plan_replica(work: Work, spec: ContainerSpec) -> None:
    """Add to `work` what makes the wanted replica serve, or why that cannot be."""
    current = work.real.get(spec.name)
    if current is not None and not current.owned and spec.name not in work.take_over:
        work.problems.append(_foreign(current, f"has the name of {spec.service}'s container"))
        return
    found = differences(spec, current, work.written) if current is not None else ()
    if current is not None and current.owned and not found:
        _settled(work, spec, current)
        return
    candidate = work.real.get(spec.name + CANDIDATE)
    if current is None:
        why = f"no container of {spec.name} is there"
    else:
        why = "; ".join(map(str, found)) if current.owned else f"takes over {current.name}"
    _replace(work, spec, current, candidate, why)


def _settled(work: Work, spec: ContainerSpec, current: Inspection) -> None:
    """The right container: at most its policy and its state are wrong."""
    steps: list[Step] = []
    why: list[str] = []
    dropped = work.dropped.pop(spec.name, ())
    verdict = compare(spec, current)
    if isinstance(verdict, Update | Recreate):
        why += map(str, verdict.differences)
        steps.append(SetRestart(spec.name, spec.restart, why[0]))
    blockers: list[Inspection] = []
    undo: list[Step] = []
    if current.state != "running":
        blockers = _blockers(work, spec)
        down = f"it is {current.state}" + (f" with exit code {current.exit_code}" if current.exit_code else "")
        why.append(down)
        if current.alive:
            steps.append(Stop(spec.name, grace(current), down))
        for old in blockers:
            steps[:0] = work.drains.out(old, f"{spec.name} takes its place")
            steps.append(Stop(old.name, grace(old), f"it holds the port or GPUs of {spec.name}"))
            undo += [Start(old.name, f"{spec.name} did not answer")]
        for old in blockers:
            undo += back_in(work, old, f"{spec.name} did not answer")
        if current.alive or blockers or spec.name in work.held:
            steps.append(free_vram(spec, "something was stopped on these GPUs", memory_share(spec.arguments)))
        steps.append(Start(spec.name, down))
        steps += prove(work, spec, spec.name)
        if undo:
            freed = free_vram(spec, f"{spec.name} was stopped", needed(blockers))
            undo[:0] = [Stop(spec.name, spec.stop_timeout, "it did not answer"), freed]
        undo.insert(0, SaveLogs(spec.name, "it did not answer"))
    out = current.state != "running" or spec.name in work.drained
    back = work.drains.back(spec, "it has answered") if out else ()
    if back and current.state == "running":
        why.append("an earlier run left it out of its router")
        steps.append(Wait(spec.name, spec.service, spec.port, why[-1]))
        steps.append(Verify(spec.name, spec.service, spec.port, "only an answer proves that it serves"))
    if dropped:
        why.append("an earlier run left a candidate")
        steps[:0] = dropped
        if current.state != "running":
            undo.append(Start(spec.name, "it is what is wanted"))
    if not steps:
        work.kept.append(f"{spec.name}: runs {spec.image.release} as wanted")
        return
    started = (remember(spec, "; ".join(why)),) if current.state != "running" else ()
    commit = (*started, *back, *(Remove(old.name, f"{spec.name} serves in its place") for old in blockers))
    work.changes.append(Change(spec.name, "; ".join(why), tuple(steps), commit, tuple(undo)))
    for old in blockers:
        del work.real[old.name]


def _replace(
    work: Work, spec: ContainerSpec, current: Inspection | None, candidate: Inspection | None, why: str
) -> None:
    """Create (or take up again) NAME-new, and put it in the place of all that stand in its way."""
    name = spec.name + CANDIDATE
    known = {held.name: held for held in candidate.replaces} if candidate else {}
    old = [work.real[held] for held in known if held in work.real]
    blockers = [*old, *([current] if current and current not in old else [])]
    blockers += [one for one in _blockers(work, spec, frozenset(known)) if one not in blockers]
    held = tuple(known.get(one.name) or work.held.get(one.name) or held_as(one) for one in blockers)
    steps: list[Step] = list(work.dropped.pop(spec.name, ()))
    for one in blockers:
        steps += work.drains.out(one, f"{name} replaces it")
    if spec.secrets_file and spec.secrets_file not in work.written:
        steps.append(WriteSecrets(spec.service, spec.secrets_file, "the values are new or have changed"))
    previous = work.real.get(spec.name + KEPT)
    if candidate is None:
        if previous is not None and not previous.alive and not differences(spec, previous, work.written):
            steps.append(Rename(previous.name, name, "it has run as just this before"))
            del work.real[previous.name]
            previous = None
        else:
            steps.append(Create(spec, name, held, why))
    for one in blockers:
        reason = f"{name} replaces it"
        if one.restart != "no":
            steps.append(SetRestart(one.name, "no", f"{reason}; a reboot must not start both"))
        if one.alive:
            steps.append(Stop(one.name, grace(one), reason))
    if candidate is None or candidate.state != "running":
        if blockers:
            steps.append(free_vram(spec, "the next start needs the memory back", memory_share(spec.arguments)))
        steps.append(Start(name, why))
    steps += prove(work, spec, name)
    commit: list[Step] = [remember(spec, why)]
    if (candidate is None or candidate.restart != spec.restart) and spec.restart != "no":
        commit.append(SetRestart(name, spec.restart, "it has answered"))
    commit += work.drains.back(spec, "it has answered")
    keeps = current is not None and current in blockers and _worth_keeping(spec, current, previous)
    commit += [
        Remove(one.name, f"{name} has answered in its place") for one in blockers if one is not current or not keeps
    ]
    if keeps:
        if previous is not None and previous not in blockers:
            commit.append(Remove(previous.name, f"{spec.name} is kept instead"))
        commit.append(Rename(spec.name, spec.name + KEPT, "kept stopped, for a roll-back"))
    commit.append(Rename(name, spec.name, "it has answered"))
    said = why if candidate is None else f"taken up where an earlier run was cut off: {why}"
    work.changes.append(Change(spec.name, said, tuple(steps), tuple(commit), _put_back(work, spec, held, blockers)))
    for one in blockers:
        work.real.pop(one.name, None)


def _worth_keeping(spec: ContainerSpec, current: Inspection, previous: Inspection | None) -> bool:
    """Is it a release before that served? Not with secrets that are no more, nor where it had replaced a stranger:
    its label would have that one replaced again.
    """
    return (
        current.owned
        and held_as(current).running
        and current.labels.get(f"{LABEL}release") != spec.image.release
        and current.secrets_file in ("", spec.secrets_file)
        and all(held.name == spec.name for held in current.replaces)
        and (previous is None or previous.owned)
    )


def _put_back(
    work: Work, spec: ContainerSpec, held: Iterable[Held], blockers: Iterable[Inspection]
) -> tuple[Step, ...]:
    name = spec.name + CANDIDATE
    failed = f"{name} did not prove itself"
    steps: list[Step] = [SaveLogs(name, failed), Stop(name, spec.stop_timeout, failed)]
    by_name = {one.name: one for one in blockers}
    returning = [by_name[one.name] for one in held if one.running and one.name in by_name]
    steps.append(free_vram(spec, f"{name} was stopped", needed(returning)))
    # Before the candidate goes, because its label is the record of what to give back.
    steps += [SetRestart(one.name, one.restart, failed) for one in held]
    steps += [Start(one.name, f"put back: {failed}") for one in held if one.running]
    steps.append(Remove(name, failed))
    steps += [
        Wait(one.name, by_name[one.name].service, by_name[one.name].port, "put back")
        for one in held
        if one.running and by_name[one.name].owned
    ]
    for old in returning:
        steps += work.drains.back_old(old, f"it serves again: {failed}")
    return tuple(steps)


def _blockers(work: Work, spec: ContainerSpec, known: frozenset[str] = frozenset()) -> list[Inspection]:
    """Living containers on the port or the GPUs of this replica that may be replaced; the others are problems.

    `known` are those that a candidate already replaces. A stranger that merely may use our GPUs is only said: metrics
    exporters have every device and use none; preflight names the processes that really hold one.
    """
    found = []
    for one in work.real.values():
        if not one.alive or one.name in known or (replica_of(one) == spec.name and not one.kept):
            continue
        reasons = []
        if spec.port in listening(one) and (spec.network == "host" or spec.published):
            reasons.append(f"port {spec.port}")
        if overlap(spec_gpus(spec), one.gpus):
            reasons.append("GPUs")
        if not reasons:
            continue
        holds = f"holds the {' and the '.join(reasons)} of {spec.name}"
        if one.owned and replica_of(one) in work.wanted:
            other = work.wanted[replica_of(one)]
            if one.kept or differences(other, one, work.written):
                found.append(one)
            else:
                work.problems.append(f"{one.name} {holds}, though it runs as wanted: two services want the same")
        elif one.owned and one.service in work.aside:
            work.problems.append(f"{one.name} {holds} and belongs to {one.service}, which is left as it is here")
        elif one.owned and work.prune:
            found.append(one)
        elif one.owned:
            work.problems.append(f"{one.name} {holds} and belongs to no service any more: run again with --prune")
        elif one.name in work.take_over:
            found.append(one)
        elif reasons == ["GPUs"]:
            work.notes.append(f"{one.name} is not ours and may use the GPUs of {spec.name} too")
        else:
            work.problems.append(_foreign(one, holds))
    return found


def _foreign(one: Inspection, holds: str) -> str:
    line = one.command_line
    shown = line if len(line) <= 160 else f"{line[:157]}..."
    return f"container {one.name} is not ours and {holds}; it runs `{shown}`: stop it, or --take-over {one.name}"
