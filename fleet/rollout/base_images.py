"""Bases of our own, put into the registry beside the images made from them, so that another builder finds them."""

from fleet.delivery.push import push
from fleet.image import build
from fleet.image.describe import LABEL_BASE_KEY, Made, release_of
from fleet.image.recipe import base_name, tag_of
from fleet.image.release import Release
from fleet.image.scratch import scratch
from fleet.image.workshop import Workshop, publish, recorded
from fleet.inventory.settings import Registry


def keep_base(image: Release, registry: Registry, workshop: Workshop, *, dry: bool) -> tuple[str, bool]:
    """What was done about the base of `image`, and whether that changed anything; ("", False) for nothing to do.

    A base that can no longer be had from the builder is no failure: the image is whole without it.
    """
    key = image.labels.get(LABEL_BASE_KEY, "")
    name = base_name(image.name)
    if not key or recorded(registry, name, key) is not None:
        return "", False
    tag = tag_of(name, key)
    if not build.image_there(workshop.machine, tag, key):
        return f"{workshop.machine.name} no longer has {tag}, so {registry.host} does not get it", False
    if dry:
        return f"{tag} would be pushed to {registry.host}", False
    made = Made("source", image.source_reference)
    release = workshop.straight(tag, name, made) if workshop.straight else None
    if release is None:
        release = _through_here(tag, name, made, registry, workshop)
    publish(release, key, registry)
    return f"pushed {tag} to {registry.host}", True


def _through_here(tag: str, name: str, made: Made, registry: Registry, workshop: Workshop) -> Release:
    """Its layout stays no longer than it takes: no host asks for a base."""
    with scratch(workshop.store.root.absolute() / "layouts") as folder:
        converted = build.export(workshop.machine, tag, folder / "layout", on_line=workshop.on_line)
        release = release_of(converted.image, name, made)
        push(converted.image.path, registry, name, release.id, on_line=workshop.on_line)
    return release
