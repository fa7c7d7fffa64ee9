"""Desired specs and real containers -> steps. Pure, and aware of every half state a killed controller leaves.

A new container is created beside the old one under NAME-new with restart=no, and carries in a label what it
replaces. Then the old ones are held (restart=no) and stopped, the new one is started, waited for and verified. Only
then the old ones go and the new one takes the name. So NAME-new always means "not proved yet", and a held container
is one that has to come back if its successor fails. The container of the release before stays as NAME-previous, stopped
and with restart=no, and a roll-back starts it again; there is never more than one of it.
"""

from collections.abc import Iterable

from fleet.serving.draining import NONE, Drains
from fleet.serving.inspection import Inspection, replica_of
from fleet.serving.planning import Work, stopped
from fleet.serving.replacing import plan_replica
from fleet.serving.spec import ContainerSpec
from fleet.serving.stale import clear_candidates
from fleet.serving.steps import Change, Remove, ServingPlan, Step


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
    work = Work(
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
    clear_candidates(work)
    for spec in wanted.values():
        plan_replica(work, spec)
    _orphans(work)
    problems = tuple(dict.fromkeys(work.problems))
    return ServingPlan(tuple(work.changes), tuple(work.kept), tuple(work.notes), problems)


def plan_stop(found: Iterable[Inspection], services: frozenset[str], drains: Drains = NONE) -> ServingPlan:
    """Stop the containers of these services (all where empty); they stay, and the next deploy starts them again."""
    mine = [one for one in found if one.owned and (not services or one.service in services)]
    ours = [one for one in mine if one.alive or not one.kept]
    changes = tuple(
        Change(
            one.name,
            "asked to stop",
            (*drains.out(one, "asked to stop"), *stopped(one, "asked to stop")),
            undo=drains.back_old(one, "it was not stopped"),
        )
        for one in ours
        if one.alive
    )
    return ServingPlan(changes, tuple(f"{one.name}: already stopped" for one in ours if not one.alive))


def _orphans(work: Work) -> None:
    """Ours, but of no service that is wanted here."""
    for one in list(work.real.values()):
        if not one.owned or replica_of(one) in work.wanted or one.service in work.aside:
            continue
        if not work.prune:
            work.notes.append(f"{one.name} ({one.state}) belongs to no service here: --prune removes it")
        else:
            why = "no service wants it"
            steps: list[Step] = [*work.drains.out(one, why), *stopped(one, why)] if one.alive else []
            steps.append(Remove(one.name, "no service wants it"))
            work.changes.append(Change(one.name, "no service wants it", tuple(steps)))
            del work.real[one.name]
