"""The effects of a delivery, against an engine that refuses what it does not know."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from fleet.delivery.execute import Way, carry_out
from fleet.delivery.plan import Load, PlaceCa, Tag, plan_ca
from fleet.errors import HostError
from fleet.image import layout


class FakeApi:
    """Takes an archive and tags."""

    def __init__(self, answer: list[dict[str, str]]) -> None:
        self.answer = answer
        self.loaded: list[str] = []
        self.tags: list[tuple[str, str, str]] = []

    def load_image(self, data: Iterable[bytes]) -> Iterator[dict[str, str]]:
        with tarfile.open(fileobj=io.BytesIO(b"".join(data))) as tar:
            self.loaded = tar.getnames()
        return iter(self.answer)

    def tag(self, image: str, repository: str, tag: str, *, force: bool) -> None:
        assert force
        self.tags.append((image, repository, tag))


class FakeClient:
    def __init__(self, *answer: dict[str, str]) -> None:
        self.api = FakeApi(list(answer))


class FakeSession:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def run(self, argv: Sequence[str], *, sudo: bool = False) -> None:
        assert argv[:2] == ("mkdir", "-p")
        assert sudo

    def upload(self, source: BinaryIO, path: str, *, mode: int = 0o644, sudo: bool = False) -> None:
        assert sudo
        assert mode == 0o644
        self.files[path] = source.read()


@pytest.fixture
def image(tmp_path: Path) -> layout.LayoutImage:
    """A layout with two plain layers."""
    blobs = tmp_path / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    layers = [blob(text, "application/vnd.oci.image.layer.v1.tar") for text in (b"below", b"above")]
    config = {"rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}}
    manifest = {
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
    }
    entry = blob(json.dumps(manifest).encode(), layout.OCI_MANIFEST)
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [entry]}), encoding="utf-8")
    return layout.read(tmp_path)


def way(client: Any, session: FakeSession | None = None, **more: Any) -> Way:
    return Way("n1", session or FakeSession(), client, **more)


def test_a_load_leaves_out_the_layers_that_the_host_has(image: layout.LayoutImage) -> None:
    client = FakeClient({"stream": "Loaded image: vllm:r1"})
    changed = carry_out((Load("vllm:r1", (1,), 5, ""),), way(client, layout=lambda _name: image))
    assert changed == 1
    below, above = (f"blobs/sha256/{layer.digest.removeprefix('sha256:')}" for layer in image.layers)
    assert above in client.api.loaded
    assert below not in client.api.loaded


def test_a_load_tells_the_engines_error_and_what_helps(image: layout.LayoutImage) -> None:
    client = FakeClient({"error": "write /x: no space left on device"})
    with pytest.raises(HostError, match="could not sideload vllm:r1") as caught:
        carry_out((Load("vllm:r1", (0, 1), 10, ""),), way(client, layout=lambda _name: image))
    assert "free space" in caught.value.hint


def test_bytes_are_counted_as_they_leave(image: layout.LayoutImage) -> None:
    seen: list[int] = []
    carry_out((Load("vllm:r1", (0, 1), 10, ""),), way(FakeClient(), layout=lambda _name: image, on_bytes=seen.append))
    assert seen
    assert seen == sorted(seen)


def test_a_damaged_layout_fails_the_load_by_name(image: layout.LayoutImage) -> None:
    image.blob_path(image.layers[0]).unlink()
    with pytest.raises(HostError, match="the layout could not be read"):
        carry_out((Load("vllm:r1", (0, 1), 10, ""),), way(FakeClient(), layout=lambda _name: image))


def test_tags_by_repository_and_tag() -> None:
    client = FakeClient()
    carry_out((Tag("sha256:c", "registry:5000/vllm:r1", ""),), way(client))
    assert client.api.tags == [("sha256:c", "registry:5000/vllm", "r1")]


def test_the_ca_goes_where_docker_looks_for_it(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("PEM", encoding="utf-8")
    session = FakeSession()
    carry_out((PlaceCa("registry:5000", ""),), way(FakeClient(), session, ca_file=str(ca)))
    assert session.files == {"/etc/docker/certs.d/registry:5000/ca.crt": b"PEM"}


@pytest.mark.parametrize(
    ("wanted", "found", "why"),
    [("PEM", None, "is not there"), ("PEM", "OLD", "another CA"), ("PEM", "PEM\n", ""), ("", None, "")],
)
def test_the_ca_is_planned_only_where_it_is_missing_or_another(wanted: str, found: str | None, why: str) -> None:
    steps = plan_ca("registry:5000", wanted, found)
    assert bool(steps) == bool(why)
    assert all(why in step.why for step in steps)
