"""One host under a run: its session, its engine, and everything a plan needs to know of it, read over one connection."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import docker

from fleet.delivery import observe as images
from fleet.delivery.by_hand import place_ca
from fleet.delivery.depot import Depot
from fleet.delivery.plan import NOTHING_STAGED, Load, PlaceCa, Step, ca_path
from fleet.delivery.progress import STALL
from fleet.delivery.relay import Ground
from fleet.delivery.send import Sender
from fleet.engine import docker_client
from fleet.errors import HostError
from fleet.facts import Facts
from fleet.image.release import Release
from fleet.inventory.model import Host
from fleet.models import plan as models
from fleet.models.resolve import Origin
from fleet.preflight import Finding, check, needs_of
from fleet.prepare import Fix
from fleet.prepare import by_hand as fixes_by_hand
from fleet.prepare import plan as plan_fixes
from fleet.rollout.census import read as read_images
from fleet.rollout.hostplan import HostPlan
from fleet.rollout.images import Certificates, identity, plan_images, pulls_from, weight
from fleet.rollout.modelplan import Weighed, weigh
from fleet.rollout.past import look_back
from fleet.rollout.relayground import look_at_relays
from fleet.rollout.straighten import straighten
from fleet.rollout.surplus import RemoveImage, surplus
from fleet.seam import Bare, Seam
from fleet.serving.context import Context, Guard, Unguarded
from fleet.serving.inspection import Inspection
from fleet.serving.observe import observe
from fleet.serving.prepare import Prepared, context_for, prepare
from fleet.serving.steps import Remove, ServingPlan
from fleet.settled import settled
from fleet.transport import Connector, Session


@dataclass(frozen=True)
class Tuning:
    """What plays ask of one host beyond its inventory. `settle`: seconds that a new replica must stay healthy.

    `prepare` are the ids of fixes to carry out (empty = all), None where no play prepares the host. `keep` are the newest
    releases of a service that stay when images are pruned, None where no play prunes.
    """

    settle: float = 0.0
    strict: bool = False
    prepare: tuple[str, ...] | None = None
    keep: int | None = None


@dataclass(frozen=True)
class Wishes:
    """What a run wants of every host. `certificates` are CA texts by registry."""

    releases: Mapping[str, Mapping[str, Release]] = field(default_factory=dict)
    certificates: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)  # release id -> registry that a sideload begins at
    depots: Mapping[str, Depot] = field(default_factory=dict)  # release id -> where its builder hands it out
    left_out: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by release id, layers that only hosts have
    prune: bool = False
    take_over: frozenset[str] = frozenset()
    serve: bool = True  # plan containers too, not only images
    partial: bool = False  # services without a release are left as they are, instead of waited for
    refused: Mapping[str, str] = field(default_factory=dict)  # by host, why it is left alone
    reveal: bool = True  # read secrets, to see whether their files are right
    tuning: Mapping[str, "Tuning"] = field(default_factory=dict)  # by host, what the playbook's plays ask of it
    relays: Mapping[str, Release] = field(default_factory=dict)  # the registry's image of hosts that may be relays
    fingerprint: str = ""  # sha256 of the site's CA
    tidy: bool = True  # what a killed run left of relays is removed
    weights: Mapping[str, Mapping[str, Origin]] = field(default_factory=dict)  # by host and name, models to bring
    rehash: bool = False  # believe no list of checksums that lies on a host
    gate: bool = True  # findings keep a host out

    def tuned(self, host: str) -> Tuning:
        return self.tuning.get(host, Tuning())


@dataclass(frozen=True)
class Site:
    """One host, reached and read. `findings` are preflight's."""

    host: Host
    session: Session
    client: docker.DockerClient
    facts: Facts
    findings: tuple[Finding, ...]
    prepared: Prepared | None
    plan: HostPlan
    ground: Ground | None = None  # of relays, where the host has to do with one
    registry_image: tuple[Step, ...] = ()  # what brings the registry's image, should it be the relay
    weighed: Weighed = field(default_factory=Weighed)  # of the models that are brought, what they are here

    def context(
        self, root: Path, say: Callable[[str, str], None], seam: Seam | None = None, guard: Guard | None = None
    ) -> Context:
        """What serving's steps need here; logs are saved below `root`, and `say(host, line)` hears of progress."""
        name = self.host.name
        return context_for(
            self.session,
            self.client,
            self.host.settings,
            log_dir=root / "logs",
            say=lambda line: say(name, line),
            seam=seam or Bare(),
            guard=guard or Unguarded(),
        )

    def containers(self) -> tuple[Inspection, ...]:
        """Ours in every state and all living ones. Raises HostError where the engine does not answer."""
        if self.prepared is not None:
            return self.prepared.observed.containers
        if self.facts.docker.state != "running":
            raise HostError(self.host.name, f"Docker is {self.facts.docker.state}", hint="invoke preflight tells why")
        return observe(self.session, self.client).containers


def visit(connector: Connector, host: Host, wishes: Wishes, clock: Callable[[], float]) -> Site:
    """Connect to a host and look. The session stays open; closing the connector ends it. Raises HostError."""
    return look(connector.connect(host), wishes, clock)


def look(session: Session, wishes: Wishes, clock: Callable[[], float]) -> Site:
    """Read everything anew over an open session and plan. Changes nothing."""
    host = session.host
    releases, tuning = wishes.releases.get(host.name, {}), wishes.tuned(host.name)
    take_over = tuple(wishes.take_over)
    facts, now = settled(session, needs_of(host, None, clock(), take_over=take_over), clock)
    client = docker_client(session, timeout=STALL)
    running = facts.docker.state == "running"
    wanted = wishes.weights.get(host.name, {})
    weighed = weigh(session, client if running else None, wanted, rehash=wishes.rehash)
    weights = weighed.plan
    coming = frozenset(step.name for step in weights.steps if isinstance(step, models.Switch))
    if not running:
        needs = needs_of(host, None, now, take_over=take_over, coming=coming)
        findings = check(facts, needs)
        fixes, by_hand = _fixes(tuning, findings, facts, host)
        blocked = _fails(findings, tuning) if wishes.gate else ()
        plan = HostPlan(host.name, (), ServingPlan(()), blocked, weights.problems, fixes, by_hand, models=weights.steps)
        plan = replace(plan, notes=weighed.notes)
        return Site(host, session, client, facts, findings, None, plan, weighed=weighed)
    steps = image_steps(session, client, facts, releases, wishes)
    ground, registry_image, left = look_at_relays(
        session, client, facts, wishes.relays.get(host.name), wishes.fingerprint
    )
    steps += left if wishes.tidy else ()
    findings = check(facts, needs_of(host, weight(releases, steps), now, take_over=take_over, coming=coming))
    complete = wishes.partial or set(releases) == set(host.settings.services)
    prepared = _prepare(session, client, facts, releases, wishes) if wishes.serve and complete else None
    waiting = () if complete else ("the containers are planned when the image has been made",)
    serving = prepared.plan if prepared else ServingPlan((), notes=waiting if wishes.serve else ())
    fixes, by_hand = _fixes(tuning, findings, facts, host)
    plan = HostPlan(
        host.name,
        steps,
        serving,
        _fails(findings, tuning) if wishes.gate else (),
        (*_refused(host, wishes), *left_out(steps), *_obstacles(session, facts, steps), *weights.problems),
        fixes,
        by_hand,
        _removals(session, client, releases, tuning, serving),
        models=weights.steps,
        notes=weighed.notes,
    )
    return Site(host, session, client, facts, findings, prepared, plan, ground, registry_image, weighed)


def image_steps(
    session: Session, client: docker.DockerClient, facts: Facts, releases: Mapping[str, Release], wishes: Wishes
) -> tuple[Step, ...]:
    """What brings the releases to the host, as the engine there tells what it has. Changes nothing."""
    if not releases:
        return ()
    settings = session.host.settings
    registries = {one.host for name in releases if (one := pulls_from(settings, settings.services[name]))}
    found = {host: _read(session, ca_path(host)) for host in sorted(registries & set(wishes.certificates))}
    holdings = images.observe(
        client,
        session.host.name,
        {release.name for release in releases.values()},
        {digest for release in releases.values() for digest in (release.config_digest, release.manifest_digest)},
        containerd_store=facts.docker.image_store == "containerd",
    )
    certificates = Certificates(wishes.certificates, found)
    stages = settings.delivery == "sideload" or session.host.name in wishes.relays
    sender = Sender.of(session)
    staging = sender.look(settings.staging_dir) if stages else NOTHING_STAGED
    steps = plan_images(
        settings,
        releases,
        holdings,
        certificates,
        bastions=session.via,
        origins=wishes.origins,
        left_out=wishes.left_out,
        staging=staging,
    )
    return straighten(steps, releases, wishes.depots, session.host, sender)


def _prepare(
    session: Session, client: docker.DockerClient, facts: Facts, releases: Mapping[str, Release], wishes: Wishes
) -> Prepared:
    known = {name: identity(release) for name, release in releases.items()}
    return prepare(
        session,
        client,
        session.host.settings,
        facts,
        known,
        prune=wishes.prune,
        take_over=wishes.take_over,
        reveal=wishes.reveal,
        settle=wishes.tuned(session.host.name).settle,
    )


def _removals(
    session: Session,
    client: docker.DockerClient,
    releases: Mapping[str, Release],
    tuning: Tuning,
    serving: ServingPlan,
) -> tuple[RemoveImage, ...]:
    if tuning.keep is None:
        return ()
    known = {release.id: release for release in releases.values()}
    past = look_back(session, {release.name for release in known.values()}, known)
    images, users = read_images(client, session.host.name)
    going = {step.name for change in serving.changes for step in change.commit if isinstance(step, Remove)}
    used = {user.image for user in users if user.name not in going}
    return surplus(past, images, used, releases, tuning.keep)


def _read(session: Session, path: str) -> str | None:
    output = session.run(("cat", path), sudo=True, check=False)
    return output.stdout if output.ok else None


def _obstacles(session: Session, facts: Facts, steps: Collection[Step]) -> tuple[str, ...]:
    """Steps that only root may do, where nobody here is root: the lines for somebody who is."""
    if facts.user.uid == 0:
        return ()
    settings = session.host.settings
    registries = [one for service in settings.services.values() if (one := pulls_from(settings, service))]
    found = []
    for step in steps:
        if isinstance(step, PlaceCa):
            ca_file = next(one.ca_file for one in registries if one.host == step.registry and one.ca_file)
            here, there = place_ca(session.host.connection, session.user, step.registry, ca_file)
            found.append(
                f"only root may place the CA of {step.registry}, and {session.user} is not root; run the first line "
                f"here and the second on the host as root, then the same command again:\n    {here}\n    {there}"
            )
    return tuple(found)


def left_out(steps: Collection[Step]) -> tuple[str, ...]:
    """What a host lacks that the bundle does not carry, because it counted on the host for it. Pure."""
    return tuple(
        f"{step.name}: the bundle leaves out {', '.join(step.absent)}, which this host held when the base of the bundle was "
        "written and holds no longer; bring a full bundle, or one --since a fresh bundle.have"
        for step in steps
        if isinstance(step, Load) and step.absent
    )


def _refused(host: Host, wishes: Wishes) -> tuple[str, ...]:
    return (wishes.refused[host.name],) if host.name in wishes.refused else ()


def _fails(findings: Collection[Finding], tuning: Tuning) -> tuple[Finding, ...]:
    stops = ("fail", "warn") if tuning.strict else ("fail",)
    return tuple(finding for finding in findings if finding.severity in stops and not finding.accepted)


def _fixes(
    tuning: Tuning, findings: Sequence[Finding], facts: Facts, host: Host
) -> tuple[tuple[Fix, ...], tuple[Fix, ...]]:
    """What the stage prepare will do, and what only somebody else, who is root, could."""
    if tuning.prepare is None:
        return (), ()
    given = (findings, facts, host.settings)
    return plan_fixes(*given, only=tuning.prepare), fixes_by_hand(*given, only=tuning.prepare)
