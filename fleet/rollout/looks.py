"""Looking at hosts, before a run and after it: what is there, does it answer, is anything left to do."""

from collections.abc import Callable, Collection, Mapping, Sequence

from fleet.errors import HostError
from fleet.inventory.model import Host
from fleet.rollout.hostplan import HostPlan
from fleet.rollout.run import Outcome, Run, going, site_of, unfit
from fleet.rollout.site import Site, look, visit
from fleet.rollout.verdicts import judge, weighed
from fleet.serving.execute import prove
from fleet.transport import fan_out


def survey(run: Run, hosts: Sequence[Host], on_done: Callable[[str], None] = lambda _host: None) -> dict[str, Outcome]:
    """Look at every host and plan; nothing is changed."""
    found = fan_out(
        tuple(hosts),
        lambda host: visit(run.connector, host, run.wishes, run.clock),
        forks=run.forks,
        on_done=lambda host, _: on_done(host.name),
    )
    return {name: outcome_of_look(name, result) for name, result in found.items()}


def answer(
    run: Run, outcomes: Mapping[str, Outcome], earlier: Mapping[str, Outcome] | None = None, *, load: float = 0.0
) -> None:
    """Ask the replicas that nothing was done to as well: running is not yet answering. Then compare.

    `earlier` are hosts that answered before in this run. `load` is in seconds of fixed load a replica, 0 is none.
    """

    def ask(host: Host) -> None:
        outcome = outcomes[host.name]
        site = site_of(outcome)
        context = site.context(run.root, run.say)
        for spec in site.prepared.desired.specs if site.prepared else ():
            if spec.name not in outcome.proofs:
                prove(spec.name, host.settings.services[spec.service], spec.port, context)
        proofs = {**context.proofs, **outcome.proofs}
        outcome.proofs = weighed(site, proofs, context, load=load) if proofs else proofs

    for name, result in fan_out([site_of(one).host for one in going(outcomes)], ask, forks=run.forks).items():
        if isinstance(result, HostError):
            outcomes[name].error = result
    judge(outcomes, earlier or {}, run.say)


def confirm(run: Run, outcomes: Mapping[str, Outcome], stages: Collection[str]) -> None:
    """Changed is said only where a fresh look finds nothing left of what these stages do."""

    def again(host: Host) -> None:
        site = look(site_of(outcomes[host.name]).session, run.wishes, run.clock)
        left = _left(site.plan, stages)
        if left:
            raise HostError(
                host.name, f"after the run a fresh look still finds: {'; '.join(left)}", hint="run it again"
            )
        outcomes[host.name].site = site

    changed = [site_of(one).host for one in going(outcomes) if one.changed]
    for name, result in fan_out(changed, again, forks=run.forks).items():
        if isinstance(result, HostError):
            outcomes[name].error = result


def _left(plan: HostPlan, stages: Collection[str]) -> list[str]:
    fixes = [fix.what for fix in plan.fixes if "prepare" in stages]
    models = [step.what for step in plan.models if step.changes and "models" in stages]
    images = [step.what for step in plan.images if step.changes and "distribute" in stages]
    containers = [change.name for change in plan.serving.changes if "serve" in stages]
    removals = [step.what for step in plan.removals if "prune" in stages]
    return [*fixes, *models, *images, *containers, *removals]


def outcome_of_look(name: str, result: Site | HostError) -> Outcome:
    """A host that is not fit has an error."""
    if isinstance(result, HostError):
        return Outcome(name, error=result)
    kept = sum(not line.changes for line in result.plan.lines)
    if result.plan.ready:
        return Outcome(name, result, kept=kept)
    return Outcome(name, result, kept=kept, error=unfit(result))
