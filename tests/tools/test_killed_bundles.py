"""A bundle whose making or loading is killed or interrupted: what has its name is whole, and the same command again ends it."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from fleet.bundle.manifest import NAME, SIGNATURE, VOLUME
from fleet.bundle.store import SiteStore
from fleet.image.layout import read, verify
from tests.lab.kill_driver import Point, struck
from tests.proc import living_in
from tests.tools.test_bundle import MIB, controller, fleet, signers

CREATE = ("bundle.create", "-i", "site.yaml", "--without-tool", "--models", "models", "--sign-key", "../key")
VOLUMES = ("-o", "../made", "--volume-size", "7M")
LOAD = ("bundle.load", "../full", "--allowed-signers", "../signers")

MADE: tuple[Point, ...] = (
    ("fleet.image.store:Store.adopt", 1, "before"),
    ("fleet.image.store:Store.keep", 1, "before"),
    ("fleet.bundle.write:piece_of", 9, "before"),
    ("fleet.bundle.create:_clear", 1, "before"),
    ("fleet.bundle.create:_clear", 1, "after"),
    *(("fleet.bundle.create:put", number, moment) for number in (1, 3, 7) for moment in ("before", "after")),
    *(("fleet.bundle.write:_chunks", number, "before") for number in (1, 2, 5)),
    *(("fleet.bundle.create:put", number, "0.01") for number in (2, 4, 8)),
    *(("os:fsync", number, "before") for number in (5, 9)),
    ("fleet.bundle.create:_seal", 1, "before"),
    ("fleet.bundle.sign:sign", 1, "after"),
    *(("fleet.bundle.create:_put", number, moment) for number in (1, 2, 3, 4, 5) for moment in ("before", "after")),
)
LOADED: tuple[Point, ...] = (
    ("fleet.bundle.load:load", 1, "before"),
    ("fleet.bundle.load:spoilt_blobs", 1, "after"),
    *(("fleet.bundle.load:put", number, moment) for number in (1, 2, 3, 4) for moment in ("before", "0.01", "after")),
    *(("fleet.bundle.write:_chunks", number, "before") for number in (1, 3)),
    *(("os:fsync", number, "before") for number in range(1, 9)),
    ("fleet.bundle.store:SiteStore.index", 1, "before"),
    ("fleet.bundle.store:SiteStore.index", 1, "after"),
    ("fleet.bundle.load:_adopt", 1, "before"),
    ("os:link", 2, "before"),
    ("fleet.image.docker_archive:beside", 1, "before"),
    ("fleet.image.docker_archive:beside", 1, "after"),
    ("fleet.image.store:Store.put", 1, "before"),
    ("fleet.image.store:Store.put", 1, "after"),
    ("fleet.image.store:Store.keep", 1, "before"),
    ("fleet.image.store:Store.keep", 1, "after"),
)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A connected side with an image and a model that take a moment to copy, and a whole bundle of them, signed."""
    root = tmp_path_factory.mktemp("killed")
    signers(root)
    home = controller(root / "home", 1)
    for name in ("tiny", "org/small"):
        (home / "models" / name).mkdir(parents=True)
        (home / "models" / name / "weights").write_bytes(os.urandom(4 * MIB))
    fleet(home, *CREATE, "-o", "../full")
    return root


def ended(folder: Path, words: Sequence[str], point: Point, sign: str) -> None:
    """Begin in `folder`, be ended at the point, and see that nothing goes on, nor lies where temporary files do."""
    temporary = folder.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    struck(words, folder, temporary, point, sign)
    assert living_in(str(temporary)) == []
    if sign == "INT":
        assert list(temporary.iterdir()) == []
        assert half_done(folder.parent) == []


def half_done(root: Path) -> list[str]:
    """What is of no finished work."""
    return [
        str(path) for path in root.rglob("*") if path.name.endswith((".part", ".new")) or path.name.startswith("new-")
    ]


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".part"
    }


def create_is_gone_on_with(ground: Path, folder: Path, point: Point, sign: str) -> None:
    for name in ("key", "key.pub", "signers", "home"):
        source = ground / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)
    home, made = folder / "home", folder / "made"
    if point[0].startswith("fleet.image"):
        shutil.rmtree(home / ".fleet")
    ended(home, (*CREATE, *VOLUMES), point, sign)
    sealed = len(list(made.rglob(NAME)))
    verified = ("bundle.verify", "../made", "--allowed-signers", "../signers")
    if sealed < 2:  # it is no bundle, and is not taken for one
        fleet(home, *verified, code=1)
    kept = {path: path.stat().st_ino for path in made.rglob("*") if path.is_file() and path.suffix != ".part"}
    fleet(home, *CREATE, *VOLUMES)
    fleet(home, *verified)
    assert half_done(folder) == []
    again = {path: path.stat().st_ino for path in kept if path.name not in (NAME, SIGNATURE, VOLUME)}
    assert again == {path: inode for path, inode in kept.items() if path in again}  # nothing was written twice


def load_is_gone_on_with(ground: Path, folder: Path, point: Point, sign: str) -> None:
    site = folder / "site"
    site.mkdir()
    for name in ("signers", "full"):
        (folder / name).symlink_to(ground / name)
    ended(site, LOAD, point, sign)
    sound(site)
    fleet(site, *LOAD)
    sound(site)
    assert half_done(folder) == []
    assert "0 blobs are new" in fleet(site, *LOAD)
    [layout] = (site / ".fleet/layouts").iterdir()
    verify(read(layout))
    assert len(SiteStore(site / ".fleet/store").digests()) == 4


def sound(site: Path) -> None:
    """Whatever has its name is whole: every blob, every record, and every release that the index names."""
    store = SiteStore(site / ".fleet/store")
    for digest in store.digests():
        assert hashlib.sha256(store.path(digest).read_bytes()).hexdigest() == digest.removeprefix("sha256:")
    index = store.root / "index.json"
    for entry in json.loads(index.read_text())["manifests"] if index.exists() else ():
        document = json.loads(store.path(entry["digest"]).read_text())
        named = {one["digest"] for one in (document["config"], *document["layers"])}
        assert named <= store.digests()
    for path in (*store.root.glob("releases/*.json"), *(site / ".fleet/releases").glob("*.json")):
        json.loads(path.read_text())
    for layout in (site / ".fleet/layouts").glob("[!n]*"):
        verify(read(layout))


def test_a_bundle_that_is_killed_in_a_file_is_gone_on_with(ground: Path, tmp_path: Path) -> None:
    create_is_gone_on_with(ground, tmp_path, ("os:fsync", 9, "before"), "KILL")


def test_a_load_that_is_killed_in_a_blob_leaves_none_half_and_is_gone_on_with(ground: Path, tmp_path: Path) -> None:
    load_is_gone_on_with(ground, tmp_path, ("fleet.bundle.write:_chunks", 3, "before"), "KILL")


@pytest.mark.matrix
@pytest.mark.parametrize("sign", ["KILL", "INT"])
@pytest.mark.parametrize("point", MADE, ids=str)
def test_every_point_of_making_one(ground: Path, tmp_path: Path, point: Point, sign: str) -> None:
    create_is_gone_on_with(ground, tmp_path, point, sign)


@pytest.mark.matrix
@pytest.mark.parametrize("sign", ["KILL", "INT"])
@pytest.mark.parametrize("point", LOADED, ids=str)
def test_every_point_of_loading_one(ground: Path, tmp_path: Path, point: Point, sign: str) -> None:
    load_is_gone_on_with(ground, tmp_path, point, sign)
