"""A play over its hosts: the canaries, then batch after batch, until it is done or has to end."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from fleet.locks import LockedError
from fleet.playbook import Batch, Models
from fleet.report.hosts import fold
from fleet.rollout.assign import Assignment
from fleet.rollout.availability import Budget, NotBegunError
from fleet.rollout.distribute import distribute, relays_of
from fleet.rollout.looks import answer, confirm
from fleet.rollout.models import bring_models
from fleet.rollout.order import Known, order
from fleet.rollout.prepare import mendable, prepare
from fleet.rollout.prune import prune
from fleet.rollout.reach import not_touched, reach_again
from fleet.rollout.replace import cost, serve
from fleet.rollout.returning import come_back
from fleet.rollout.run import Outcome, going, not_reached, site_of
from fleet.rollout.scene import Scene
from fleet.rollout.standings import budget_of

RELAYED = frozenset({"models", "distribute"})  # stages that a relay serves
HARMLESS = frozenset({"models", "distribute", "verify"})  # stages that can be begun again where the connection broke


@dataclass
class _Play:
    """A play under way. `earlier` are the plays before it, `failed` hosts that count for max_fail."""

    scene: Scene
    given: Assignment
    earlier: Sequence[Assignment]
    budget: Budget
    title: str = ""  # where the run has several plays, batches are told with their play's name
    failed: list[str] = field(default_factory=list)
    retried: set[str] = field(default_factory=set)

    def of(self, names: Collection[str]) -> dict[str, Outcome]:
        return {name: self.scene.found[name] for name in names}

    @property
    def allowed(self) -> int:
        return self.given.play.max_fail.of(len(self.given.hosts), "down")

    def fail(self, outcome: Outcome, *, canary: bool) -> None:
        """Count a failed host, and end the play where it may not go on. One that was not reached is no failure."""
        if outcome.host in self.failed or isinstance(outcome.error, NotBegunError) or not_reached(outcome):
            return
        self.failed.append(outcome.host)
        if canary:
            self.budget.end(f"the canary {outcome.host} failed")
        elif len(self.failed) > self.allowed:
            self.budget.end(f"{_hosts(len(self.failed))} failed, and max_fail is {self.given.play.max_fail}")


def conduct(scene: Scene, assignments: Sequence[Assignment]) -> str:
    """Play after play. Returns why it ended early, or empty. Every host's outcome is in `scene.found`."""
    unfit = (_no_canary(scene, one, "is not fit") for one in assignments)
    ended = next(filter(None, unfit), "")
    for number, given in enumerate(assignments):
        if ended:
            _leave(scene.found, given.hosts, ended)
        else:
            ended = _play(scene, given, assignments[:number], several=len(assignments) > 1)
    return ended


def interrupted(scene: Scene, assignments: Sequence[Assignment]) -> None:
    """After Ctrl-C: hosts on which no service had been replaced yet were not begun."""
    plays = Counter(name for one in assignments for name in one.hosts)
    waiting = [name for name, one in scene.found.items() if not one.proofs and scene.through[name] < plays[name]]
    _leave(scene.found, waiting, "interrupted")


def _no_canary(scene: Scene, given: Assignment, how: str) -> str:
    """Why nothing may begin: the pattern's canaries take part, and none of them is fit. Empty where that is not so."""
    named = [name for name in given.hosts if name in given.canaries]
    if not named or any(not _refused(scene, given, name) for name in named):
        return ""
    return f"the canary {fold(named)} {how}"


def _refused(scene: Scene, given: Assignment, name: str) -> bool:
    """Has something been found on the host that keeps it out, before or in an earlier play?"""
    outcome = scene.found[name]
    if outcome.error is None or not_reached(outcome) or isinstance(outcome.error, NotBegunError | LockedError):
        return False
    if name in scene.run.wishes.refused:
        return False  # there is nothing to go back to: that is no fault of the host
    return not (mendable(outcome) and ("prepare" in given.stages or not scene.through))


def _play(scene: Scene, given: Assignment, earlier: Sequence[Assignment], *, several: bool) -> str:
    found = scene.found
    fit = [
        name
        for name in given.hosts
        if found[name].error is None or ("prepare" in given.stages and mendable(found[name]))
    ]
    serves = "serve" in given.stages
    unchanged = {name for name in fit if serves and not site_of(found[name]).plan.serving.changes}
    replacing = {name for name in fit if serves and cost(site_of(found[name]))}
    changing = serves and bool(set(fit) - unchanged)
    budget = budget_of(scene, given.play) if changing else Budget({}, {})
    play = _Play(scene, given, earlier, budget, f"{given.play.name}, " if several else "")
    known = Known(
        new=set(fit) - replacing - unchanged if serves else (),
        unchanged=unchanged,
        serves=bool(replacing or unchanged or sum(budget.serving().values())),
        proved=scene.proved,
    )
    _count_refused(play)
    todo = [] if play.budget.ended else _first(play, fit, known)
    begun: set[str] = set()
    turn = 0
    while turn < len(todo) and not play.budget.ended:
        title, batch = todo[turn]
        if turn and given.play.pause:
            scene.run.say("", f"pause of {given.play.pause:.0f} s before {title}")
            scene.sleep(given.play.pause)
        begun |= set(batch.hosts)
        _batch(play, title, batch)
        turn += 1
        if not play.budget.ended:
            todo[turn:] = _next(play, batch, todo[turn:], known)
    if play.budget.ended:
        _leave(found, [name for name in given.hosts if name not in begun and name not in unchanged], play.budget.ended)
    return play.budget.ended


def _count_refused(play: _Play) -> None:
    """Hosts that nobody could begin with count in their first play, before any host is touched. A single one holds
    nobody: it is left out and said.
    """
    scene, given = play.scene, play.given
    before = {name for one in play.earlier for name in one.hosts}
    play.failed += [name for name in given.hosts if name not in before and _refused(scene, given, name)]
    if len(play.failed) > max(play.allowed, 1):
        play.budget.end(f"{_hosts(len(play.failed))} are not fit, and max_fail is {given.play.max_fail}")
    elif why := _no_canary(scene, given, "failed"):
        play.budget.end(why)


def _first(play: _Play, fit: Sequence[str], known: Known) -> list[tuple[str, Batch]]:
    """The batches as they are planned; whatever is unusual about the canaries is said."""
    given, say = play.given, play.scene.run.say
    todo = list(order(given, fit, known))
    named = given.canaries
    if isinstance(given.play.canary, str) and not any(named & set(batch.hosts) for _, batch in todo if batch.canary):
        pattern = f"the canary {given.play.canary!r}"
        first = next((batch.hosts for _, batch in todo if batch.canary), ())
        if first:
            say("", f"{pattern} does not take part; {fold(first)} goes first in its place")
        elif named & set(known.proved):
            say("", f"{pattern} was verified by the run that this one goes on from")
    return todo


def _next(play: _Play, batch: Batch, left: Sequence[tuple[str, Batch]], known: Known) -> list[tuple[str, Batch]]:
    """What follows a batch. Hosts that could not be reached are tried once more and join as a batch of their own; where
    no canary could be reached, another one is found.
    """
    scene, given, found = play.scene, play.given, play.scene.found
    late = [name for name in given.hosts if name not in play.retried and not_reached(found[name])]
    play.retried |= set(late)
    back = come_back(scene, late) if late else ()
    _catch_up(play, back)
    back = tuple(one.host for one in going(play.of(back)))
    number = batch.number + len(left) + 1
    again = batch.canary and all(not_reached(found[name]) or name in back for name in batch.hosts)
    if again and (canaries := tuple(name for name in batch.hosts if name in back)):
        others = tuple(name for name in back if name not in canaries)
        todo = [("canary", Batch(batch.number + 1, canaries, canary=True)), *left]
        return [*todo, (f"batch {number + 1}", Batch(number + 1, others))] if others else todo
    if again:
        waiting = [name for _, one in left for name in one.hosts]
        fit = [name for name in given.hosts if name in waiting or name in back]
        if isinstance(given.play.canary, str) and fit:
            scene.run.say("", f"the canary {fold(batch.hosts)} could not be reached; another host goes first")
        return list(order(given, fit, known, start=batch.number + 1))
    return [*left, (f"batch {number}", Batch(number, back))] if back else list(left)


def _catch_up(play: _Play, names: Collection[str]) -> None:
    """Hosts that come back late go through the plays that the others have behind them."""
    scene = play.scene
    for number, given in enumerate(play.earlier):
        behind = [name for name in names if name in given.hosts and scene.through[name] <= number]
        hosts = tuple(one.host for one in going(play.of(behind)))
        if hosts:
            late = _Play(scene, given, (), budget_of(scene, given.play), f"{given.play.name}, ")
            _batch(late, "back again", Batch(1, hosts))
            for outcome in play.of(hosts).values():
                if outcome.error is not None:
                    play.fail(outcome, canary=False)
    if "serve" in play.given.stages and any(cost(site_of(one)) for one in going(play.of(names))):
        budget = budget_of(scene, play.given.play)
        if play.budget.ended:
            budget.end(play.budget.ended)
        play.budget = budget


def _leave(found: Mapping[str, Outcome], names: Collection[str], ended: str) -> None:
    """Hosts that have still a play before them, whatever earlier plays did there."""
    for name in names:
        if found[name].error is None:
            found[name].error = NotBegunError(name, f"not begun: {ended}")


def _batch(play: _Play, title: str, batch: Batch) -> None:
    """All stages of the play for one batch, in order."""
    scene, run = play.scene, play.scene.run
    scene.on_batch(batch, f"{play.title}{title}")
    hosts = play.of(batch.hosts)

    def failed(outcome: Outcome) -> None:
        play.fail(outcome, canary=batch.canary)

    told: set[str] = set()

    def count(*, harmless: bool) -> None:
        """Of the hosts that have just failed; nothing serves worse for a harmless stage that the connection ended."""
        new = [one for one in hosts.values() if one.error is not None and one.host not in told]
        told.update(one.host for one in new)
        if harmless:
            not_touched(new)
        for outcome in new:
            failed(outcome)

    done: set[str] = set()
    with ExitStack() as stack:
        relaying = stack.enter_context(relays_of(run, scene.found, scene.stock, scene.claims))
        for number, stage in enumerate(play.given.play.stages):
            reach_again(run, scene.claims, hosts)
            match stage.name:
                case "prepare":
                    prepare(run, hosts, scene.claims, only=getattr(stage, "only", ()))
                case "models":
                    wait = stage.wait if isinstance(stage, Models) else 0.0
                    bring_models(run, hosts, scene.stock, scene.claims, scene.found, relaying, wait=wait)
                case "distribute":
                    distribute(run, hosts, scene.stock, scene.claims, scene.found, relaying)
                case "serve":
                    serve(run, hosts, play.budget, scene.claims, failed, scene.on_deed)
                case "verify":
                    answer(run, hosts, scene.found, load=getattr(stage, "load", 0.0))
                case "prune":
                    prune(run, hosts, scene.claims)
                case _:
                    continue  # preflight and image came before the first host was touched
            if not any(later.name in RELAYED for later in play.given.play.stages[number + 1 :]):
                stack.close()
            done.add(stage.name)
            count(harmless=stage.name in HARMLESS)
            if play.budget.ended:
                break
    if play.budget.ended and "serve" in play.given.stages - done:
        waiting = [one.host for one in going(hosts) if site_of(one).plan.serving.changes]
        _leave(scene.found, waiting, play.budget.ended)
    reach_again(run, scene.claims, hosts)
    confirm(run, hosts, done)
    count(harmless=True)
    for outcome in hosts.values():
        scene.through[outcome.host] += outcome.error is None
        scene.on_done(outcome)


def _hosts(count: int) -> str:
    return f"{count} host{'' if count == 1 else 's'}"
