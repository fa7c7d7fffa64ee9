"""What serves now of each service, over the whole fleet: before a roll, while it goes on, and at its end."""

from collections.abc import Mapping
from dataclasses import replace

from fleet.engine import docker_client
from fleet.errors import HostError
from fleet.inventory.model import Host
from fleet.locks import holder_of
from fleet.playbook import Amount, Play
from fleet.rollout.availability import Budget, Counts, Floor, Standing, serving, total
from fleet.rollout.replace import pulse, standing, wanted
from fleet.rollout.run import Outcome, site_of
from fleet.rollout.scene import Scene, Serves
from fleet.rollout.site import Site
from fleet.transport import fan_out


def floors(amount: Amount | None, standings: Mapping[str, Standing]) -> dict[str, Floor]:
    """The least that must serve of each service; none where the playbook says nothing. Pure."""
    if amount is None:
        return {}
    names = {service for one in standings.values() for service in one.wanted}
    counted = {name: total(standings, name) for name in sorted(names)}
    return {name: Floor(name, amount.of(count, "up"), count, str(amount)) for name, count in counted.items()}


def budget_of(scene: Scene, play: Play) -> Budget:
    """What serves now, and how much of it may go at once."""
    everybody = {**scene.peers, **scene.found}
    hosts = [scene.hosts[name] for name in everybody]
    limited = play.min_available is not None

    def ask(host: Host) -> Standing:
        outcome = everybody[host.name]
        if limited and taken(scene, outcome):
            return Standing(wanted(host), {})
        return standing(outcome, host)

    standings = {
        name: one if isinstance(one, Standing) else Standing(wanted(scene.hosts[name]), {})
        for name, one in fan_out(hosts, ask, forks=scene.run.forks).items()
    }
    limits = floors(play.min_available, standings)
    for name, floor in limits.items():
        now = serving(standings, name)
        scene.run.say("", f"{name}: {now} of {floor.total} replicas serve; at least {floor.least} always will")
    return Budget(standings, limits, lambda: look_again(scene))


def look_again(scene: Scene) -> dict[str, Counts]:
    """What answers on every host that was reached once. One that is lost, or that another run works on, has nothing."""
    everybody = {**scene.peers, **scene.found}
    reached = [scene.hosts[name] for name, outcome in everybody.items() if outcome.site is not None]

    def ask(host: Host) -> Counts:
        outcome = everybody[host.name]
        return {} if taken(scene, outcome) else pulse(site_of(outcome))

    found = fan_out(reached, ask, forks=scene.run.forks)
    return {name: {} if isinstance(counts, HostError) else counts for name, counts in found.items()}


def taken(scene: Scene, outcome: Outcome) -> bool:
    """Is the host locked by a run that goes before ours? It may take away whatever serves there at any moment.

    Of two runs the one that began first goes on: it counts the other's hosts by what answers there.
    """
    if outcome.site is None or scene.claims.holds(outcome.host):
        return False
    try:
        holder = holder_of(outcome.site.session)
    except HostError:
        return False  # without flock nobody can lock it; whether it answers is asked besides
    if holder is None or holder.firing:
        return False
    return holder.owner is None or holder.owner.before(scene.claims.owner)


def tally(scene: Scene) -> None:
    """Ask everybody once more: what serves, and whether what was said to be down, or not known, still is.

    Hosts that were lost are connected to once more, for this question only.
    """
    everybody = {**scene.peers, **scene.found}

    def ask(host: Host) -> Counts:
        site = site_of(everybody[host.name])
        return pulse(site if site.session.alive else _anew(scene, site))

    reached = [scene.hosts[name] for name, outcome in everybody.items() if outcome.site is not None]
    asked = fan_out(reached, ask, forks=scene.run.forks)
    known = {name: counts for name, counts in asked.items() if not isinstance(counts, HostError)}
    want = {name: wanted(scene.hosts[name]) for name in everybody}
    for name, outcome in scene.found.items():
        broken = (*outcome.down, *outcome.unknown)
        now = known.get(name)
        if now is None:
            outcome.down, outcome.unknown = (), broken
        else:
            outcome.down = tuple(one for one in broken if now.get(one, 0) < want[name].get(one, 1))
            outcome.unknown = ()
    for service in sorted({service for counts in want.values() for service in counts}):
        scene.serves[service] = Serves(
            sum(counts.get(service, 0) for counts in known.values()),
            sum(counts.get(service, 0) for counts in want.values()),
            tuple(name for name, counts in want.items() if counts.get(service) and name not in known),
        )


def _anew(scene: Scene, site: Site) -> Site:
    session = scene.run.connector.connect(site.host, anew=True)
    return replace(site, session=session, client=docker_client(session))
