"""Releases that the gate may go by, looked up beside the probes and never waited for long."""

import threading
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.image.release import Release
from fleet.inventory.model import Connection, Host, Inventory
from fleet.inventory.settings import Image, Service, Settings
from fleet.rollout import known
from fleet.rollout.known import KnownReleases

RELEASE = Release("vllm", "sha256:" + "a" * 64, "sha256:" + "b" * 64, (), (), (), "prebuilt", gfx=("gfx942",))
CHAT = {"chat": Service("chat", "m")}


def host(name: str, image: str = "registry:5000/vllm:1") -> Host:
    return Host(name, ("all",), Connection("10.0.0.1"), Settings(image=Image("vllm", prebuilt=image), services=CHAT))


def releases(tmp_path: Path, *hosts: Host, patience: float = 5.0) -> KnownReleases:
    inventory = Inventory({one.name: one for one in hosts}, {}, (tmp_path / "i.yaml",))
    return KnownReleases(inventory, hosts, tmp_path / "root", patience=patience)


def test_a_release_is_known_for_every_host_that_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "known", lambda *_args, **_rest: RELEASE)
    one, two = host("gpu-1"), host("gpu-2")
    found = releases(tmp_path, one, two)
    assert found.of(one) == {"chat": RELEASE}
    assert found.of(two) == {"chat": RELEASE}
    assert found.notes == ()


def test_a_registry_that_is_down_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_args: object, **_rest: object) -> Release:
        raise FleetError("registry registry:5000 cannot be reached")

    monkeypatch.setattr(known, "known", down)
    one = host("gpu-1")
    found = releases(tmp_path, one)
    assert found.of(one) == {}
    (note,) = found.notes
    assert "cannot be reached" in note
    assert "what the inventory says" in note


def test_a_registry_that_says_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = threading.Event()
    monkeypatch.setattr(known, "known", lambda *_args, **_rest: silent.wait() and RELEASE)
    hosts = [host(f"gpu-{number}") for number in range(50)]
    found = releases(tmp_path, *hosts, patience=0.01)
    try:
        assert [found.of(one) for one in hosts] == [{}] * 50
        assert len(found.notes) == 1
    finally:
        silent.set()


def test_what_was_never_made_is_a_note_and_the_other_release_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        known, "known", lambda image, *_args, **_rest: RELEASE if image.prebuilt.endswith(":1") else None
    )
    one, two = host("gpu-1"), host("gpu-2", "registry:5000/vllm:2")
    found = releases(tmp_path, one, two)
    assert found.of(one) == {"chat": RELEASE}
    assert found.of(two) == {}
    assert "not made yet" in found.notes[0]


def test_services_without_an_image_are_a_note_too(tmp_path: Path) -> None:
    bare = Host("gpu-1", ("all",), Connection("10.0.0.1"), Settings(services=CHAT))
    found = releases(tmp_path, bare)
    assert found.of(bare) == {}
    assert "has no image" in found.notes[0]
