"""A source spec -> commit -> content key -> a release that exists already, or a build."""

from dataclasses import replace

from fleet.errors import FleetError
from fleet.image import build, build_plan
from fleet.image import source as sources
from fleet.image.describe import LABEL_BASE_KEY, Made, release_of
from fleet.image.lock import Lock
from fleet.image.own_base import Standing, run_build, standing
from fleet.image.recipe import Recipe, settle, tag_of
from fleet.image.release import Release
from fleet.image.smoke import SmokeError
from fleet.image.source import Checkout
from fleet.image.workshop import Outlook, Workshop, find, short_hash, take
from fleet.inventory.settings import Image, Source


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
        recipe, lock = settle(image.name, source, tree, workshop, lock, targets)
        workshop.store.know_key(_memo(image.name, source, commit, targets, lock), recipe.key)
        known = find(workshop, image.name, recipe.key)
        if known is not None:
            return Outlook(known, recipe.key, lock, f"build {image.name}", _same(source, recipe.key))
        there = build.image_there(workshop.machine, recipe.tag, recipe.key)
        if make:  # before it is there: what a killed build has left is somebody's too
            workshop.claim(recipe.key, recipe.own.key if recipe.own else "")
        what = f"bring {recipe.tag} from" if there else f"build {recipe.tag} on"
        what, why = f"{what} {workshop.machine.name}", f"{workshop.machine.name} had it built"
        base: Standing | None = None
        if not there:
            why = f"{source.ref} ({commit[:12]}) was not built before"
            base = standing(recipe.own, workshop) if recipe.own else None
            if recipe.own and base:
                what, why = base.words(recipe.own, what, why)
        try:
            if not there:
                _make(source, tree, recipe, base, workshop, make=make)
            if make and workshop.prove is not None:
                workshop.prove(recipe.tag)
        except (build.BuildError, SmokeError) as error:
            error.key = recipe.key  # of the image, also where it was its base that could not be built
            raise
        release = _export(image, source, recipe, workshop) if make else None
    return Outlook(release, recipe.key, lock, what, why)


def _make(
    source: Source, tree: Checkout, recipe: Recipe, base: Standing | None, workshop: Workshop, *, make: bool
) -> None:
    """Build the base where it is missing, then the image. Both files are judged before either is begun."""
    builder = build.builder_of(workshop.machine)
    build.require(workshop.machine, builder, recipe.built)
    own = recipe.own
    if own is not None and base is not None and base.base is None:
        build.require(workshop.machine, builder, own.built)
    _as_locked(recipe, workshop)
    if own is not None and base is not None and base.base is None:
        _as_locked(own, workshop)
    if not make:
        return
    labels: dict[str, str] = {}
    if own is not None and base is not None:
        if base.base is None:
            said = build_plan.base_labels(source, own.key, own.gfx, own.base)
            run_build(own, source, tree, builder, workshop, said)
            base = standing(own, workshop)
        if base.base is None:
            raise FleetError(f"{workshop.machine.name} does not have {own.tag}, which it has just built")
        recipe, labels = replace(recipe, base=base.base), {LABEL_BASE_KEY: own.key}
    labels |= build_plan.labels(source, tree.commit, tree.describe, recipe.key, recipe.gfx, recipe.base)
    run_build(recipe, source, tree, builder, workshop, labels)


def _as_locked(recipe: Recipe, workshop: Workshop) -> None:
    """A name on the builder can be given to another image, and a build knows the base by its name alone."""
    for base in recipe.local:
        found = build.image_id(workshop.machine, base.reference)
        if found != base.identity:
            is_now = f"is {found[:19]} there now" if found else "is not there any more"
            raise FleetError(
                f"base image {base.reference} of {workshop.machine.name} is locked as {base.identity[:19]} and {is_now}",
                hint="tag the old one again, or let build --update take what is there",
            )


def export_again(workshop: Workshop, release: Release) -> None:
    """A release's layout from the builder's image, if it still has it: packed again, it has the same digests."""
    tag = tag_of(release.name, release.content_key)
    if not build.image_there(workshop.machine, tag, release.content_key):
        raise FleetError(f"{workshop.machine.name} no longer has {tag}")
    with workshop.store.fresh_layout(release.id) as fresh:
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
    locked = [f"{tag}={digest}" for tag, digest in (*sorted(lock.images.items()), *sorted(lock.local.items()))]
    words = (source.repository, commit, source.dockerfile, source.target, source.base_image)
    base = source.base
    own = (
        ("base", base.build, base.target, *(f"{key}={value}" for key, value in sorted(base.args.items())))
        if base
        else ()
    )
    return short_hash("source", name, *words, *args, *gfx, *sources.patch_hashes(source), *locked, *own)


def _export(image: Image, source: Source, recipe: Recipe, workshop: Workshop) -> Release:
    where = f"{build_plan.without_credentials(source.repository)} {source.ref}"
    made = Made("source", where, "", image.gfx, image.rocm, args=recipe.told_args)
    release = workshop.straight(recipe.tag, image.name, made) if workshop.straight else None
    if release is None:
        with workshop.store.fresh_layout(recipe.key) as fresh:
            converted = build.export(workshop.machine, recipe.tag, fresh, on_line=workshop.on_line)
            release = release_of(converted.image, image.name, replace(made, dropped=converted.dropped))
            workshop.store.adopt(fresh, release)
    workshop.store.keep(recipe.key, release)
    return release
