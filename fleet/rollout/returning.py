"""Hosts that could not be reached and answer at last."""

from collections.abc import Sequence

from fleet.errors import HostError, UnreachableError
from fleet.rollout.looks import survey
from fleet.rollout.run import Outcome, going, site_of
from fleet.rollout.scene import Scene
from fleet.transport import fan_out


def come_back(scene: Scene, names: Sequence[str]) -> tuple[str, ...]:
    """Try them once more; those that answer, are fit and could be claimed. What was done on them before is kept."""
    run, claims = scene.run, scene.claims
    before = {name: scene.found[name] for name in names}
    for name, outcome in survey(run, [scene.hosts[name] for name in names]).items():
        scene.found[name] = _with(outcome, before[name])
    back = going({name: scene.found[name] for name in names})
    renewed = fan_out([site_of(one).host for one in back], lambda host: _claim(scene, host.name), forks=run.forks)
    for name, result in renewed.items():
        if isinstance(result, HostError):
            scene.found[name].error = result
    back = [one for one in back if one.error is None]
    sessions = {one.host: site_of(one).session for one in back if site_of(one).plan.changed}
    for name, error in claims.take(sessions, forks=run.forks, wait=0, say=run.say).items():
        scene.found[name].error = error
    for one in back:
        if one.error is None:
            run.say(one.host, "answers now")
    return tuple(one.host for one in back if one.error is None)


def _claim(scene: Scene, name: str) -> None:
    """A lock that went with the old connection."""
    scene.claims.again(site_of(scene.found[name]).session)


def _with(outcome: Outcome, before: Outcome) -> Outcome:
    outcome.changed += before.changed
    outcome.deeds += before.deeds
    outcome.findings += before.findings
    outcome.warnings += before.warnings
    if before.site is not None and all(isinstance(one.error, UnreachableError) for one in (before, outcome)):
        outcome.error = before.error  # how it was lost says more than that it is still away
    return outcome
