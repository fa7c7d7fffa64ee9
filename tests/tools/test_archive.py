"""Tarballs as they are brought: damaged, oddly named, with more in them than one image, and full of nonsense."""

import bz2
import copy
import gzip
import io
import json
import lzma
import os
import random
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import FleetError, UsageError
from fleet.image import archive
from fleet.image.layout import OCI_INDEX, read
from fleet.image.lock import Lock
from fleet.image.machine import Here
from fleet.image.produce import produce
from fleet.image.release import Release
from fleet.image.store import Store
from fleet.image.workshop import Workshop
from fleet.inventory.settings import Image
from tests.tools.test_convert import docker_save, quiet
from tests.unit.image import layouts

JUNK: list[Any] = [5, -1, None, True, "x", "", [], {}, ["x"], {"a": 5}, [None], [[]], "../../etc"]


def imported(path: Path, root: Path) -> Release:
    shop = Workshop(Store(root), Here(), None, quiet)
    return produce(Image("vllm", archive=str(path)), shop, Lock(), gfx=()).release


def tar_up(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in sorted(folder.rglob("*")):
            tar.add(member, str(member.relative_to(folder)), recursive=False)
    return path


@pytest.mark.parametrize("name", ["a b:1.tar", "vllm:v1,x.tar.gz", "é.tar"])
@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_a_file_may_be_called_anything(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    if kind == "docker":
        docker_save(path)
    else:
        tar_up(layouts.make(tmp_path / "layout"), path)
        if name.endswith("gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
    assert imported(path, tmp_path / "fleet").layer_sizes


@pytest.mark.parametrize("packed", [gzip.compress, lzma.compress, bz2.compress])
@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_gzip_xz_and_bzip2_are_read_and_a_flipped_bit_or_a_cut_is_told(
    tmp_path: Path, kind: str, packed: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "image"
    if kind == "docker":
        docker_save(path, {"Labels": {"noise": os.urandom(4000).hex()}})
    else:
        tar_up(layouts.make(tmp_path / "layout", [{"a": os.urandom(4000).hex()}]), path)
    whole = packed(path.read_bytes())
    path.write_bytes(whole)
    assert imported(path, tmp_path / "fleet").diff_ids
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (bytes(flipped), whole[: len(whole) // 2], whole[:-6]):
        path.write_bytes(damaged)
        with pytest.raises(FleetError, match=rf"archive {path} is damaged"):
            imported(path, tmp_path / "again")
        assert not list((tmp_path / "again").glob("layouts/*"))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(UsageError, match="is no file"):
        imported(tmp_path / "a.tar", tmp_path / "store")


def test_zstd_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "image.tar.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(FleetError, match="compressed by zstd"):
        imported(path, tmp_path / "fleet")


def test_damage_that_comes_after_the_first_look_is_told_too(tmp_path: Path) -> None:
    path = docker_save(tmp_path / "image.tar.gz")
    brought = archive.inspect(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FleetError, match="is damaged"), archive.opened(brought, tmp_path):
        pass


def several(tmp_path: Path, *others: Mapping[str, Any], name: str = "1") -> tuple[Path, str]:
    """An OCI archive of the image and other entries; the image's digest."""
    layout = tmp_path / "layout"
    ours = {**layouts.add_image(layout, [{"a": "one"}]), "annotations": {"org.opencontainers.image.ref.name": name}}
    layouts.write_index(layout, [ours, *others])
    return tar_up(layout, tmp_path / "image.tar"), str(ours["digest"])


def test_the_amd64_image_of_an_archive_for_two_platforms_is_taken(tmp_path: Path) -> None:
    arm = layouts.add_image(tmp_path / "layout", [{"a": "arm"}], architecture="arm64")
    path, digest = several(tmp_path, arm)
    assert imported(path, tmp_path / "fleet").manifest_digest == digest


def test_platforms_that_only_the_images_themselves_tell_are_read_there(tmp_path: Path) -> None:
    arm = layouts.add_image(tmp_path / "layout", [{"a": "arm"}], architecture="arm64")
    del arm["platform"]
    path, digest = several(tmp_path, arm)
    assert imported(path, tmp_path / "fleet").manifest_digest == digest


def test_an_attestation_beside_the_image_is_no_second_one(tmp_path: Path) -> None:
    said = layouts.add_image(tmp_path / "layout", [{"in-toto": "{}"}])
    del said["platform"]
    path, digest = several(tmp_path, {**said, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}})
    assert imported(path, tmp_path / "fleet").manifest_digest == digest


def test_one_image_under_two_names_is_one_image(tmp_path: Path) -> None:
    again = layouts.add_image(tmp_path / "layout", [{"a": "one"}])
    path, digest = several(tmp_path, {**again, "annotations": {"org.opencontainers.image.ref.name": "latest"}})
    assert archive.inspect(path).names == ("1", "latest")
    assert imported(path, tmp_path / "fleet").manifest_digest == digest


def test_an_index_in_an_index_is_followed(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    images = [layouts.add_image(layout, [{"a": one}], architecture=one) for one in ("amd64", "arm64")]
    inner = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": images}
    entry = {"mediaType": OCI_INDEX, **layouts.put(layout, json.dumps(inner).encode())}
    layouts.write_index(layout, [{**entry, "annotations": {"io.containerd.image.name": "docker.io/library/x:1"}}])
    path = tar_up(layout, tmp_path / "image.tar")
    assert archive.inspect(path).names == ("docker.io/library/x:1",)
    assert imported(path, tmp_path / "fleet").manifest_digest == images[0]["digest"]


def test_two_images_for_our_hosts_are_refused_by_their_names(tmp_path: Path) -> None:
    other = {
        **layouts.add_image(tmp_path / "layout", [{"a": "two"}]),
        "annotations": {"org.opencontainers.image.ref.name": "other"},
    }
    path, _ = several(tmp_path, other)
    with pytest.raises(FleetError, match="holds 2 images: 1, other"):
        archive.inspect(path)


def test_an_archive_for_another_platform_is_refused(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layouts.write_index(layout, [layouts.add_image(layout, [{"a": "arm"}], architecture="arm64")])
    with pytest.raises(FleetError, match="no image for linux/amd64, only linux/arm64"):
        archive.inspect(tar_up(layout, tmp_path / "image.tar"))


def saved(path: Path, entries: Any, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in {**members, "manifest.json": json.dumps(entries).encode()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_docker_saved_it_twice_under_two_names(tmp_path: Path) -> None:
    with tarfile.open(docker_save(tmp_path / "a.tar")) as tar:
        members = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    entry = json.loads(members.pop("manifest.json"))[0]
    path = saved(tmp_path / "b.tar", [{**entry, "RepoTags": ["a:1"]}, {**entry, "RepoTags": ["b:1"]}], members)
    assert archive.inspect(path).names == ("a:1", "b:1")
    assert imported(path, tmp_path / "fleet").diff_ids == imported(tmp_path / "a.tar", tmp_path / "fleet").diff_ids


def test_docker_saved_two_images_and_the_second_is_for_our_hosts(tmp_path: Path) -> None:
    with tarfile.open(docker_save(tmp_path / "a.tar")) as tar:
        members = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    entry = json.loads(members.pop("manifest.json"))[0]
    members["arm.json"] = members["config.json"].replace(b"amd64", b"arm64")
    path = saved(tmp_path / "b.tar", [{**entry, "Config": "arm.json"}, entry], members)
    assert archive.inspect(path).chosen == "@1"
    assert imported(path, tmp_path / "fleet").diff_ids


@pytest.mark.parametrize(
    "document",
    ['["x"]', '[{"Config":"c","Layers":5}]', '[{"Config":"c","RepoTags":7}]', "[" * 100000, '{"manifests":5}', "\xff"],
)
@pytest.mark.parametrize("name", ["manifest.json", "index.json"])
def test_documents_of_the_wrong_shape_are_told_in_words(tmp_path: Path, name: str, document: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "oci-layout").write_text("{}")
    (folder / name).write_text(document, encoding="latin-1")
    with pytest.raises(FleetError, match=r"archive .*image\.tar"):
        archive.inspect(tar_up(folder, tmp_path / "image.tar"))


def changed(value: Any, chance: random.Random) -> Any:
    """The same document with one thing in it turned to nonsense, or gone."""
    fresh = copy.deepcopy(value)
    inside: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            inside.append((node, key))
            walk(node[key])

    walk(fresh)
    node, key = chance.choice(inside)
    if chance.random() < 0.2:
        del node[key]
    else:
        node[key] = chance.choice(JUNK)
    return fresh


@pytest.mark.parametrize("seed", range(40))
def test_nonsense_in_any_document_becomes_an_image_or_an_error_in_words(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  the same nonsense each time
    layout = layouts.make(tmp_path / "layout", config={"Env": ["A=b"], "Labels": {"a": "b"}, "Cmd": ["sh"]})
    image = read(layout)
    which = chance.choice(["config", "manifest", "index.json"])
    documents = {
        "config": dict(image.document),
        "manifest": json.loads(image.blob_path(image.manifest).read_bytes()),
        "index.json": json.loads((layout / "index.json").read_bytes()),
    }
    documents[which] = changed(documents[which], chance)
    if which == "config":
        documents["manifest"]["config"].update(layouts.put(layout, json.dumps(documents["config"]).encode()))
    if which in ("config", "manifest"):
        documents["index.json"]["manifests"][0].update(layouts.put(layout, json.dumps(documents["manifest"]).encode()))
    (layout / "index.json").write_text(json.dumps(documents["index.json"]))
    path, error = tar_up(layout, tmp_path / "image.tar"), None
    try:
        imported(path, tmp_path / "fleet")
    except FleetError as caught:
        error = caught
    assert error is None or "image.tar" in error.message
