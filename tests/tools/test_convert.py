"""Real skopeo on archives and layouts that these tests make."""

import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import FleetError
from fleet.image import archive
from fleet.image.convert import to_layout
from fleet.image.layout import read, verify
from tests.unit.image import layouts

FILES: list[dict[str, str]] = [{"app/versions.txt": "ROCM_SDK_VERSION: 7.14.0\n"}, {"b": "two"}]


def quiet(_line: str) -> None:
    pass


def docker_save(path: Path, config: dict[str, Any] | None = None, name: str = "vllm:old") -> Path:
    """An archive as Docker 20.10 saves it: plain layers in directories and Docker's own config."""
    tars = [layouts.tar_of(files) for files in FILES]
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": [layouts.digest_of(tar) for tar in tars]},
        "history": [{"created_by": "test"} for _ in tars],
    }
    members = {f"{number}/layer.tar": tar for number, tar in enumerate(tars)}
    entry = {"Config": "config.json", "RepoTags": [name], "Layers": list(members)}
    members["config.json"] = json.dumps(document).encode()
    members["manifest.json"] = json.dumps([entry]).encode()
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["image.tar", "image.tar.gz", "no-suffix-gz"])
def test_a_docker_archive_becomes_a_verified_layout_with_the_same_diff_ids(tmp_path: Path, name: str) -> None:
    brought = archive.inspect(docker_save(tmp_path / name))
    assert brought.kind == "docker-archive"
    assert brought.names == ("vllm:old",)
    with archive.opened(brought, tmp_path) as source:
        image = to_layout(source, tmp_path / "layout", on_line=quiet).image
    verify(image)
    assert image.diff_ids == tuple(layouts.digest_of(layouts.tar_of(files)) for files in FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([".scratch-lock", name, "layout"])


def test_the_lost_healthcheck_is_recorded(tmp_path: Path) -> None:
    config = {"Healthcheck": {"Test": ["CMD", "true"]}, "Cmd": ["sh"]}
    converted = to_layout(f"docker-archive:{docker_save(tmp_path / 'a.tar', config)}", tmp_path / "l", on_line=quiet)
    assert converted.dropped == ("HEALTHCHECK",)
    assert converted.image.document["config"]["Cmd"] == ["sh"]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_our_own_archive_comes_back_with_its_digests(tmp_path: Path, suffix: str) -> None:
    image = read(layouts.make(tmp_path / "first", FILES))
    content = layouts.archive(image, "vllm:abc")
    path = tmp_path / f"image.{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    brought = archive.inspect(path)
    assert brought.kind == "oci-archive"
    with archive.opened(brought, tmp_path) as source:
        again = to_layout(source, tmp_path / "again", on_line=quiet).image
    assert again.manifest.digest == image.manifest.digest
    assert again.config.digest == image.config.digest


def test_our_own_archive_is_a_docker_archive_too(tmp_path: Path) -> None:
    image = read(layouts.make(tmp_path / "first", FILES))
    path = tmp_path / "image.tar"
    path.write_bytes(layouts.archive(image, "vllm:abc"))
    again = to_layout(f"docker-archive:{path}", tmp_path / "again", on_line=quiet).image
    assert again.diff_ids == image.diff_ids


def test_zstd_layers_are_packed_anew_by_gzip(tmp_path: Path) -> None:
    source = docker_save(tmp_path / "a.tar")
    zstd = tmp_path / "zstd"
    command = ("skopeo", "copy", "--dest-compress-format", "zstd", f"docker-archive:{source}", f"oci:{zstd}:x")
    subprocess.run(command, check=True, capture_output=True)
    assert all("zstd" in layer.media_type for layer in read(zstd).layers)
    lines: list[str] = []
    image = to_layout(f"oci:{zstd}:x", tmp_path / "l", on_line=lines.append).image
    assert not [layer for layer in image.layers if "zstd" in layer.media_type]
    assert image.diff_ids == read(zstd).diff_ids
    assert any("zstd" in line for line in lines)


@pytest.mark.parametrize("keep", [0, 100, 0.4, 0.6])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_cut_archive_is_refused_and_leaves_nothing(tmp_path: Path, name: str, keep: float) -> None:
    path = docker_save(tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(FleetError, match=rf"archive .*{name}"):
        archive.inspect(path)


@pytest.mark.parametrize(
    "content", [b"hello", b"\0" * 2048, b"PK\x03\x04" + b"0" * 600, b"\x1f\x8b" + b"1" * 600, b"\x28\xb5\x2f\xfd"]
)
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(FleetError, match=r"archive .*x\.tar"):
        archive.inspect(path)


def test_a_missing_archive_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="not there"):
        archive.inspect(tmp_path / "no.tar")
    with pytest.raises(FleetError, match="is a directory"):
        archive.inspect(tmp_path)


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="could not read the image docker-archive:"):
        to_layout(f"docker-archive:{tmp_path}/no.tar", tmp_path / "layout", on_line=quiet)
    assert [path.name for path in tmp_path.iterdir()] == [".scratch-lock"]
