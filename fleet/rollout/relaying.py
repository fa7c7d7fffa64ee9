"""Relays of a run, in deed: one is brought up where the first host of a group needs it, and taken down at the end.

A relay that goes is replaced by the next host of its group while two or more still need the images; who is left alone, or
cannot pull from a relay that answers, gets them as if there were none. All of it is said.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Self

from fleet.delivery.execute import apply, carry_out
from fleet.delivery.plan import PlaceCa, Step
from fleet.delivery.relay import Ground
from fleet.delivery.relay_effects import ended
from fleet.delivery.relay_probe import silence
from fleet.delivery.site_ca import SiteCa
from fleet.delivery.way import Way
from fleet.engine import engine_errors
from fleet.errors import FleetError, HostError
from fleet.image.release import Release
from fleet.inventory.model import Host
from fleet.rollout import relayplan, relays
from fleet.rollout.claims import Claims
from fleet.rollout.relaycircle import Circle, Traces, Up, admit
from fleet.rollout.run import Outcome, Run, site_of
from fleet.rollout.site import image_steps
from fleet.transport import fan_out

START = 60.0  # seconds for the registry to answer
STALL, TRIES = 20.0, 2  # of a pull from a relay: there is another way, and the engine's own tries take a minute

Roads = Callable[[Outcome], Way]


class Relays:
    """Use as a context manager: leaving removes what was made, unless it is to be kept.

    `everybody` are the outcomes of all hosts of the run, for any of them may be a relay; `needy` the hosts that images
    are brought to now.
    """

    def __init__(
        self, run: Run, everybody: Mapping[str, Outcome], needy: Collection[str], claims: Claims, roads: Roads
    ) -> None:
        self._run, self._everybody, self._claims, self._roads = run, everybody, claims, roads
        self._ca = SiteCa(run.root)
        self._circles: dict[str, Circle] = {}
        for group in relayplan.groups(everybody) if run.wishes.relays else ():
            waiting = {name for name in group.names if name in needy and relays.needs(relayplan.own(everybody[name]))}
            circle = Circle(group, waiting)
            self._circles |= dict.fromkeys(waiting, circle)
        self._traces = Traces()
        self._taken: set[str] = set()  # hosts that serve or were tried
        self._guard = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo(self._traces.close())

    def first(self, names: Iterable[str]) -> list[str]:
        """The names with one host of each group before its others: who waits for a relay holds up nobody else."""
        names = list(names)
        leaders = {id(self._circles[name]): name for name in reversed(names) if name in self._circles}
        return sorted(names, key=lambda name: name in self._circles and name not in leaders.values())

    def bring(self, outcome: Outcome, own: tuple[Step, ...]) -> tuple[Step, ...]:
        """Carry out a host's steps, through its relay where there is one; returns those that were done."""
        circle = self._circles.get(outcome.host)
        if circle is None:
            carry_out(own, self._roads(outcome))
            return own
        try:
            return self._bring(outcome, own, circle)
        finally:
            with self._guard:
                circle.waiting.discard(outcome.host)

    def undo(self, late: Mapping[str, list[Step]]) -> dict[str, HostError]:
        """Take relays down and their CA away; what fails is said, and is seen by the next run."""
        chosen = [site_of(self._everybody[name]).host for name, steps in late.items() if steps]

        def end(host: Host) -> int:
            with self._traces.ending(host.name):
                return carry_out(late[host.name], self._roads(self._everybody[host.name]))

        found = fan_out(chosen, end, forks=self._run.forks)
        failed = {name: error for name, error in found.items() if isinstance(error, HostError)}
        for name, error in failed.items():
            self._run.say(name, f"{error.message}; the next run removes what is left of the relay")
        return failed

    def _bring(self, outcome: Outcome, own: tuple[Step, ...], circle: Circle) -> tuple[Step, ...]:
        name, wishes = outcome.host, self._run.wishes
        while True:
            up = self._relay(circle)
            site = site_of(outcome)
            ground = site.ground or Ground()
            if up is None and self._traces.over:
                raise HostError(name, "the run is at its end")
            if up is None:
                self._run.say(name, "there is no relay, so the image comes as if none had been asked for")
                break
            if not relayplan.may_pull(site, ground, up.post):
                self._run.say(name, relayplan.no_root(site, up.post))
                break
            steps = relays.through(own, wishes.releases.get(name, {}), up.post, ground, name)
            trust = [step for step in steps if isinstance(step, PlaceCa)]
            passing = not up.post.keep and relayplan.is_root(site)
            try:
                with self._traces.making(name, relays.forgetting(up.post) if passing else None):
                    carry_out(trust, self._way(outcome, up))
                carry_out([step for step in steps if step not in trust], self._way(outcome, up))
            except HostError as error:
                if self._traces.over or not site_of(outcome).session.alive:
                    raise
                if self._serves(circle, up, error):
                    message = f"could not get the image from relay {up.post.host}, which answers: {error.message}"
                    self._run.say(name, f"{message}; it comes as if there were no relay")
                    own = self._anew(outcome)
                    break
                own = self._anew(outcome)
            else:
                return steps
        carry_out(own, self._roads(outcome))
        return own

    def _anew(self, outcome: Outcome) -> tuple[Step, ...]:
        """What the host still needs, by its own steps."""
        site, wishes = site_of(outcome), self._run.wishes
        releases = wishes.releases.get(outcome.host, {})
        return image_steps(site.session, site.client, site.facts, releases, wishes)

    def _way(self, outcome: Outcome, up: Up) -> Way:
        way = self._roads(outcome)
        releases = self._run.wishes.releases.get(outcome.host, {}).values()
        registries = {f"{up.registry.host}/{release.name}": up.registry for release in releases}
        slot = way.slot
        return replace(
            way,
            registries={**way.registries, **registries},
            slot=lambda name: nullcontext() if name == up.registry.host else slot(name),
            stall=STALL,
            tries=TRIES,
        )

    def _serves(self, circle: Circle, up: Up, error: HostError) -> bool:
        """After a failed pull: is the relay well? Where it is not, it is the group's no more."""
        with circle.lock:
            if circle.up is not up:
                return False  # somebody else has found out
            site = site_of(self._everybody[up.post.host])
            why = silence(site.session, up.post.address, up.post.port, up.registry)
            if not why:
                return True
            circle.up = None
            circle.failed.add(up.post.host)
            self._run.say(up.post.host, f"is no relay any more: {why} ({error.host}: {error.message})")
            return False

    def _relay(self, circle: Circle) -> Up | None:
        """The group's relay, brought up where there is none. Whoever else of the group needs it waits."""
        with circle.lock:
            if circle.up is not None:
                return circle.up
            while not self._traces.over:
                if circle.failed and len(circle.waiting) < 2:
                    return None  # to fill another store for one host is to send as much as to the host itself
                name = self._choose(circle)
                if not name:
                    return None
                try:
                    circle.up = self._bring_up(self._everybody[name], circle)
                except FleetError as error:
                    circle.failed.add(name)
                    self._run.say(name, f"could not be the relay: {error.message}")
                else:
                    return circle.up
            return None

    def _choose(self, circle: Circle) -> str:
        """The next to try, "" where nobody is left. No host serves two groups."""
        with self._guard:
            able = relayplan.able(circle.group, self._everybody, self._run.wishes) - circle.failed - self._taken
            name = relays.pick(circle.group, able, circle.waiting if circle.failed else ())
            self._taken |= {name} if name else set()
        passed = relayplan.passed_over(circle.group, self._everybody, self._run.wishes)
        if passed and not circle.failed:
            self._run.say(name, passed)
        return name

    def _bring_up(self, outcome: Outcome, circle: Circle) -> Up:
        """Image, container, then the blobs of everything that its group needs."""
        site, run = site_of(outcome), self._run
        refused = self._claims.take({outcome.host: site.session}, forks=1, wait=0, say=run.say)
        if refused:
            raise refused[outcome.host]
        self._ca.ensure(datetime.now(UTC))
        place = relays.post(circle.group, site.host, self._ca.fingerprint)
        up, access = admit(place, self._ca, datetime.now(UTC))
        way = replace(self._roads(outcome), access=access)
        for step in site.registry_image:
            way = apply(step, way)
        start = relays.starting(place, run.wishes.relays[outcome.host].local_name)
        undo = None if place.keep else relays.ending(site.ground or Ground())
        with self._traces.making(outcome.host, undo):
            way = apply(start, replace(way, access=access))
        self._await(outcome, up)
        for fill in relays.fills(self._coming(circle), site.ground or Ground(), relayplan.way_of(site)):
            way = apply(fill, way)
        if why := silence(site_of(outcome).session, place.address, place.port, up.registry):
            run.say(outcome.host, f"the relay went while its store was filled: {why}; starting it again")
            with self._traces.making(outcome.host, undo):
                apply(start, replace(way, access=access))
            self._await(outcome, up)
        with self._guard:
            waiting = ", ".join(sorted(circle.waiting - {outcome.host}))
        run.say(outcome.host, f"is the relay at {place.registry} for {waiting or 'itself'}")
        return up

    def _coming(self, circle: Circle) -> tuple[Release, ...]:
        with self._guard:
            waiting = sorted(circle.waiting)
        return relayplan.coming(self._everybody, self._run.wishes, waiting)

    def _await(self, outcome: Outcome, up: Up) -> None:
        site = site_of(outcome)
        until = time.monotonic() + START
        while why := silence(site.session, up.post.address, up.post.port, up.registry):
            with engine_errors(site.session, "looking at the relay"):
                words = ended(site.client)
            if words:
                raise HostError(outcome.host, f"the registry ended: {words[-1]}", tail=words)
            if time.monotonic() > until:
                raise HostError(outcome.host, why, hint="fleet.relay.address and .port: may the host listen there?")
            time.sleep(0.5)
