"""What replicas' answers and speeds say beside those of the others: warnings, or failures where the inventory says so."""

from collections.abc import Mapping
from dataclasses import replace

from fleet.errors import HostError
from fleet.inventory.settings import Verify
from fleet.rollout.run import Outcome, Say, going
from fleet.rollout.site import Site
from fleet.serving.compare import Answered, Finding, differences, kin_of, slow
from fleet.serving.context import Context
from fleet.serving.follow import load_on
from fleet.serving.observe import observe
from fleet.serving.verify import Proof


def weighed(site: Site, proofs: Mapping[str, Proof], context: Context, *, load: float) -> dict[str, Proof]:
    """The proofs with what each replica is like now and, under `load` seconds, how fast. One after the other: replicas
    of a host share its link and its processors. Raises HostError.
    """
    running = {one.name: one for one in observe(site.session, site.client).containers if one.alive}
    found = dict(proofs)
    for name, proof in proofs.items():
        one = running.get(name)
        service = site.host.settings.services.get(one.service) if one else None
        if one is None or service is None:
            continue
        speed = load_on(name, service, one.port, load, context) if load and proof.speed is None else proof.speed
        found[name] = replace(proof, kin=kin_of(site.host.name, one, site.facts), speed=speed)
    return found


def judge(outcomes: Mapping[str, Outcome], earlier: Mapping[str, Outcome], say: Say) -> None:
    """Compare `outcomes` with each other and with those that answered earlier in this run, whose words come first.

    Each finding becomes a warning of its host, told once, or its failure. An earlier host is only ever warned of.
    """
    before = [one for one in going(earlier) if one.host not in outcomes and one.proofs]
    before.sort(key=lambda one: min(proof.at for proof in one.proofs.values()))
    hosts = {one.host: one for one in (*before, *going(outcomes))}
    replicas = [
        Answered(proof.kin, proof.answers, proof.speed.tokens_per_s if proof.speed else None)
        for one in hosts.values()
        for proof in one.proofs.values()
        if proof.kin is not None
    ]
    rules = {(one.kin.host, one.kin.replica): _rules(hosts[one.kin.host], one.kin.service) for one in replicas}
    for finding in differences(replicas):
        _note(hosts, finding, rules[finding.kin.host, finding.kin.replica].compare, outcomes, say)
    shares = {key: int(rule.slow.rstrip("%")) for key, rule in rules.items()}
    for finding in slow(replicas, shares):
        _note(hosts, finding, rules[finding.kin.host, finding.kin.replica].on_slow, outcomes, say)


def _rules(outcome: Outcome, service: str) -> Verify:
    found = outcome.site.host.settings.services.get(service) if outcome.site else None
    return found.verify if found else Verify()


def _note(hosts: Mapping[str, Outcome], finding: Finding, rule: str, fresh: Mapping[str, Outcome], say: Say) -> None:
    outcome = hosts[finding.kin.host]
    start = " ".join(finding.said.split()[:3])  # the figures behind it move with every batch
    if rule == "off" or any(told.startswith(start) for told in outcome.warnings):
        return
    outcome.warnings.append(finding.said)
    if rule == "fail" and outcome.host in fresh and outcome.error is None:
        hint = f"look at the host before it gets more traffic: invoke logs {finding.kin.service} --limit {outcome.host}"
        outcome.error = HostError(outcome.host, f"{finding.said}; it serves all the same", hint=hint)
    else:
        say(outcome.host, f"warning: {finding.said}")
