"""A relay in deed: its registry started on a host, waited for, filled, started again, and removed."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from fleet.delivery.execute import apply, carry_out
from fleet.delivery.plan import Step
from fleet.delivery.relay import Ground
from fleet.delivery.relay_effects import ended
from fleet.delivery.relay_probe import silence
from fleet.delivery.site_ca import SiteCa
from fleet.delivery.way import Way
from fleet.engine import engine_errors
from fleet.errors import HostError
from fleet.inventory.model import Host
from fleet.rollout import relays
from fleet.rollout.claims import Claims
from fleet.rollout.relaycircle import Standing, Traces, Up, admit
from fleet.rollout.relays import Group
from fleet.rollout.run import Outcome, Run, site_of
from fleet.transport import fan_out

START = 60.0  # seconds for the registry to answer

Roads = Callable[[Outcome], Way]


@dataclass(frozen=True)
class Starter:
    """What it takes to run a relay on a host of the run."""

    run: Run
    claims: Claims
    roads: Roads
    traces: Traces
    ca: SiteCa

    def start(self, outcome: Outcome, group: Group) -> Up:
        """The registry's image and its container, until that answers. Raises FleetError."""
        site = site_of(outcome)
        refused = self.claims.take({outcome.host: site.session}, forks=1, wait=0, say=self.run.say)
        if refused:
            raise refused[outcome.host]
        self.ca.ensure(datetime.now(UTC))
        up = admit(relays.post(group, site.host, self.ca.fingerprint), self.ca, datetime.now(UTC))
        way = self.roads(outcome)
        for step in site.registry_image:
            way = apply(step, way)
        self._run(outcome, up)
        return up

    def again(self, outcome: Outcome, up: Up) -> Up:
        """The same relay, started a second time over the store that it has. Raises FleetError."""
        self._run(outcome, up)
        return replace(up, count=up.count + 1)

    def fill(self, outcome: Outcome, steps: tuple[Step, ...]) -> None:
        way = self.roads(outcome)
        for step in steps:
            way = apply(step, way)

    def silence(self, outcome: Outcome, up: Up) -> str:
        """Why the relay does not serve us; "" where it does."""
        return silence(site_of(outcome).session, up.post.address, up.post.port, up.registry)

    def _run(self, outcome: Outcome, up: Up) -> None:
        site = site_of(outcome)
        undo = None if up.post.keep else relays.ending(site.ground or Ground())
        start = relays.starting(up.post, self.run.wishes.relays[outcome.host].local_name)
        with self.traces.making(outcome.host, undo):
            apply(start, replace(self.roads(outcome), access=up.access))
        until = time.monotonic() + START
        while why := self.silence(outcome, up):
            with engine_errors(site.session, "looking at the relay"):
                words = ended(site.client)
            if words:
                raise HostError(outcome.host, f"the registry ended: {words[-1]}", tail=words)
            if time.monotonic() > until:
                raise HostError(outcome.host, why, hint="fleet.relay.address and .port: may the host listen there?")
            time.sleep(0.5)


@contextmanager
def standing(run: Run, everybody: Mapping[str, Outcome], roads: Roads) -> Iterator[Standing]:
    """Relays as long as this is open; leaving removes what was made, unless it is to be kept."""
    made = Standing()
    try:
        yield made
    finally:
        undo(run, everybody, roads, made.traces, made.traces.close())


def undo(
    run: Run, everybody: Mapping[str, Outcome], roads: Roads, traces: Traces, late: Mapping[str, list[Step]]
) -> dict[str, HostError]:
    """Take relays down and their CA away; what fails is said, and is seen by the next run."""
    chosen = [site_of(everybody[name]).host for name, steps in late.items() if steps]

    def end(host: Host) -> int:
        with traces.ending(host.name):
            return carry_out(late[host.name], roads(everybody[host.name]))

    found = fan_out(chosen, end, forks=run.forks)
    failed = {name: error for name, error in found.items() if isinstance(error, HostError)}
    for name, error in failed.items():
        run.say(name, f"{error.message}; the next run removes what is left of the relay")
    return failed
