"""A source in its checkout -> everything that decides a build: arguments, stage, base images, content key.

With a base of one's own (`source.base`) there are two of them, and the image's content key has the base's key in the
place of a digest: so the key is known before the base is built, and the same on every controller.
"""

from dataclasses import dataclass, replace

from fleet.errors import FleetError, InputError
from fleet.image import build, build_ca, build_plan, dockerfile, reference
from fleet.image import source as sources
from fleet.image.build_plan import Base
from fleet.image.content_key import Ingredients, content_key
from fleet.image.context import context_paths
from fleet.image.dockerfile import BASE_ARG, PREDEFINED, Dockerfile
from fleet.image.lock import Lock
from fleet.image.source import Checkout
from fleet.image.workshop import Workshop, resolve_tag
from fleet.inventory.settings import OwnBase, Source

PLATFORM = "linux/amd64"


@dataclass(frozen=True)
class Recipe:
    """One build as it was settled. `tag` is its image's name on the builder; `own` the base that is built first."""

    tag: str
    file: Dockerfile
    built: Dockerfile  # the same, as it is given to the builder: with the CA's mounts where there is one
    args: dict[str, str]
    target: str
    base: Base
    key: str
    gfx: tuple[str, ...]
    local: tuple[Base, ...] = ()  # bases that lie on the builder alone, by the IDs that are locked
    own: "Recipe | None" = None
    domains: tuple[str, ...] = ()  # of the registries that bases are pulled from

    @property
    def name(self) -> str:
        return self.tag.rpartition(":")[0]

    @property
    def told_args(self) -> dict[str, str]:
        """The build arguments as a release tells them; a proxy says how a build ran, and may hold a password."""
        told = {name: value for name, value in self.args.items() if name not in PREDEFINED}
        own = self.own.told_args if self.own else {}
        return {**told, **{f"base.{name}": value for name, value in own.items()}}


def tag_of(name: str, key: str) -> str:
    """What a built image is called on the builder."""
    return f"{name}:build-{key}"


def base_name(name: str) -> str:
    """What the base of an image of ours is called."""
    return f"{name}-base"


def settle(
    name: str, source: Source, tree: Checkout, workshop: Workshop, lock: Lock, gfx: tuple[str, ...]
) -> tuple[Recipe, Lock]:
    """Read the Dockerfile that was checked out, and its base's, and settle everything that they leave open."""
    own = None
    if source.base is not None:
        own, lock = _settle_base(name, source, source.base, tree, workshop, lock, gfx)
        source = replace(source, base_image=own.tag)
    text = _text(source, tree)
    ours = Base(own.tag, own.tag, f"key:{own.key}") if own else None
    recipe, bases, lock = _settle(source, text, workshop, lock, gfx, ours)
    if own is not None and recipe.base != ours:
        raise FleetError(
            f"{source.dockerfile} at {source.ref}: stage {recipe.target} is not made from {BASE_ARG}",
            hint="leave source.base out, or set source.target to a stage that is",
        )
    key = content_key(Ingredients(tree.commit, text, recipe.target, recipe.args, bases, recipe.gfx, tree.patches))
    return replace(recipe, tag=tag_of(name, key), key=key, own=own), lock


def _settle_base(
    name: str, source: Source, base: OwnBase, tree: Checkout, workshop: Workshop, lock: Lock, gfx: tuple[str, ...]
) -> tuple[Recipe, Lock]:
    """The base is built as any source is, but of the tree only what its Dockerfile takes counts for its key."""
    plain = replace(source, dockerfile=base.build, target=base.target, args=base.args, base=None, gfx=())
    text = _text(plain, tree)
    recipe, bases, lock = _settle(plain, text, workshop, lock, gfx, None)
    taken = sources.context_hash(source, tree, context_paths(text))
    args = {**recipe.args, "TARGETPLATFORM": PLATFORM}
    key = content_key(Ingredients(taken, text, recipe.target, args, bases, recipe.gfx))
    return replace(recipe, tag=tag_of(base_name(name), key), key=key), lock


def _settle(
    source: Source, text: str, workshop: Workshop, lock: Lock, gfx: tuple[str, ...], ours: Base | None
) -> tuple[Recipe, str, Lock]:
    """All but the key, and what the base images are. `ours` is the base that is not looked up, because it is built first."""
    file = dockerfile.read(text, source.dockerfile)
    problems = build_plan.judge(source, file)
    if problems:
        raise InputError(*problems)
    args = build_plan.build_args(source, file, gfx)
    target = source.target or file.default_target
    bases = []
    for name in file.base_images(target, args):
        if ours is not None and name == ours.reference:
            bases.append(ours)
            continue
        base, lock = base_of(name, workshop, lock)
        bases.append(base)
    first = next((base for base in bases if base.reference == file.values(args).get(BASE_ARG)), Base())
    built = dockerfile.read(build_ca.with_ca(text), source.dockerfile) if source.ca_file else file
    identity = ",".join(base.identity for base in bases)
    taken = gfx if file.gfx_arg else ()
    local = tuple(base for base in bases if base is not ours and "@" not in base.pinned)
    domains = tuple(sorted({reference.parse(base.pinned).domain for base in bases if "@" in base.pinned}))
    return Recipe("", file, built, args, target, first, "", taken, local, domains=domains), identity, lock


def _text(source: Source, tree: Checkout) -> str:
    path = tree.path / source.dockerfile
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = sorted(str(other.relative_to(tree.path)) for other in tree.path.glob("docker/Dockerfile*"))
        hint = f"it has {', '.join(found)}" if found else "it has no docker/Dockerfile* at all"
        raise FleetError(f"{source.repository} at {source.ref} has no {source.dockerfile}", hint=hint) from error


def base_of(name: str, workshop: Workshop, lock: Lock) -> tuple[Base, Lock]:
    """What a base image is: by its registry's digest, else by the ID of the one that the builder has. Both are locked.

    A name of Docker Hub that the builder has and never pulled is an image of one's own, so nobody else is asked for it.
    """
    wanted = reference.parse(name)
    full = f"{wanted.name}:{wanted.tag_or_latest}"
    known = "" if workshop.update else lock.local_id(full)
    if known:
        return Base(name, name, known), lock
    locked = lock.image(full)
    hub = wanted.domain == reference.DEFAULT_DOMAIN
    identity = build.image_id(workshop.machine, name) if hub and not locked else ""
    if identity and not build.pulled(workshop.machine, wanted):
        return Base(name, name, identity), lock.with_local(full, identity)
    problem: FleetError | None = None
    try:
        digest, lock = resolve_tag(workshop, wanted, lock)
    except FleetError as error:
        if locked:  # it is the registry's, which does not answer now: no reason to build on what lies here
            raise
        digest, problem = "", error
    if digest:
        return Base(name, str(wanted.pinned(digest)), digest), lock
    identity = identity or build.image_id(workshop.machine, name)
    if identity:
        return Base(name, name, identity), lock.with_local(full, identity)
    why = problem.message if problem else f"registry {wanted.domain} has no such tag"
    raise FleetError(f"base image {name}: {why}, and {workshop.machine.name} does not have it either")
