"""Images through relays: pulled by digest from the relay's registry, and as if there were none where that fails."""

from contextlib import nullcontext
from dataclasses import replace

from fleet.delivery.execute import carry_out
from fleet.delivery.plan import PlaceCa, Step, Sweep
from fleet.delivery.relay import Ground
from fleet.delivery.way import Way
from fleet.rollout import relayplan, relays
from fleet.rollout.relaycircle import Traces, Up
from fleet.rollout.relaying import Relays
from fleet.rollout.relaystart import Roads
from fleet.rollout.run import Outcome, Run, site_of
from fleet.rollout.site import image_steps

STALL, TRIES = 20.0, 2  # of a pull from a relay: there is another way, and the engine's own tries take a minute


class Pulls:
    """What brings the images to one host after the other."""

    def __init__(self, run: Run, roads: Roads) -> None:
        self._run, self._roads = run, roads

    def bring(self, outcome: Outcome, own: tuple[Step, ...], by: Relays) -> tuple[Step, ...]:
        """Carry out a host's steps, through its relay where there is one; returns those that were done."""
        done: list[Step] = []
        tried = False

        def attempt(up: Up, traces: Traces) -> str:
            nonlocal tried
            steps = self._anew(outcome) if tried else own
            tried = True
            done[:] = []
            site = site_of(outcome)
            if not relayplan.may_pull(site, site.ground or Ground(), up.post):
                return relayplan.no_root(site, up.post)
            done[:] = self._pull(outcome, steps, up, traces)
            return ""

        try:
            if by.through(outcome, attempt):
                return (*done, *self._swept(outcome, by))
            steps = self._anew(outcome) if tried else own
            carry_out(steps, self._roads(outcome))
            return steps
        finally:
            by.leave(outcome.host)

    def _swept(self, outcome: Outcome, by: Relays) -> tuple[Step, ...]:
        """A host whose store could not be filled kept what had arrived; now it has the image by another relay."""
        if not by.gave_up(outcome.host):
            return ()
        steps = tuple(step for step in self._anew(outcome) if isinstance(step, Sweep))
        carry_out(steps, self._roads(outcome))
        return steps

    def _pull(self, outcome: Outcome, own: tuple[Step, ...], up: Up, traces: Traces) -> tuple[Step, ...]:
        site, name = site_of(outcome), outcome.host
        steps = relays.through(own, self._run.wishes.releases.get(name, {}), up.post, site.ground or Ground(), name)
        trust = [step for step in steps if isinstance(step, PlaceCa)]
        passing = not up.post.keep and relayplan.is_root(site)
        with traces.making(name, relays.forgetting(up.post) if passing else None):
            carry_out(trust, self._way(outcome, up))
        carry_out([step for step in steps if step not in trust], self._way(outcome, up))
        return steps

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
