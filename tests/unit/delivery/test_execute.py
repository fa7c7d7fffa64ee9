"""The effects of a delivery, against an engine that refuses what it does not know."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from fleet.delivery.execute import Way, carry_out
from fleet.delivery.plan import Load, PlaceCa, Pull, Step, Tag, plan_ca
from fleet.errors import HostError
from fleet.image import layout
from fleet.inventory.settings import Registry
from fleet.secret import Secret


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
    begun: list[tuple[str, str, int]] = []

    @contextmanager
    def moving(host: str, what: str, total: int) -> Iterator[Callable[[int], None]]:
        begun.append((host, what, total))
        yield seen.append

    step = Load("vllm:r1", (0, 1), 10, "", "from this controller through bastion gate")
    carry_out((step,), way(FakeClient(), layout=lambda _name: image, moving=moving))
    assert seen == sorted(seen)
    assert begun == [("n1", f"sideload vllm:r1 {step.way}", seen[-1])]


def test_a_link_cut_in_a_sideload_says_how_far_it_came(image: layout.LayoutImage) -> None:
    client = FakeClient()

    def cut(data: Iterable[bytes]) -> Iterator[dict[str, str]]:
        for _ in data:
            raise HostError("n1", "the connection to the Docker engine broke")
        return iter(())

    client.api.load_image = cut  # type: ignore[method-assign]
    with pytest.raises(HostError, match=r"could not sideload vllm:r1 .* broke, after 0 of \d+ bytes") as caught:
        carry_out((Load("vllm:r1", (0, 1), 10, ""),), way(client, layout=lambda _name: image))
    assert "sends it again" in caught.value.hint


class PullApi:
    """Notes who was asked for with which credentials, and what was held meanwhile."""

    def __init__(self, held: list[str]) -> None:
        self.asked: dict[str, object] = {}
        self.held_during: dict[str, list[str]] = {}
        self._held = held

    def pull(self, repository: str, *, auth_config: object, **_: object) -> Iterator[dict[str, object]]:
        self.asked[repository] = auth_config
        self.held_during[repository] = list(self._held)
        return iter(())

    def inspect_image(self, _name: str) -> None:
        return None


def test_every_pull_has_its_own_registrys_credentials_and_slot(tmp_path: Path) -> None:
    registries = {}
    for number in (1, 2):
        (tmp_path / f"ca{number}").write_text(f"CA{number}", encoding="utf-8")
        user, password = Secret("user", literal=f"user{number}"), Secret("password", literal=f"password{number}")
        registries[f"r{number}:5000/vllm"] = Registry(f"r{number}:5000", str(tmp_path / f"ca{number}"), user, password)
    held: list[str] = []

    @contextmanager
    def slot(registry: str) -> Iterator[None]:
        held.append(registry)
        yield
        held.remove(registry)

    client = FakeClient()
    client.api = api = PullApi(held)  # type: ignore[assignment]
    session = FakeSession()
    steps: list[Step] = []
    for repository, registry in registries.items():
        steps += [PlaceCa(registry.host, ""), Pull(repository, "sha256:a", 1, "")]
    carry_out(steps, way(client, session, registries=registries, slot=slot))
    assert api.asked == {
        "r1:5000/vllm": {"username": "user1", "password": "password1"},
        "r2:5000/vllm": {"username": "user2", "password": "password2"},
    }
    assert api.held_during == {"r1:5000/vllm": ["r1:5000"], "r2:5000/vllm": ["r2:5000"]}
    assert session.files == {
        "/etc/docker/certs.d/r1:5000/ca.crt": b"CA1",
        "/etc/docker/certs.d/r2:5000/ca.crt": b"CA2",
    }


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
    registries = {"registry:5000/vllm": Registry("registry:5000", str(ca))}
    carry_out((PlaceCa("registry:5000", ""),), way(FakeClient(), session, registries=registries))
    assert session.files == {"/etc/docker/certs.d/registry:5000/ca.crt": b"PEM"}


@pytest.mark.parametrize(
    ("wanted", "found", "why"),
    [("PEM", None, "is not there"), ("PEM", "OLD", "another CA"), ("PEM", "PEM\n", ""), ("", None, "")],
)
def test_the_ca_is_planned_only_where_it_is_missing_or_another(wanted: str, found: str | None, why: str) -> None:
    steps = plan_ca("registry:5000", wanted, found)
    assert bool(steps) == bool(why)
    assert all(why in step.why for step in steps)
