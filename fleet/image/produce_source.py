"""A source spec -> commit -> content key -> a release that exists already, or a build."""

from dataclasses import dataclass, replace

from fleet.errors import FleetError, InputError
from fleet.image import build, build_ca, build_plan, dockerfile, reference
from fleet.image import source as sources
from fleet.image.build_plan import Base, BuildPlan
from fleet.image.builder_facts import BuilderFacts
from fleet.image.content_key import Ingredients, content_key
from fleet.image.describe import Made, release_of
from fleet.image.dockerfile import BASE_ARG, Dockerfile
from fleet.image.lock import Lock
from fleet.image.release import Release
from fleet.image.source import Checkout
from fleet.image.workshop import Outlook, Workshop, find, resolve_tag, short_hash, take
from fleet.inventory.settings import Image, Registry, Source


@dataclass(frozen=True)
class _Recipe:
    """A source as it was found in its checkout."""

    file: Dockerfile
    built: Dockerfile  # the same, as it is given to the builder: with the CA's mounts where there is one
    args: dict[str, str]
    target: str
    base: Base
    key: str
    gfx: tuple[str, ...]


def from_source(
    image: Image, source: Source, workshop: Workshop, lock: Lock, gfx: tuple[str, ...], *, make: bool
) -> Outlook:
    """The release of a source spec. Builds, if `make` says so, only when nobody has built the same before."""
    commit = "" if workshop.update else lock.commit(source.repository, source.ref)
    if not commit:
        commit = sources.resolve(source)
        lock = lock.with_commit(source.repository, source.ref, commit)
    targets = tuple(sorted(set(source.gfx or gfx)))
    key = "" if workshop.update else workshop.store.known_key(_memo(image.name, source, commit, targets, lock))
    known = find(workshop, image.name, key) if key else None
    if known is not None:
        return Outlook(known, key, lock, f"build {image.name}", _same(source, key))
    with sources.checkout(source, commit, workshop.store.root) as tree:
        recipe, lock = _recipe(source, tree, workshop, lock, targets)
        workshop.store.know_key(_memo(image.name, source, commit, targets, lock), recipe.key)
        known = find(workshop, image.name, recipe.key)
        if known is not None:
            return Outlook(known, recipe.key, lock, f"build {image.name}", _same(source, recipe.key))
        tag = f"{image.name}:build-{recipe.key}"
        there = build.image_there(workshop.machine, tag, recipe.key)
        what = f"bring {tag} from {workshop.machine.name}" if there else f"build {tag} on {workshop.machine.name}"
        why = f"{workshop.machine.name} had it built" if there else f"{source.ref} ({commit[:12]}) was not built before"
        if not there:
            builder = build.builder_of(workshop.machine)
            build.require(workshop.machine, builder, recipe.built)
            if make:
                _build(image, source, tree, recipe, builder, workshop)
        if make and workshop.prove is not None:
            workshop.prove(tag)
        release = _export(image, source, recipe, workshop) if make else None
    return Outlook(release, recipe.key, lock, what, why)


def export_again(workshop: Workshop, release: Release) -> None:
    """A release's layout from the builder's image, if it still has it: packed again, it has the same digests."""
    tag = f"{release.name}:build-{release.content_key}"
    if not build.image_there(workshop.machine, tag, release.content_key):
        raise FleetError(f"{workshop.machine.name} no longer has {tag}")
    fresh = workshop.store.fresh_layout(release.id)
    converted = build.export(workshop.machine, tag, fresh, on_line=workshop.on_line)
    take(workshop.store, converted, release, workshop.machine.name)


def known_source(image: Image, source: Source, workshop: Workshop, lock: Lock, gfx: tuple[str, ...]) -> Release | None:
    """The release of a source spec that this controller has settled before, without asking git or the builder."""
    commit = lock.commit(source.repository, source.ref)
    if not commit:
        return None
    targets = tuple(sorted(set(source.gfx or gfx)))
    key = workshop.store.known_key(_memo(image.name, source, commit, targets, lock))
    return find(workshop, image.name, key) if key else None


def _same(source: Source, key: str) -> str:
    return f"{source.ref} with these arguments, base and patches was built before (content key {key})"


def _memo(name: str, source: Source, commit: str, gfx: tuple[str, ...], lock: Lock) -> str:
    """A name for these settings: equal settings on an equal lock gave an equal content key."""
    args = [f"{key}={value}" for key, value in sorted(source.args.items())]
    locked = [f"{tag}={digest}" for tag, digest in sorted(lock.images.items())]
    words = (source.repository, commit, source.dockerfile, source.target, source.base_image)
    return short_hash("source", name, *words, *args, *gfx, *sources.patch_hashes(source), *locked)


def _recipe(
    source: Source, tree: Checkout, workshop: Workshop, lock: Lock, gfx: tuple[str, ...]
) -> tuple[_Recipe, Lock]:
    """Read the Dockerfile that was checked out and settle everything that it leaves open."""
    text = _text(source, tree)
    file = dockerfile.read(text, source.dockerfile)
    problems = build_plan.judge(source, file)
    if problems:
        raise InputError(*problems)
    args = build_plan.build_args(source, file, gfx)
    target = source.target or file.default_target
    bases = []
    for name in file.base_images(target, args):
        base, lock = _base(name, workshop, lock)
        bases.append(base)
    first = next((base for base in bases if base.reference == file.values(args).get(BASE_ARG)), Base())
    taken = gfx if file.gfx_arg else ()
    identity = ",".join(base.identity for base in bases)
    ingredients = Ingredients(tree.commit, text, target, args, identity, taken, tree.patches)
    built = dockerfile.read(build_ca.with_ca(text), source.dockerfile) if source.ca_file else file
    return _Recipe(file, built, args, target, first, content_key(ingredients), taken), lock


def _text(source: Source, tree: Checkout) -> str:
    path = tree.path / source.dockerfile
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = sorted(str(other.relative_to(tree.path)) for other in tree.path.glob("docker/Dockerfile*"))
        hint = f"it has {', '.join(found)}" if found else "it has no docker/Dockerfile* at all"
        raise FleetError(f"{source.repository} at {source.ref} has no {source.dockerfile}", hint=hint) from error


def _base(name: str, workshop: Workshop, lock: Lock) -> tuple[Base, Lock]:
    """What a base image is: by its registry's digest, else by the ID of the one that the builder has."""
    wanted = reference.parse(name)
    local = wanted.domain == reference.DEFAULT_DOMAIN and not lock.image(f"{wanted.name}:{wanted.tag_or_latest}")
    identity = build.image_id(workshop.machine, name) if local else ""
    if identity:
        return Base(name, name, identity), lock
    problem: FleetError | None = None
    try:
        digest, lock = resolve_tag(workshop, wanted, lock)
    except FleetError as error:
        digest, problem = "", error
    if digest:
        return Base(name, str(wanted.pinned(digest)), digest), lock
    identity = build.image_id(workshop.machine, name)
    if identity:
        return Base(name, name, identity), lock
    why = problem.message if problem else f"registry {wanted.domain} has no such tag"
    raise FleetError(f"base image {name}: {why}, and {workshop.machine.name} does not have it either")


def _build(
    image: Image, source: Source, tree: Checkout, recipe: _Recipe, builder: BuilderFacts, workshop: Workshop
) -> None:
    pinned = {BASE_ARG: recipe.base.pinned} if recipe.base.pinned else {}
    plan = BuildPlan(
        tag=f"{image.name}:build-{recipe.key}",
        dockerfile=source.dockerfile,
        target=recipe.file.target_flag(recipe.target),
        args={**recipe.args, **pinned},
        labels=build_plan.labels(source, tree.commit, tree.describe, recipe.key, recipe.gfx, recipe.base),
        why=f"no image of content key {recipe.key} exists",
        proxy=source.proxy,
        buildkit=bool(recipe.built.features) or bool(builder.buildx),
    )
    log = workshop.store.log(f"build-{image.name.replace('/', '-')}-{recipe.key}")
    build.build(
        plan,
        builder,
        workshop.machine,
        tree.path,
        log,
        ca_file=source.ca_file,
        registry=_base_registry(recipe, workshop),
        on_line=workshop.on_line,
    )


def _base_registry(recipe: _Recipe, workshop: Workshop) -> Registry | None:
    """The fleet's own registry where the base image is named in it."""
    ours = workshop.registry is not None and recipe.base.pinned.startswith(f"{workshop.registry.host}/")
    return workshop.registry if ours else None


def _export(image: Image, source: Source, recipe: _Recipe, workshop: Workshop) -> Release:
    fresh = workshop.store.fresh_layout(recipe.key)
    tag = f"{image.name}:build-{recipe.key}"
    where = f"{build_plan.without_credentials(source.repository)} {source.ref}"
    made = Made("source", where, "", image.gfx, image.rocm)
    release = workshop.straight(tag, image.name, made) if workshop.straight else None
    if release is None:
        converted = build.export(workshop.machine, tag, fresh, on_line=workshop.on_line)
        release = release_of(converted.image, image.name, replace(made, dropped=converted.dropped))
        workshop.store.adopt(fresh, release)
    workshop.store.keep(recipe.key, release)
    return release
