"""The facts of a choice that registries, git and the builder have: what each candidate of `image.strategy` says of itself."""

import json
from dataclasses import replace

from fleet.errors import FleetError, UsageError
from fleet.image import dockerfile, reference
from fleet.image import source as sources
from fleet.image.build_plan import build_args
from fleet.image.describe import rocm_version, told_by_config
from fleet.image.dockerfile import BASE_ARG, Dockerfile
from fleet.image.lock import Lock
from fleet.image.recipe import base_of
from fleet.image.registry_api import RegistryClient
from fleet.image.source import Checkout
from fleet.image.strategy import FITS, OWN_BASE, PREBUILT, Known, Told, narrowed, reasons_for, verdict_of
from fleet.image.workshop import Workshop, resolve_tag
from fleet.inventory.settings import Image, Source

SDK_ARG = "ROCM_SDK_VERSION"  # of a base that brings ROCm as TheRock's wheels


def ask(image: Image, workshop: Workshop, lock: Lock, known: Known, *, everything: bool = False) -> Known:
    """`known` with what can be found out of the candidates; the source only where the prebuilt image does not fit.

    Makes nothing but cache: a mirror of the repository. What cannot be asked stands in the facts as a problem.
    """
    if image.prebuilt:
        known = replace(known, prebuilt=_prebuilt(image, workshop, lock))
        if not everything and verdict_of(tuple(reasons_for(PREBUILT, image, known)), PREBUILT) == FITS:
            return known
    return _source(image.source, workshop, lock, known) if image.source is not None else known


def _prebuilt(image: Image, workshop: Workshop, lock: Lock) -> Told:
    wanted = reference.parse(image.prebuilt)
    try:
        digest, _ = resolve_tag(workshop, wanted, lock)
        if not digest:
            return Told(image.prebuilt, problem=f"registry {wanted.domain} has no {wanted.path}:{wanted.tag_or_latest}")
        return _in_registry(workshop, wanted.pinned(digest), image.prebuilt)
    except FleetError as error:
        return Told(image.prebuilt, problem=error.message, silent=not isinstance(error, UsageError))


def _in_registry(workshop: Workshop, pinned: reference.Reference, name: str) -> Told:
    with RegistryClient(workshop.registry_for(pinned.domain)) as client:
        document = client.config(pinned.path, pinned.digest)
    if document is None:
        return Told(
            name, problem=f"registry {pinned.domain} has no linux/amd64 image {pinned.path}@{pinned.digest[:19]}"
        )
    return Told(name, *told_by_config(document))


def _source(source: Source, workshop: Workshop, lock: Lock, known: Known) -> Known:
    try:
        commit = "" if workshop.update else lock.commit(source.repository, source.ref)
        with sources.checkout(source, commit or sources.resolve(source), workshop.store.root) as tree:
            known = replace(known, base=_base(replace(source, base=None), tree, workshop, lock))
            own = narrowed(Image("", source=source), OWN_BASE).source
            return _own_base(own, tree, workshop, lock, known) if own is not None else known
    except FleetError as error:
        return replace(known, base=Told(problem=error.message))


def _base(source: Source, tree: Checkout, workshop: Workshop, lock: Lock) -> Told:
    """What the image of this Dockerfile would be built on."""
    file = _read(tree, source.dockerfile)
    if file is None:
        return Told(problem=f"{source.repository} at {source.ref} has no {source.dockerfile}")
    args = build_args(source, file, ())
    images = file.base_images(source.target, args)
    name = file.values(args).get(BASE_ARG, "")
    if name not in images:
        name = images[0] if images else ""
    if not name:
        return Told(problem=f"{source.dockerfile} stands on no image")
    try:
        base, _ = base_of(name, workshop, lock)
        pinned = reference.parse(base.pinned)
        told = _in_registry(workshop, pinned, name) if pinned.digest else _on_builder(workshop, name)
    except FleetError as error:
        told = Told(name, problem=error.message)
    named = rocm_version({}, {"BASE_IMAGE": name, SDK_ARG: file.values(args).get(SDK_ARG, "")}, "")
    return replace(told, rocm=told.rocm or named)


def _own_base(source: Source, tree: Checkout, workshop: Workshop, lock: Lock, known: Known) -> Known:
    """What a base of one's own would be built on, where the tree has its Dockerfile."""
    own = source.base
    file = _read(tree, own.build) if own is not None else None
    if own is None or file is None:
        return known
    plain = replace(source, dockerfile=own.build, target=own.target, args=own.args, base=None)
    below = _base(plain, tree, workshop, lock)
    return replace(known, below=below, own_file=own.build, own_gfx=bool(file.gfx_arg))


def _on_builder(workshop: Workshop, name: str) -> Told:
    answer = workshop.machine.run(("docker", "image", "inspect", "--format", "{{json .Config}}", name))
    try:
        config = json.loads(answer.stdout) if answer.ok else None
    except ValueError:
        config = None
    if not isinstance(config, dict):
        return Told(name, problem=f"{workshop.machine.name} does not have {name}")
    return Told(name, *told_by_config({"config": config}))


def _read(tree: Checkout, path: str) -> Dockerfile | None:
    try:
        return dockerfile.read((tree.path / path).read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError):
        return None
