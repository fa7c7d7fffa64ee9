"""The effects of a delivery, against an engine that refuses what it does not know."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from fleet.delivery import scripts
from fleet.delivery.execute import carry_out
from fleet.delivery.plan import PlaceCa, Pull, Step, Tag, plan_ca
from fleet.delivery.send import Sender
from fleet.delivery.way import Way
from fleet.inventory.settings import Registry
from fleet.secret import Secret
from fleet.transport import Channel


class FakeApi:
    """Takes tags."""

    def __init__(self) -> None:
        self.tags: list[tuple[str, str, str]] = []

    def tag(self, image: str, repository: str, tag: str, *, force: bool) -> None:
        assert force
        self.tags.append((image, repository, tag))


class FakeClient:
    def __init__(self) -> None:
        self.api = FakeApi()


class FakeSession:
    alive = True

    def open_process(self, argv: Sequence[str], *, sudo: bool = False) -> Channel:
        raise AssertionError(argv)


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files that were put on the host, by path."""
    files: dict[str, bytes] = {}

    def command(_sender: Sender, script: str, *args: str, stdin: BinaryIO) -> str:
        path, octets = args
        files[path] = stdin.read()
        assert (script, octets) == (scripts.PLACE, str(len(files[path])))
        return ""

    monkeypatch.setattr(Sender, "command", command)
    return files


def way(client: Any, **more: Any) -> Way:
    return Way("n1", FakeSession(), client, **more)


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


def test_every_pull_has_its_own_registrys_credentials_and_slot(tmp_path: Path, placed: dict[str, bytes]) -> None:
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
    steps: list[Step] = []
    for repository, registry in registries.items():
        steps += [PlaceCa(registry.host, ""), Pull(repository, "sha256:a", 1, "")]
    carry_out(steps, way(client, registries=registries, slot=slot))
    assert api.asked == {
        "r1:5000/vllm": {"username": "user1", "password": "password1"},
        "r2:5000/vllm": {"username": "user2", "password": "password2"},
    }
    assert api.held_during == {"r1:5000/vllm": ["r1:5000"], "r2:5000/vllm": ["r2:5000"]}
    assert placed == {
        "/etc/docker/certs.d/r1:5000/ca.crt": b"CA1",
        "/etc/docker/certs.d/r2:5000/ca.crt": b"CA2",
    }


def test_tags_by_repository_and_tag() -> None:
    client = FakeClient()
    carry_out((Tag("sha256:c", "registry:5000/vllm:r1", ""),), way(client))
    assert client.api.tags == [("sha256:c", "registry:5000/vllm", "r1")]


def test_the_ca_goes_where_docker_looks_for_it(tmp_path: Path, placed: dict[str, bytes]) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("PEM", encoding="utf-8")
    registries = {"registry:5000/vllm": Registry("registry:5000", str(ca))}
    carry_out((PlaceCa("registry:5000", ""),), way(FakeClient(), registries=registries))
    assert placed == {"/etc/docker/certs.d/registry:5000/ca.crt": b"PEM"}


@pytest.mark.parametrize(
    ("wanted", "found", "why"),
    [("PEM", None, "is not there"), ("PEM", "OLD", "another CA"), ("PEM", "PEM\n", ""), ("", None, "")],
)
def test_the_ca_is_planned_only_where_it_is_missing_or_another(wanted: str, found: str | None, why: str) -> None:
    steps = plan_ca("registry:5000", wanted, found)
    assert bool(steps) == bool(why)
    assert all(why in step.why for step in steps)
