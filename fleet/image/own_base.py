"""A base image of our own: where it is already, and how either of the two images is built."""

from collections.abc import Mapping
from dataclasses import dataclass

from fleet.image import build, reference
from fleet.image.build_plan import Base, BuildPlan
from fleet.image.builder_facts import BuilderFacts
from fleet.image.dockerfile import BASE_ARG
from fleet.image.recipe import Recipe
from fleet.image.source import Checkout
from fleet.image.workshop import Workshop, recorded
from fleet.inventory.settings import Registry, Source


@dataclass(frozen=True)
class Standing:
    """Where a base is. `base` None: nowhere, it has to be built."""

    base: Base | None
    where: str

    def words(self, own: Recipe, what: str, why: str) -> tuple[str, str]:
        """What is built and why, for both images, out of the words for the image alone."""
        if self.base is None:
            said = f"its base of content key {own.key} is nowhere yet"
            return f"build {own.tag} from {own.file.path}, then {what}", f"{said}; {why}"
        return f"{what} on the base {own.tag}", f"{why}; its base is unchanged ({self.where} has it)"


def standing(own: Recipe, workshop: Workshop) -> Standing:
    """Asked in turn: the builder, and the registry, from which the builder pulls it."""
    machine = workshop.machine
    if build.image_there(machine, own.tag, own.key):
        return Standing(Base(own.tag, own.tag, build.image_id(machine, own.tag)), machine.name)
    release = recorded(workshop.registry, own.name, own.key) if workshop.registry else None
    if release is None or workshop.registry is None:
        return Standing(None, "")
    host = workshop.registry.host
    return Standing(Base(own.tag, str(release.in_registry(host)), release.manifest_digest), host)


def run_build(
    recipe: Recipe,
    source: Source,
    tree: Checkout,
    builder: BuilderFacts,
    workshop: Workshop,
    labels: Mapping[str, str],
) -> None:
    """Build one image on the builder. Raises BuildError."""
    pinned = {BASE_ARG: recipe.base.pinned} if recipe.base.pinned else {}
    plan = BuildPlan(
        tag=recipe.tag,
        dockerfile=recipe.file.path,
        target=recipe.file.target_flag(recipe.target),
        args={**recipe.args, **pinned},
        labels=labels,
        why=f"no image of content key {recipe.key} exists",
        proxy=source.proxy,
        buildkit=bool(recipe.built.features) or bool(builder.buildx),
    )
    log = workshop.store.log(f"build-{recipe.name.replace('/', '-')}-{recipe.key}")
    build.build(
        plan,
        builder,
        workshop.machine,
        tree.path,
        log,
        ca_file=source.ca_file,
        registries=_base_registries(recipe, workshop),
        stall=source.stall,
        on_line=workshop.on_line,
    )
    workshop.claim(build.image_id(workshop.machine, recipe.tag))


def _base_registries(recipe: Recipe, workshop: Workshop) -> tuple[Registry, ...]:
    """Those that the base images are pulled from, as far as they want something of us."""
    pinned = {recipe.base.pinned} if "@" in recipe.base.pinned else set()
    domains = {*recipe.domains, *(reference.parse(one).domain for one in pinned)}
    found = [workshop.registry_for(domain) for domain in sorted(domains)]
    return tuple(one for one in found if one.ca_file or one.username)
