"""How the releases of one host get there. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from fleet.delivery import plan as delivery
from fleet.delivery.holdings import Holdings
from fleet.delivery.staging import Staging
from fleet.image.release import Release
from fleet.inventory.settings import Registry, Service, Settings
from fleet.preflight.needs import ImageFacts, Targets
from fleet.serving.spec import ImageIdentity

IMAGE_GROWTH = 3  # unpacked bytes for each compressed byte of a ROCm image, roughly; only a gate's estimate


@dataclass(frozen=True)
class Certificates:
    """CA texts by registry: `wanted` from the inventory's files, `found` on the host (None = no file)."""

    wanted: Mapping[str, str] = field(default_factory=dict)
    found: Mapping[str, str | None] = field(default_factory=dict)


def plan_images(
    settings: Settings,
    releases: Mapping[str, Release],
    holdings: Holdings,
    certificates: Certificates,
    *,
    bastions: Sequence[str] = (),
    origins: Mapping[str, str] = MappingProxyType({}),
    left_out: Mapping[str, frozenset[str]] = MappingProxyType({}),
    staging: Staging = delivery.NOTHING_STAGED,
) -> tuple[delivery.Step, ...]:
    """Steps for every release of the host, each once, by the host's delivery. `releases` go by service.

    What is staged for nothing goes first. `origins`, by release, name the registry that the controller has to fetch from before it can sideload.
    """
    steps: list[delivery.Step] = []
    seen: set[str] = set()
    for name, release in releases.items():
        if release.local_name in seen:
            continue
        seen.add(release.local_name)
        registry = pulls_from(settings, settings.services[name])
        if registry is not None:
            wanted, found = certificates.wanted.get(registry.host, ""), certificates.found.get(registry.host)
            steps += [step for step in delivery.plan_ca(registry.host, wanted, found) if step not in steps]
        repository = release.in_registry(registry.host).name if registry else ""
        way = delivery.sideload_way(bastions, origins.get(release.id, ""))
        wanted_here = replace(delivered(release), left_out=left_out.get(release.id, frozenset()))
        steps += delivery.plan(wanted_here, holdings, repository=repository, way=way, staging=staging)
    names = {release.config_digest: release.local_name for release in releases.values()}
    return (*delivery.plan_sweep(staging, settings.sideload.keep_seconds, names, steps), *steps)


def registry_of(settings: Settings, service: Service) -> Registry | None:
    """A service's own registry, else its host's."""
    return service.registry or settings.registry


def pulls_from(settings: Settings, service: Service) -> Registry | None:
    """The registry that the host itself pulls from; None where the image is sideloaded."""
    return registry_of(settings, service) if settings.delivery == "registry" else None


def delivered(release: Release) -> delivery.Wanted:
    """The release as a delivery sees it."""
    return delivery.Wanted(
        release.local_name,
        release.manifest_digest,
        release.config_digest,
        release.diff_ids,
        release.layer_sizes,
        release.layer_digests,
    )


def identity(release: Release) -> ImageIdentity:
    """The release as a container sees it."""
    return ImageIdentity(
        reference=release.local_name,
        release=release.id,
        config_digest=release.config_digest,
        manifest_digest=release.manifest_digest,
        diff_ids=release.diff_ids,
        entrypoint=release.entrypoint,
        env=release.env,
    )


def weight(releases: Mapping[str, Release], steps: Collection[delivery.Step]) -> ImageFacts | None:
    """What the images ask of the host: what each was built for, and room only for what still has to come."""
    if not releases:
        return None
    staged = sum(step.there for step in steps if isinstance(step, delivery.Load))
    size = sum(step.size for step in steps) + staged
    services: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for name, release in releases.items():
        services.setdefault((release.gfx, release.rocm), []).append(name)
    targets = tuple(Targets(gfx, rocm, tuple(names)) for (gfx, rocm), names in services.items())
    return ImageFacts(targets, size, size * IMAGE_GROWTH, staged)
