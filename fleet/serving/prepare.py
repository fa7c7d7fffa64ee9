"""One host's serving from settings and facts to a plan, and the context to carry it out: the way in for the verbs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import docker

from fleet.facts import Facts, collect
from fleet.inventory.settings import Service, Settings
from fleet.seam import Bare, Seam
from fleet.serving import secrets
from fleet.serving.context import Context, Guard, Unguarded
from fleet.serving.desired import Desired, SecretFiles, desired
from fleet.serving.draining import Drains
from fleet.serving.inspection import Inspection
from fleet.serving.observe import Observed, observe
from fleet.serving.plan import plan
from fleet.serving.spec import ImageIdentity
from fleet.serving.steps import ServingPlan
from fleet.shell import Shell


@dataclass(frozen=True)
class Prepared:
    """What is there, what should be, and the steps between. Notes and problems of both stand in the plan."""

    observed: Observed
    desired: Desired
    plan: ServingPlan


def prepare(
    session: Shell,
    client: docker.DockerClient,
    settings: Settings,
    facts: Facts,
    images: Mapping[str, ImageIdentity],
    *,
    prune: bool = False,
    take_over: frozenset[str] = frozenset(),
    reveal: bool = True,
    settle: float = 0.0,
) -> Prepared:
    """Read the host and plan; changes nothing. `images`: service -> release. Raises HostError, FleetError (a secret).

    Services without a release are left as they are.

    `reveal=False` (status) asks for no secret and takes the files on the host to be right.
    """
    names = [f"{service.name}-{number}" for service in settings.services.values() for number in range(service.replicas)]
    observed = observe(session, client, (*names, *take_over))
    observed = replace(observed, containers=tuple(_hearing(one, facts) for one in observed.containers))
    digests = {
        name: secrets.digest(secrets.content({key: secret.reveal() for key, secret in service.secrets.items()}))
        for name, service in settings.services.items()
        if service.secrets and reveal
    }
    files = SecretFiles(digests if reveal else None, observed.secret_files)
    wanted = desired(settings, facts, observed.state_dir, images, files, observed.containers)
    made = plan(
        wanted.specs,
        observed.containers,
        written=wanted.written,
        prune=prune,
        take_over=take_over,
        settle=settle,
        drains=Drains.of_settings(settings),
        aside=frozenset(settings.services) - frozenset(images),
        drained=observed.drained,
    )
    made = replace(made, notes=(*wanted.notes, *made.notes), problems=(*wanted.problems, *made.problems))
    return Prepared(observed, wanted, made)


def _hearing(one: Inspection, facts: Facts) -> Inspection:
    """With the ports that the host's own sockets say it holds: no command line has to tell them."""
    ports = (entry.port for entry in facts.listeners or () if entry.container and one.id.startswith(entry.container))
    return replace(one, heard=frozenset(ports))


def context_for(
    session: Shell,
    client: docker.DockerClient,
    settings: Settings,
    *,
    log_dir: Path,
    say: Callable[[str], None] = lambda _text: None,
    seam: Seam | None = None,
    guard: Guard | None = None,
) -> Context:
    """A context whose secrets are revealed once, when first needed, and never leave it unredacted."""

    @cache
    def values(name: str) -> Mapping[str, str]:
        return {key: secret.reveal() for key, secret in settings.services[name].secrets.items()}

    @cache
    def redactor() -> secrets.Redactor:
        return secrets.Redactor(value for name in settings.services for value in values(name).values())

    def of(service: Service) -> Mapping[str, str]:
        return values(service.name)

    def redact(text: str) -> str:
        return redactor()(text)

    return Context(
        session,
        client,
        settings.services,
        of,
        log_dir,
        say=say,
        redact=redact,
        facts=lambda: collect(session, settings),
        seam=seam or Bare(),
        guard=guard or Unguarded(),
    )
