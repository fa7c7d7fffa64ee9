"""Which images lie on a host, which container runs which, and what each name points to. Changes nothing.

A name says nothing for sure: it can be given to another image at any time. So images go by ID, and a release is recognised
by its digests: the config digest is the ID of classic stores, the manifest digest that of the containerd store.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import docker
import docker.errors
import requests

from fleet.errors import HostError
from fleet.image.release import Release


@dataclass(frozen=True)
class Listed:
    """An image as the engine lists it; `size` in bytes on the host's disk, `created` in seconds since the epoch."""

    id: str
    names: tuple[str, ...]  # NAME:TAG
    repo_digests: tuple[str, ...]  # NAME@sha256:…
    size: int
    created: float

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Listed":
        """From one entry of `GET /images/json`.

        The classic store says `<none>:<none>` where there is no name, the containerd store puts digests among the names.
        """
        every = (*(entry.get("RepoTags") or ()), *(entry.get("RepoDigests") or ()))
        real = tuple(dict.fromkeys(one for one in every if not one.startswith("<none>")))
        names = tuple(one for one in real if "@" not in one)
        digests = tuple(one for one in real if "@" in one)
        return cls(str(entry["Id"]), names, digests, int(entry.get("Size") or 0), float(entry.get("Created") or 0))

    @property
    def references(self) -> tuple[str, ...]:
        """All that it can be asked for by."""
        return (*self.names, *self.repo_digests)


@dataclass(frozen=True)
class User:
    """A container, by the image it was made from."""

    name: str
    state: str  # running, exited, …
    image: str  # an ID
    asked: str  # what it was asked for by: a name, or an ID

    @property
    def named(self) -> str:
        """`asked` as engines list names, or empty where it was an ID or a digest, which never mean another image."""
        bare = self.asked.removeprefix("docker.io/").removeprefix("library/")
        if not bare or "@" in bare or self.image.removeprefix("sha256:").startswith(bare.removeprefix("sha256:")):
            return ""
        return bare if ":" in bare.rpartition("/")[2] else f"{bare}:latest"

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "User":
        """From one entry of `GET /containers/json`."""
        names = [name.lstrip("/") for name in entry.get("Names") or ()]
        state, image, asked = (str(entry.get(key, "")) for key in ("State", "ImageID", "Image"))
        return cls(next(iter(names), str(entry["Id"])[:12]), state, image, asked)


@dataclass(frozen=True)
class Seen:
    """One image on one host. `release` is None for what is none that anybody here knows of.

    `ours`: a release, or an image under one of our names. `built`: the release that was made of it, by the content key in the
    tag that builders give (`NAME:build-KEY`), for what a builder has built has other digests than its release. `lost` are names that pointed to it and point to another image
    now, or to none. `before`: what its names pointed to before, IDs of images or of releases; only where something tells.
    """

    image: Listed
    release: Release | None
    ours: bool
    users: tuple[User, ...]
    lost: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    before: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    built: Release | None = None

    @property
    def running(self) -> bool:
        return any(one.state == "running" for one in self.users)


def read(client: docker.DockerClient, host: str) -> tuple[tuple[Listed, ...], tuple[User, ...]]:
    """The images and the containers of a host. Raises HostError."""
    try:
        images = tuple(map(Listed.of, client.api.images()))
        return images, tuple(_user(client, entry) for entry in client.api.containers(all=True))
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise HostError(host, f"the images could not be read: {error}") from error


def _user(client: docker.DockerClient, entry: Mapping[str, Any]) -> User:
    """The list has an ID in the place of a name that went to another image since; the container itself still says it."""
    user = User.of(entry)
    if not user.asked.startswith("sha256:"):
        return user
    try:
        return replace(user, asked=str(client.api.inspect_container(entry["Id"])["Config"]["Image"]))
    except docker.errors.NotFound:  # gone in between
        return user


def census(
    images: Sequence[Listed],
    users: Iterable[User],
    releases: Mapping[str, Release],
    names: Collection[str],
    tags: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Seen, ...]:
    """What lies there: what runs first, then what is ours, the newest first. Pure.

    `releases` are all that are known, by id; `names` are our images' names, without registry and tag; `tags` are digests of
    what registries' tags mean now (the lock's `images`).
    """
    users = tuple(users)
    by_image: dict[str, list[User]] = {}
    for user in users:
        by_image.setdefault(user.image, []).append(user)
    known = {digest: one for one in releases.values() for digest in (one.config_digest, one.manifest_digest)}
    points = {name: image.id for image in images for name in image.names}
    mine = {*names, *(one.name for one in releases.values())}
    moved = _moved(images, users, known, points)
    keys = {f"{one.name}:build-{one.content_key}": one for one in releases.values() if one.content_key}
    seen = [
        _tagged(_seen(image, by_image.get(image.id, []), known, points, mine, moved), releases, tags)
        for image in images
    ]
    seen = [replace(one, built=next((keys[name] for name in one.image.names if name in keys), None)) for one in seen]
    return tuple(sorted(seen, key=lambda one: (not one.running, not one.ours, -one.image.created, one.image.id)))


def _moved(
    images: Iterable[Listed], users: Iterable[User], known: Mapping[str, Release], points: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Local names that point elsewhere than they did, or nowhere, with the images that they pointed to.

    A container tells what its name meant when it was made, and `NAME:RELEASE` means that release alone.
    """
    found: dict[str, list[str]] = {}
    for user in users:
        if (name := user.named) and points.get(name) != user.image:
            found.setdefault(name, []).append(user.image)
    for image in images:
        release = _release_in(image, known)
        if release is not None and release.local_name not in image.names:
            found.setdefault(release.local_name, []).append(image.id)
    for image in images:
        for name in image.names:
            wanted = _release_of(name, known)
            if wanted is not None and wanted is not _release_in(image, known):
                found.setdefault(name, [wanted.id])
    return {name: tuple(dict.fromkeys(map(short, was))) for name, was in found.items()}


def _tagged(seen: Seen, releases: Mapping[str, Release], tags: Mapping[str, str]) -> Seen:
    """With the tag of a registry that the release was fetched by: where it means this one, what it meant before."""
    release = seen.release
    if release is None or release.source != "prebuilt" or release.source_reference not in tags:
        return seen
    tag = release.source_reference
    if tags[tag] != release.source_digest:
        return replace(seen, lost=(*seen.lost, tag))
    others = [one for one in releases.values() if one.source_reference == tag and one.source_digest != tags[tag]]
    newest = sorted(others, key=lambda one: one.created, reverse=True)
    return replace(seen, before={**seen.before, tag: tuple(one.id for one in newest)}) if newest else seen


def _seen(
    image: Listed,
    users: Sequence[User],
    known: Mapping[str, Release],
    points: Mapping[str, str],
    mine: Collection[str],
    moved: Mapping[str, tuple[str, ...]],
) -> Seen:
    release = _release_in(image, known)
    named = [one for one in image.references if repository(one).rpartition("/")[2] in mine]
    lost: tuple[str, ...] = (release.local_name,) if release and release.local_name not in image.names else ()
    remarks = [f"{name} points to {short(points[name])} now" for name in lost if name in points]
    remarks += [f"nothing is called {name} any more" for name in lost if name not in points]
    remarks += [
        f"{name} is the name of release {wanted.id}, and this is another image"
        for name in image.names
        if (wanted := _release_of(name, known)) is not None and wanted is not release
    ]
    if not image.names and release is None:
        remarks.append("dangling: no name points to it" + ("" if users else ", and no container uses it"))
    for user in users:
        now = points.get(user.asked)
        if now is not None and now != image.id:
            remarks.append(f"{user.name} was made from {user.asked}, which is {short(now)} now")
    lost += tuple(name for name, was in moved.items() if short(image.id) in was and name not in lost)
    before = {name: moved[name] for name in image.names if name in moved}
    return Seen(image, release, release is not None or bool(named), tuple(users), lost, tuple(remarks), before)


def _release_in(image: Listed, known: Mapping[str, Release]) -> Release | None:
    digests = (image.id, *(one.rpartition("@")[2] for one in image.repo_digests))
    return next((known[digest] for digest in digests if digest in known), None)


def _release_of(name: str, known: Mapping[str, Release]) -> Release | None:
    return next((one for one in known.values() if one.local_name == name), None)


def repository(reference: str) -> str:
    """`registry.corp:5000/vllm-rocm` of `registry.corp:5000/vllm-rocm:r1` and of `…@sha256:…`."""
    bare = reference.partition("@")[0]
    return bare.rpartition(":")[0] if ":" in bare.rpartition("/")[2] else bare


def short(digest: str) -> str:
    """The twelve digits by which Docker calls an image."""
    return digest.removeprefix("sha256:")[:12]
