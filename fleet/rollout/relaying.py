"""Relays of a stage: one is brought up where the first host of a group needs it, and serves until the last stage that does.

A relay that stops to answer is started again, once. One that does not come back is replaced by the next host of its group while
two or more still need it; who is left alone, or cannot get its share from a relay that answers, gets it as if there were none.
All of it is said.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum

from fleet.delivery.plan import Step
from fleet.delivery.site_ca import SiteCa
from fleet.errors import FleetError, HostError
from fleet.rollout import relayplan, relays
from fleet.rollout.claims import Claims
from fleet.rollout.relaycircle import Circle, Standing, Traces, Up
from fleet.rollout.relaystart import Roads, Starter
from fleet.rollout.run import Outcome, Run, site_of

Attempt = Callable[[Up, Traces], str]
"""Brings a host its share from a relay; returns why it cannot come from any, or "". Raises HostError where it did not come."""


class State(Enum):
    """Of a relay after a failed pull."""

    WELL = "it answers"
    OTHER = "there is another, or it was started again"
    GONE = "the group has none"


class Relays:
    """`everybody` are the outcomes of all hosts of the run, for any of them may be a relay; `needy` the hosts that the load
    is brought to now.
    """

    def __init__(
        self,
        run: Run,
        everybody: Mapping[str, Outcome],
        needy: Collection[str],
        claims: Claims,
        roads: Roads,
        load: relayplan.Load,
        standing: Standing,
    ) -> None:
        self._run, self._everybody, self._load = run, everybody, load
        self._standing, self._traces = standing, standing.traces
        self._starter = Starter(run, claims, roads, standing.traces, SiteCa(run.root))
        self._circles: dict[str, Circle] = {}
        for group in relayplan.groups(everybody) if run.wishes.relays else ():
            waiting = {name for name in group.names if name in needy and load.needs(everybody[name])}
            self._circles |= dict.fromkeys(waiting, standing.circle(group, waiting))
        self._guard = threading.Lock()

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
                if self._after(circle, up, error) is State.WELL:
                    message = (
                        f"could not get {self._load.noun} from relay {up.post.host}, which answers: {error.message}"
                    )
                    self._run.say(outcome.host, f"{message}; it comes as if there were no relay")
                    return False
            else:
                if hindered:
                    self._run.say(outcome.host, hindered)
                return not hindered

    def gave_up(self, name: str) -> bool:
        """Was the host to be a relay, and is none?"""
        circle = self._circles.get(name)
        return circle is not None and name in circle.failed

    def leave(self, name: str) -> None:
        """The host needs no relay any more."""
        circle = self._circles.get(name)
        if circle is not None:
            with self._guard:
                circle.waiting.discard(name)

    def _after(self, circle: Circle, up: Up, error: HostError) -> State:
        """After a failed pull: is the relay well? Where it is not and does not come back, it is the group's no more."""
        with circle.lock:
            if circle.up is not up:
                return State.OTHER  # somebody else has found out
            outcome = self._everybody[up.post.host]
            why = self._starter.silence(outcome, up)
            if not why:
                return State.WELL
            circle.up = self._again(circle, outcome, up, f"{why} ({error.host}: {error.message})")
            return State.OTHER if circle.up else State.GONE

    def _again(self, circle: Circle, outcome: Outcome, up: Up, why: str) -> Up | None:
        """The relay that went, started again where that was not tried before; its store costs nothing there."""
        if outcome.host not in circle.again and not self._traces.over:
            circle.again.add(outcome.host)
            self._run.say(outcome.host, f"does not serve as the relay any more: {why}; starting it again")
            try:
                back = self._starter.again(outcome, up)
            except FleetError as error:
                why = f"it could not be started again: {error.message}"
            else:
                self._run.say(outcome.host, f"is the relay at {up.post.registry} again")
                return back
        circle.failed.add(outcome.host)
        self._run.say(outcome.host, f"is no relay any more: {why}")
        return None

    def _relay(self, circle: Circle) -> Up | None:
        """The group's relay with what the stage brings, brought up where there is none. Whoever else of the group needs it
        waits.
        """
        with circle.lock:
            if circle.up is not None and circle.stocked:
                return circle.up
            if circle.up is not None:
                self._go_on(circle, circle.up)
            while circle.up is None and not self._traces.over:
                if circle.failed and len(circle.waiting) < 2:
                    return None  # to fill another store for one host is to send as much as to the host itself
                name = self._choose(circle)
                if not name:
                    return None
                try:
                    up = self._starter.start(self._everybody[name], circle.group)
                    self._standing.served.add(name)
                    self._stock(circle, up)
                except FleetError as error:
                    circle.failed.add(name)
                    self._run.say(name, f"could not be the relay: {error.message}")
            return circle.up

    def _go_on(self, circle: Circle, up: Up) -> None:
        """The relay of the stage before gets what this one brings, where it has room for that."""
        name, waiting = up.post.host, sorted(circle.waiting)
        circle.up = None
        if name not in relayplan.able(circle.group, self._everybody, self._run.wishes, self._load, waiting):
            return
        try:
            self._stock(circle, up)
        except FleetError as error:
            circle.failed.add(name)
            self._run.say(name, f"is no relay any more: {error.message}")

    def _stock(self, circle: Circle, up: Up) -> None:
        """The blobs of everything that the group needs; then it is the group's relay. Raises FleetError."""
        outcome = self._everybody[up.post.host]
        self._starter.fill(outcome, self._fills(circle, outcome))
        served: Up | None = up
        if why := self._starter.silence(outcome, up):
            served = self._again(circle, outcome, up, f"{why}, after its store was filled")
        circle.up, circle.stocked = served, served is not None
        if served is None:
            return
        with self._guard:
            waiting = ", ".join(sorted(circle.waiting - {outcome.host}))
        self._run.say(outcome.host, f"is the relay at {up.post.registry} for {waiting or 'itself'}")

    def _choose(self, circle: Circle) -> str:
        """The next to try, "" where nobody is left. No host serves two groups."""
        with self._guard:
            waiting, taken = sorted(circle.waiting), self._standing.taken
            everybody, wishes = self._everybody, self._run.wishes
            able = relayplan.able(circle.group, everybody, wishes, self._load, waiting) - circle.failed - taken
            name = relays.pick(circle.group, able, circle.waiting if circle.failed else ())
            taken |= {name} if name else set()
        passed = relayplan.passed_over(circle.group, everybody, wishes, self._load, waiting)
        if passed and not circle.failed:
            self._run.say(name, passed)
        return name

    def _fills(self, circle: Circle, outcome: Outcome) -> tuple[Step, ...]:
        with self._guard:
            waiting = sorted(circle.waiting)
        return self._load.fills(waiting, outcome)
