"""A layout is read, verified blob by blob, and put into an archive that docker load takes."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.image import docker_archive
from fleet.image.layout import blob_path, read, verify
from tests.unit.image import layouts


def test_reads_the_one_image(tmp_path: Path) -> None:
    image = read(layouts.make(tmp_path, [{"a": "1"}, {"b": "2"}]))
    assert [layouts.digest_of(layouts.tar_of(files)) for files in ({"a": "1"}, {"b": "2"})] == list(image.diff_ids)
    assert image.size == sum(path.stat().st_size for path in tmp_path.glob("blobs/sha256/*"))
    assert len(image.layers) == 2


def names_in(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def test_an_archive_in_a_file_is_what_a_host_puts_together(tmp_path: Path) -> None:
    image = read(layouts.make(tmp_path / "layout", [{"a": "1"}, {"b": "2"}, {"a": "1"}]))
    docker_archive.write(image, "vllm:1", tmp_path / "image.tar")
    assert (tmp_path / "image.tar").read_bytes() == layouts.archive(image, "vllm:1")


@pytest.mark.parametrize("plain", [True, False])
def test_a_whole_layout_verifies(tmp_path: Path, plain: bool) -> None:
    image = read(layouts.make(tmp_path, plain=plain))
    seen: list[int] = []
    verify(image, on_bytes=seen.append)
    assert sum(seen) == image.size


def test_picks_amd64_out_of_an_index_in_an_index(tmp_path: Path) -> None:
    arm = layouts.add_image(tmp_path, [{"a": "arm"}], architecture="arm64")
    amd = layouts.add_image(tmp_path, [{"a": "amd"}])
    attestation = {**layouts.put(tmp_path, b"{}"), "platform": {"os": "unknown", "architecture": "unknown"}}
    inner = json.dumps({"schemaVersion": 2, "manifests": [arm, amd, attestation]}).encode()
    outer = {"mediaType": "application/vnd.oci.image.index.v1+json", **layouts.put(tmp_path, inner)}
    assert read(layouts.write_index(tmp_path, [outer])).manifest.digest == amd["digest"]


def test_refuses_a_layout_without_amd64(tmp_path: Path) -> None:
    arm = layouts.add_image(tmp_path, [{"a": "arm"}], architecture="arm64")
    with pytest.raises(FleetError, match="no linux/amd64 image"):
        read(layouts.write_index(tmp_path, [arm]))


def test_refuses_several_images(tmp_path: Path) -> None:
    two = [layouts.add_image(tmp_path, [{"a": name}]) for name in ("x", "y")]
    with pytest.raises(FleetError, match="2 linux/amd64 images"):
        read(layouts.write_index(tmp_path, two))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"manifests": null}'])
def test_a_damaged_index_is_said(tmp_path: Path, text: str) -> None:
    layouts.make(tmp_path)
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(FleetError):
        read(tmp_path)


def test_a_missing_layout_is_said(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"index\.json cannot be read"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize("change", [b"", b"x", b"\x1f\x8bgarbage"])
def test_a_damaged_layer_is_named(tmp_path: Path, change: bytes) -> None:
    image = read(layouts.make(tmp_path))
    image.blob_path(image.layers[1]).write_bytes(change)
    with pytest.raises(FleetError, match=image.layers[1].digest):
        verify(image)


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    image = read(layouts.make(tmp_path))
    image.blob_path(image.config).write_bytes(b"{}")
    with pytest.raises(FleetError, match=image.config.digest):
        read(tmp_path)


def test_a_layer_that_unpacks_to_something_else_is_named(tmp_path: Path) -> None:
    layouts.make(tmp_path)
    image = read(tmp_path)
    document = {**image.document, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64, image.diff_ids[1]]}}
    manifest = json.loads(image.blob_path(image.manifest).read_bytes())
    manifest["config"].update(layouts.put(tmp_path, json.dumps(document).encode()))
    descriptor = {"mediaType": image.manifest.media_type, **layouts.put(tmp_path, json.dumps(manifest).encode())}
    layouts.write_index(tmp_path, [descriptor])
    with pytest.raises(FleetError, match="does not unpack to"):
        verify(read(tmp_path))


@pytest.mark.parametrize("digest", ["sha256:../../etc/passwd", "md5:" + "0" * 64, "", "sha256:" + "G" * 64])
def test_no_digest_leads_out_of_the_layout(tmp_path: Path, digest: str) -> None:
    with pytest.raises(FleetError, match="no sha256 digest"):
        blob_path(tmp_path, digest)


def test_the_archive_is_a_layout_and_a_docker_archive_at_once(tmp_path: Path) -> None:
    image = read(layouts.make(tmp_path / "layout"))
    with tarfile.open(fileobj=io.BytesIO(layouts.archive(image, "vllm-rocm:abc"))) as tar:
        tar.extractall(tmp_path / "again")  # noqa: S202  our own archive; Debian 12 has no filter
    again = read(tmp_path / "again")
    verify(again)
    assert again.manifest == image.manifest
    (entry,) = json.loads((tmp_path / "again/manifest.json").read_bytes())
    assert entry["RepoTags"] == ["vllm-rocm:abc"]
    assert [(tmp_path / "again" / path).is_file() for path in (entry["Config"], *entry["Layers"])] == [True] * 3
    index = json.loads((tmp_path / "again/index.json").read_bytes())
    annotations = index["manifests"][0]["annotations"]
    assert annotations["io.containerd.image.name"] == "docker.io/library/vllm-rocm:abc"


def test_the_archive_can_leave_layers_out(tmp_path: Path) -> None:
    image = read(layouts.make(tmp_path))
    names = names_in(layouts.archive(image, "a:b", image.layers[1:]))
    assert f"blobs/{image.layers[0].digest.replace(':', '/')}" not in names
    assert f"blobs/{image.layers[1].digest.replace(':', '/')}" in names


def test_a_layer_that_occurs_twice_travels_once(tmp_path: Path) -> None:
    image = read(layouts.make(tmp_path, [{"a": "1"}, {"a": "1"}]))
    names = names_in(layouts.archive(image, "a:b"))
    assert len(names) == len(set(names)) == 3 + 3


def test_a_layer_of_more_than_eight_gigabytes_has_its_head(tmp_path: Path) -> None:
    image = read(layouts.make(tmp_path))
    large = replace(image.layers[0], size=9 << 30)
    (head,) = docker_archive.frame(image, "a:b", [large]).heads
    assert len(head) == docker_archive.BLOCK
    assert tarfile.TarInfo.frombuf(head, "utf-8", "strict").size == 9 << 30


def test_the_same_image_gives_the_same_archive(tmp_path: Path) -> None:
    image = read(layouts.make(tmp_path))
    assert layouts.archive(image, "a:b") == layouts.archive(image, "a:b")


def test_manifest_json_can_stand_beside_the_layout(tmp_path: Path) -> None:
    image = read(layouts.make(tmp_path))
    (entry,) = json.loads(docker_archive.beside(image, "vllm-rocm:abc").read_bytes())
    assert (tmp_path / entry["Config"]).is_file()
