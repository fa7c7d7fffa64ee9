"""Desired specs and real containers -> steps. Pure, and aware of every half state a killed controller leaves.

A new container is created beside the old one under NAME-new with restart=no, and carries in a label what it
replaces. Then the old ones are held (restart=no) and stopped, the new one is started, waited for and verified. Only
then the old ones go and the new one takes the name. So NAME-new always means "not proved yet", and a held container
is one that has to come back if its successor fails. The container of the release before stays as NAME-previous, stopped
and with restart=no, and a roll-back starts it again; there is never more than one of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet.serving.command import memory_share
from fleet.serving.diff import Difference, Recreate, Same, Update, compare
from fleet.serving.draining import NONE, Drains
from fleet.serving.inspection import CANDIDATE, KEPT, Held, Inspection, listening, overlap, replica_of, spec_gpus
from fleet.serving.spec import LABEL, ContainerSpec
from fleet.serving.steps import (
    Change,
    Create,
    FreeVram,
    Remove,
    Rename,
    SaveLogs,
    ServingPlan,
    SetRestart,
    Settle,
    Start,
    Step,
    Stop,
    Verify,
    Wait,
    WriteSecrets,
)

DEFAULT_GRACE = 60  # seconds


@dataclass
class _Work:
    """What planning has found so far; lives only inside `plan`."""

    real: dict[str, Inspection]
    wanted: Mapping[str, ContainerSpec]
    written: frozenset[str]
    prune: bool
    take_over: frozenset[str]
    settle: float
    changes: list[Change]
    kept: list[str]
    notes: list[str]
    problems: list[str]
    held: dict[str, Held]  # what dropped candidates had replaced
    drains: Drains
    aside: frozenset[str]
    drained: frozenset[str]


def plan(
    desired: Iterable[ContainerSpec],
    found: Iterable[Inspection],
    *,
    written: frozenset[str] = frozenset(),
    prune: bool = False,
    take_over: frozenset[str] = frozenset(),
    settle: float = 0.0,
    drains: Drains = NONE,
    aside: frozenset[str] = frozenset(),
    drained: frozenset[str] = frozenset(),
) -> ServingPlan:
    """The steps of one host. `written` are the secrets files that already have the right content there.

    `found` are all containers of the host, stopped and foreign ones too. A replica counts as healthy after `settle`
    seconds. Services in `aside` are left as they are. `drained` replicas were taken out of their router and not put back.
    """
    wanted = {spec.name: spec for spec in desired}
    work = _Work(
        {one.name: one for one in found},
        wanted,
        written,
        prune,
        take_over,
        settle,
        [],
        [],
        [],
        [],
        {},
        drains,
        aside,
        drained,
    )
    work.problems += [
        f"{one.name} was made by a newer fleet (labels of schema {one.newer}): upgrade this one"
        for one in work.real.values()
        if one.newer
    ]
    _drop_stale_candidates(work)
    for spec in wanted.values():
        _replica(work, spec)
    _orphans(work)
    problems = tuple(dict.fromkeys(work.problems))
    return ServingPlan(tuple(work.changes), tuple(work.kept), tuple(work.notes), problems)


def differences(spec: ContainerSpec, real: Inspection, written: frozenset[str]) -> tuple[Difference, ...]:
    """All that keeps a container from being the wanted one, its restart policy aside."""
    verdict = compare(spec, real, restart=False)
    found = () if isinstance(verdict, Same) else verdict.differences
    if real.state in ("dead", "removing"):
        found += (Difference("state", real.state, "running"),)
    if spec.secrets_file and spec.secrets_file not in written and not any(d.what.startswith("mount") for d in found):
        found += (Difference("secrets file", "other or missing content", "the present values"),)
    return found


def plan_stop(found: Iterable[Inspection], services: frozenset[str], drains: Drains = NONE) -> ServingPlan:
    """Stop the containers of these services (all where empty); they stay, and the next deploy starts them again."""
    mine = [one for one in found if one.owned and (not services or one.service in services)]
    ours = [one for one in mine if one.alive or not one.kept]
    changes = tuple(
        Change(
            one.name,
            "asked to stop",
            (*drains.out(one, "asked to stop"), *_stopped(one, "asked to stop")),
            undo=drains.back_old(one, "it was not stopped"),
        )
        for one in ours
        if one.alive
    )
    return ServingPlan(changes, tuple(f"{one.name}: already stopped" for one in ours if not one.alive))


def _stopped(one: Inspection, why: str) -> tuple[Step, ...]:
    stop = Stop(one.name, _grace(one), why)
    if one.gpus is not None and not one.gpus:
        return (stop,)
    return (stop, FreeVram(one.gpus, f"{one.name} was stopped", service=one.service))


def _drop_stale_candidates(work: _Work) -> None:
    """Candidates of a deploy that was cut off, when they are not what is wanted now."""
    for candidate in [one for one in work.real.values() if one.candidate]:
        spec = work.wanted.get(replica_of(candidate))
        if spec is None:
            if (
                work.prune and candidate.service not in work.aside
            ):  # before it can be taken for something that served, and be put back
                _drop(work, candidate, "no service wants it")
            continue
        current = work.real.get(spec.name)
        settled = current is not None and current.owned and not differences(spec, current, work.written)
        if not settled and not differences(spec, candidate, work.written):
            continue
        reason = "left over by an earlier run, the serving one is right" if settled else "left over by an earlier run"
        _drop(work, candidate, reason)


def _drop(work: _Work, candidate: Inspection, why: str) -> None:
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
            work.real[old.name] = _with_policy(old, held.restart)
    steps.append(SaveLogs(candidate.name, why))
    if candidate.alive:
        steps[:0] = work.drains.out(candidate, why)  # an earlier run may have put it into its router
        steps += _stopped(candidate, why)
    steps.append(Remove(candidate.name, why))
    del work.real[candidate.name]
    work.changes.append(Change(candidate.name, why, tuple(steps)))


def _replica(work: _Work, spec: ContainerSpec) -> None:
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


def _settled(work: _Work, spec: ContainerSpec, current: Inspection) -> None:
    """The right container: at most its policy and its state are wrong."""
    steps: list[Step] = []
    why: list[str] = []
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
            steps.append(Stop(spec.name, _grace(current), down))
        for old in blockers:
            steps[:0] = work.drains.out(old, f"{spec.name} takes its place")
            steps.append(Stop(old.name, _grace(old), f"it holds the port or GPUs of {spec.name}"))
            undo += [Start(old.name, f"{spec.name} did not answer")]
        for old in blockers:
            undo += _back_in(work, old, f"{spec.name} did not answer")
        if current.alive or blockers or spec.name in work.held:
            steps.append(_freed(spec, "something was stopped on these GPUs", memory_share(spec.arguments)))
        steps.append(Start(spec.name, down))
        steps += _prove(work, spec, spec.name)
        if undo:
            freed = _freed(spec, f"{spec.name} was stopped", _needed(blockers))
            undo[:0] = [Stop(spec.name, spec.stop_timeout, "it did not answer"), freed]
        undo.insert(0, SaveLogs(spec.name, "it did not answer"))
    out = current.state != "running" or spec.name in work.drained
    back = work.drains.back(spec, "it has answered") if out else ()
    if back and current.state == "running":
        why.append("an earlier run left it out of its router")
        steps.append(Wait(spec.name, spec.service, spec.port, why[-1]))
        steps.append(Verify(spec.name, spec.service, spec.port, "only an answer proves that it serves"))
    if not steps:
        work.kept.append(f"{spec.name}: runs {spec.image.release} as wanted")
        return
    commit = (*back, *(Remove(old.name, f"{spec.name} serves in its place") for old in blockers))
    work.changes.append(Change(spec.name, "; ".join(why), tuple(steps), commit, tuple(undo)))
    for old in blockers:
        del work.real[old.name]


def _replace(
    work: _Work, spec: ContainerSpec, current: Inspection | None, candidate: Inspection | None, why: str
) -> None:
    """Create (or take up again) NAME-new, and put it in the place of all that stand in its way."""
    name = spec.name + CANDIDATE
    known = {held.name: held for held in candidate.replaces} if candidate else {}
    old = [work.real[held] for held in known if held in work.real]
    blockers = [*old, *([current] if current and current not in old else [])]
    blockers += [one for one in _blockers(work, spec, frozenset(known)) if one not in blockers]
    held = tuple(known.get(one.name) or work.held.get(one.name) or _held(one) for one in blockers)
    steps: list[Step] = []
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
            steps.append(Stop(one.name, _grace(one), reason))
    if candidate is None or candidate.state != "running":
        if blockers:
            steps.append(_freed(spec, "the next start needs the memory back", memory_share(spec.arguments)))
        steps.append(Start(name, why))
    steps += _prove(work, spec, name)
    commit: list[Step] = []
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
        and _held(current).running
        and current.labels.get(f"{LABEL}release") != spec.image.release
        and current.secrets_file in ("", spec.secrets_file)
        and all(held.name == spec.name for held in current.replaces)
        and (previous is None or previous.owned)
    )


def _put_back(
    work: _Work, spec: ContainerSpec, held: Iterable[Held], blockers: Iterable[Inspection]
) -> tuple[Step, ...]:
    name = spec.name + CANDIDATE
    failed = f"{name} did not prove itself"
    steps: list[Step] = [SaveLogs(name, failed), Stop(name, spec.stop_timeout, failed)]
    by_name = {one.name: one for one in blockers}
    returning = [by_name[one.name] for one in held if one.running and one.name in by_name]
    steps.append(_freed(spec, f"{name} was stopped", _needed(returning)))
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


def _back_in(work: _Work, old: Inspection, why: str) -> tuple[Step, ...]:
    """For an old container that was started again: it must be seen to serve before requests go there."""
    back = work.drains.back_old(old, why)
    return (Wait(old.name, old.service, old.port, why), *back) if back else ()


def _freed(spec: ContainerSpec, why: str, share: float) -> FreeVram:
    return FreeVram(spec_gpus(spec), why, share, spec.service)


def _needed(returning: Iterable[Inspection]) -> float:
    """What has to be free of each GPU, so that these start again. What a stranger needs is not known."""
    return max((memory_share((*one.entrypoint, *one.arguments)) for one in returning if one.owned), default=0.0)


def _held(one: Inspection) -> Held:
    """A container of ours with restart=no that should have another policy was stopped by us and did serve."""
    return Held(one.name, one.policy, one.alive or (one.restart == "no" and one.policy != "no"))


def _blockers(work: _Work, spec: ContainerSpec, known: frozenset[str] = frozenset()) -> list[Inspection]:
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


def _orphans(work: _Work) -> None:
    """Ours, but of no service that is wanted here."""
    for one in list(work.real.values()):
        if not one.owned or replica_of(one) in work.wanted or one.service in work.aside:
            continue
        if not work.prune:
            work.notes.append(f"{one.name} ({one.state}) belongs to no service here: --prune removes it")
        else:
            why = "no service wants it"
            steps: list[Step] = [*work.drains.out(one, why), *_stopped(one, why)] if one.alive else []
            steps.append(Remove(one.name, "no service wants it"))
            work.changes.append(Change(one.name, "no service wants it", tuple(steps)))
            del work.real[one.name]


def _prove(work: _Work, spec: ContainerSpec, name: str) -> list[Step]:
    steps: list[Step] = [
        Wait(name, spec.service, spec.port, "it was started"),
        Verify(name, spec.service, spec.port, "only an answer proves that it serves"),
    ]
    if work.settle:
        steps.append(Settle(name, spec.service, spec.port, work.settle, "it counts only after it stayed healthy"))
    return steps


def _foreign(one: Inspection, holds: str) -> str:
    line = one.command_line
    shown = line if len(line) <= 160 else f"{line[:157]}..."
    return f"container {one.name} is not ours and {holds}; it runs `{shown}`: stop it, or --take-over {one.name}"


def _grace(one: Inspection) -> int:
    return max(one.stop_timeout, DEFAULT_GRACE if not one.stop_timeout else 1)


def _with_policy(one: Inspection, policy: str) -> Inspection:
    return Inspection(**{**vars(one), "restart": policy})
