"""A play over its hosts: new hosts together, the canaries, then batch after batch, until it is done or has to end."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fleet import awake
from fleet.errors import HostError
from fleet.inventory.model import Host
from fleet.playbook import Amount, Batch, Models, Play, batches
from fleet.rollout.assign import Assignment
from fleet.rollout.availability import Budget, Floor, NotBegunError, Standing, serving, total
from fleet.rollout.claims import Claims
from fleet.rollout.distribute import distribute
from fleet.rollout.looks import answer, confirm, survey
from fleet.rollout.models import bring_models
from fleet.rollout.prepare import mendable, prepare
from fleet.rollout.prune import prune
from fleet.rollout.releases import Stock
from fleet.rollout.replace import cost, pulse, serve, standing, wanted
from fleet.rollout.run import Outcome, Run, going, never_reached, site_of
from fleet.transport import fan_out


@dataclass(frozen=True)
class Scene:
    """What all plays of a run share. `found` has an outcome for every host of the run; `peers` for hosts outside it.

    `on_batch` hears of each batch, `on_done(outcome)` of each host that a play is through with, `on_deed` of each whose
    replica has answered, from any thread.
    """

    run: Run
    found: dict[str, Outcome]
    peers: Mapping[str, Outcome]
    hosts: Mapping[str, Host]  # of the run and its peers
    stock: Stock
    claims: Claims
    on_batch: Callable[[Batch, str], None] = lambda _batch, _name: None
    on_done: Callable[[Outcome], None] = lambda _outcome: None
    on_deed: Callable[[Outcome], None] = lambda _outcome: None
    sleep: Callable[[float], None] = awake.sleep
    serves: dict[str, tuple[int, int]] = field(default_factory=dict)  # service -> replicas that answer, of how many


@dataclass
class _Play:
    """A play under way."""

    scene: Scene
    given: Assignment
    budget: Budget
    several: bool = False  # plays in this run: batches are told with their play's name
    failed: list[str] = field(default_factory=list)

    def of(self, names: Collection[str]) -> dict[str, Outcome]:
        return {name: self.scene.found[name] for name in names}

    def fail(self, outcome: Outcome, *, canary: bool) -> None:
        """Count a failed host, and end the play where it may not go on."""
        if outcome.host in self.failed:
            return
        self.failed.append(outcome.host)
        play = self.given.play
        allowed = play.max_fail.of(len(self.given.hosts), "down")
        if canary:
            self.budget.end(f"the canary {outcome.host} failed")
        elif len(self.failed) > allowed:
            many = f"{len(self.failed)} host{'s' if len(self.failed) > 1 else ''} failed"
            self.budget.end(f"{many}, and max_fail is {play.max_fail}")


def conduct(scene: Scene, assignments: Sequence[Assignment]) -> str:
    """Play after play. Returns why it ended early, or empty. Every host's outcome is in `scene.found`."""
    for number, given in enumerate(assignments, start=1):
        ended = _play(scene, given, several=len(assignments) > 1)
        if ended:
            for later in assignments[number:]:
                _leave(scene.found, later.hosts, ended)
            return ended
    return ""


def order(
    assignment: Assignment, fit: Sequence[str], *, new: Collection[str] = (), unchanged: Collection[str] = ()
) -> tuple[tuple[str, Batch], ...]:
    """Named batches of the hosts that are fit. Pure.

    `new` hosts have nothing that serves yet, `unchanged` ones nothing to do: these come last, so that what is right
    already neither counts as a canary nor keeps the others from being mended.
    """
    play = assignment.play
    first = tuple(name for name in fit if play.new_hosts_together and name in new)
    last = tuple(name for name in fit if name in unchanged)
    rest = tuple(name for name in fit if name not in first and name not in last)
    groups: list[tuple[str, tuple[str, ...], bool]] = [("new hosts", first, False)] if first else []
    # A pattern of canaries that are all right already has done its part.
    proved = (
        isinstance(play.canary, str) and assignment.canaries & {*first, *last} and not assignment.canaries & {*rest}
    )
    turns = batches(rest, replace(play, canary=0) if proved else play, canaries=assignment.canaries) if rest else ()
    groups += [("canary" if batch.canary else "batch", batch.hosts, batch.canary) for batch in turns]
    groups += [("unchanged hosts", last, False)] if last else []
    return tuple(
        (f"batch {number}" if title == "batch" else title, Batch(number, hosts, canary))
        for number, (title, hosts, canary) in enumerate(groups, start=1)
    )


def floors(amount: Amount | None, standings: Mapping[str, Standing]) -> dict[str, Floor]:
    """The least that must serve of each service; none where the playbook says nothing. Pure."""
    if amount is None:
        return {}
    names = {service for one in standings.values() for service in one.wanted}
    counted = {name: total(standings, name) for name in sorted(names)}
    return {name: Floor(name, amount.of(count, "up"), count, str(amount)) for name, count in counted.items()}


def _play(scene: Scene, given: Assignment, *, several: bool) -> str:
    found = scene.found
    fit = [
        name
        for name in given.hosts
        if found[name].error is None or ("prepare" in given.stages and mendable(found[name]))
    ]
    replacing = {name for name in fit if "serve" in given.stages and cost(site_of(found[name]))}
    under_way = _Play(scene, given, _budget(scene, given.play, bool(replacing)), several)
    new: set[str] = set()
    unchanged: set[str] = set()
    if "serve" in given.stages:
        unchanged = {name for name in fit if not site_of(found[name]).plan.serving.changes}
        new = set(fit) - replacing - unchanged
    todo = list(order(given, fit, new=new, unchanged=unchanged))
    retried: set[str] = set()
    turn = -1
    for turn, (title, batch) in enumerate(todo):
        if turn and given.play.pause:
            scene.run.say("", f"pause of {given.play.pause:.0f} s before {title}")
            scene.sleep(given.play.pause)
        if turn and replacing:
            _refresh(scene, under_way, set(batch.hosts))
        _batch(under_way, title, batch)
        if under_way.budget.ended:
            break
        late = [name for name in given.hosts if name not in retried and never_reached(found[name])]
        if late:
            retried |= set(late)
            back = _retry(scene, late)
            if back:
                todo.append((f"batch {len(todo) + 1}", Batch(len(todo) + 1, back)))
    for service, count in under_way.budget.serving().items():
        everybody = [*scene.found, *scene.peers]
        scene.serves[service] = (count, sum(wanted(scene.hosts[name]).get(service, 0) for name in everybody))
    ended = under_way.budget.ended
    if ended:
        begun = {name for _, batch in todo[: turn + 1] for name in batch.hosts}
        _leave(found, [name for name in given.hosts if name not in begun and name not in unchanged], ended)
    return ended


def _leave(found: Mapping[str, Outcome], names: Collection[str], ended: str) -> None:
    """Hosts that have still a play before them, whatever earlier plays did there."""
    for name in names:
        if found[name].error is None:
            found[name].error = NotBegunError(name, f"not begun: {ended}")


def _batch(play: _Play, title: str, batch: Batch) -> None:
    """All stages of the play for one batch, in order."""
    scene, run = play.scene, play.scene.run
    scene.on_batch(batch, f"{play.given.play.name}, {title}" if play.several else title)
    hosts = play.of(batch.hosts)

    def failed(outcome: Outcome) -> None:
        play.fail(outcome, canary=batch.canary)

    def count() -> None:
        for outcome in hosts.values():
            if outcome.error is not None and not isinstance(outcome.error, NotBegunError):
                failed(outcome)

    done: set[str] = set()
    for stage in play.given.play.stages:
        match stage.name:
            case "prepare":
                prepare(run, hosts, scene.claims, only=getattr(stage, "only", ()))
            case "models":
                wait = stage.wait if isinstance(stage, Models) else 0.0
                bring_models(run, hosts, scene.stock, scene.claims, wait=wait)
            case "distribute":
                distribute(run, hosts, scene.stock, scene.claims, scene.found)
            case "serve":
                serve(run, hosts, play.budget, scene.claims, failed, scene.on_deed)
            case "verify":
                answer(run, hosts, scene.found, load=getattr(stage, "load", 0.0))
            case "prune":
                prune(run, hosts, scene.claims)
            case _:
                continue  # preflight and image came before the first host was touched
        done.add(stage.name)
        count()
        if play.budget.ended:
            break
    if play.budget.ended and "serve" in play.given.stages - done:
        waiting = [one.host for one in going(hosts) if site_of(one).plan.serving.changes]
        _leave(scene.found, waiting, play.budget.ended)
    confirm(run, hosts, done)
    count()
    for outcome in hosts.values():
        scene.on_done(outcome)


def _budget(scene: Scene, play: Play, replacing: bool) -> Budget:
    """What serves now, asked only where something that serves is going to be replaced."""
    if not replacing:
        return Budget({}, {})
    everybody = {**scene.peers, **scene.found}
    hosts = [scene.hosts[name] for name in everybody]
    asked = fan_out(hosts, lambda host: standing(everybody[host.name], host), forks=scene.run.forks)
    standings = {
        name: one if isinstance(one, Standing) else standing(Outcome(name), scene.hosts[name])
        for name, one in asked.items()
    }
    limits = floors(play.min_available, standings)
    for name, floor in limits.items():
        now = serving(standings, name)
        scene.run.say("", f"{name}: {now} of {floor.total} replicas serve; at least {floor.least} always will")
    return Budget(standings, limits)


def _refresh(scene: Scene, play: _Play, batch: Collection[str]) -> None:
    """Before a batch goes: what became of the others meanwhile."""
    others = {**scene.peers, **scene.found}
    reached = [name for name, outcome in others.items() if name not in batch and outcome.site is not None]
    hosts = [scene.hosts[name] for name in reached]
    for name, counts in fan_out(hosts, lambda host: pulse(site_of(others[host.name])), forks=scene.run.forks).items():
        play.budget.note(name, {} if isinstance(counts, HostError) else counts)


def _retry(scene: Scene, names: Sequence[str]) -> tuple[str, ...]:
    """Try unreachable hosts once more; those that answer and are fit join the play as a batch of their own."""
    again = survey(scene.run, [scene.hosts[name] for name in names])
    scene.found.update(again)
    back = tuple(outcome.host for outcome in going(again))
    for name in back:
        scene.run.say(name, "answers now")
    return back
