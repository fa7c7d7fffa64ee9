"""Relays of a run, in deed: one is brought up where the first host of a group needs it, and taken down at the end.

A relay that goes is replaced by the next host of its group while two or more still need it; who is left alone, or cannot get
its share from a relay that answers, gets it as if there were none. All of it is said.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Self

from fleet.delivery.execute import apply, carry_out
from fleet.delivery.plan import Step
from fleet.delivery.relay import Ground
from fleet.delivery.relay_effects import ended
from fleet.delivery.relay_probe import silence
from fleet.delivery.site_ca import SiteCa
from fleet.delivery.way import Way
from fleet.engine import engine_errors
from fleet.errors import FleetError, HostError
from fleet.inventory.model import Host
from fleet.rollout import relayplan, relays
from fleet.rollout.claims import Claims
from fleet.rollout.relaycircle import Circle, Traces, Up, admit
from fleet.rollout.run import Outcome, Run, site_of
from fleet.transport import fan_out

START = 60.0  # seconds for the registry to answer

Roads = Callable[[Outcome], Way]
Attempt = Callable[[Up, Traces], str]
"""Brings a host its share from a relay; returns why it cannot come from any, or "". Raises HostError where it did not come."""


class Relays:
    """Use as a context manager: leaving removes what was made, unless it is to be kept.

    `everybody` are the outcomes of all hosts of the run, for any of them may be a relay; `needy` the hosts that the load
    is brought to now. `served` are the hosts that were relays.
    """

    def __init__(
        self,
        run: Run,
        everybody: Mapping[str, Outcome],
        needy: Collection[str],
        claims: Claims,
        roads: Roads,
        load: relayplan.Load,
    ) -> None:
        self._run, self._everybody, self._claims, self._roads = run, everybody, claims, roads
        self._load = load
        self.served: set[str] = set()
        self._ca = SiteCa(run.root)
        self._circles: dict[str, Circle] = {}
        for group in relayplan.groups(everybody) if run.wishes.relays else ():
            waiting = {name for name in group.names if name in needy and load.needs(everybody[name])}
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

    def through(self, outcome: Outcome, attempt: Attempt) -> bool:
        """Try with the relay of the host's group, as long as there is one. False: it has to come as if there were none, which
        was said where one was asked for.
        """
        circle = self._circles.get(outcome.host)
        if circle is None:
            return False
        while True:
            up = self._relay(circle)
            if up is None and self._traces.over:
                raise HostError(outcome.host, "the run is at its end")
            if up is None:
                self._run.say(
                    outcome.host, f"there is no relay, so {self._load.noun} comes as if none had been asked for"
                )
                return False
            try:
                hindered = attempt(up, self._traces)
            except HostError as error:
                if self._traces.over or not site_of(outcome).session.alive:
                    raise
                if self._serves(circle, up, error):
                    message = (
                        f"could not get {self._load.noun} from relay {up.post.host}, which answers: {error.message}"
                    )
                    self._run.say(outcome.host, f"{message}; it comes as if there were no relay")
                    return False
            else:
                if hindered:
                    self._run.say(outcome.host, hindered)
                return not hindered

    def leave(self, name: str) -> None:
        """The host needs no relay any more."""
        circle = self._circles.get(name)
        if circle is not None:
            with self._guard:
                circle.waiting.discard(name)

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
            waiting = sorted(circle.waiting)
            everybody, wishes = self._everybody, self._run.wishes
            able = relayplan.able(circle.group, everybody, wishes, self._load, waiting) - circle.failed - self._taken
            name = relays.pick(circle.group, able, circle.waiting if circle.failed else ())
            self._taken |= {name} if name else set()
        passed = relayplan.passed_over(circle.group, everybody, wishes, self._load, waiting)
        if passed and not circle.failed:
            self._run.say(name, passed)
        return name

    def _bring_up(self, outcome: Outcome, circle: Circle) -> Up:
        """The registry's image, its container, then the blobs of everything that its group needs."""
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
        self.served.add(outcome.host)
        self._await(outcome, up)
        for fill in self._fills(circle, outcome):
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

    def _fills(self, circle: Circle, outcome: Outcome) -> tuple[Step, ...]:
        with self._guard:
            waiting = sorted(circle.waiting)
        return self._load.fills(waiting, outcome)

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
