"""Several registries on one host: each its own credentials, CA and bound on pulls."""

from dataclasses import replace

from fleet.image.release import Release
from fleet.inventory.model import Connection, Host
from fleet.inventory.settings import Registry, Service, Settings
from fleet.rollout.distribute import registries_of, slots_of

OURS = Registry("registry.corp:5000", "/ca/ours.pem", parallel_pulls=2)
THEIRS = Registry("mirror.corp", "/ca/theirs.pem", parallel_pulls=7)
RELEASE = Release("vllm", "sha256:" + "1" * 64, "sha256:c", ("sha256:d",), ("sha256:l",), (5,), "source")
SERVICES = {"chat": Service("chat", "m"), "embed": Service("embed", "m", registry=THEIRS)}
HOST = Host("n1", ("all",), Connection("10.0.0.1"), Settings(registry=OURS, services=SERVICES))
RELEASES = {"n1": {"chat": RELEASE, "embed": replace(RELEASE, name="vllm-embed")}}


def test_each_repository_has_the_registry_of_its_service() -> None:
    found = registries_of(HOST, RELEASES)
    assert found == {"registry.corp:5000/vllm": OURS, "mirror.corp/vllm-embed": THEIRS}


def test_a_sideloaded_host_pulls_from_no_registry() -> None:
    host = replace(HOST, settings=replace(HOST.settings, delivery="sideload"))
    assert registries_of(host, RELEASES) == {}


def test_every_registry_has_a_bound_of_its_own() -> None:
    slots = slots_of([[OURS, THEIRS], [replace(THEIRS, parallel_pulls=1)]])
    ours, theirs = slots[OURS.host], slots[THEIRS.host]
    assert [ours.acquire(blocking=False) for _ in range(3)] == [True, True, False]
    assert [theirs.acquire(blocking=False) for _ in range(2)] == [True, False]
