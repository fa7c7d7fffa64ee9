"""Which image a build starts from: the registry's, or the one that lies on the builder."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.image import recipe
from fleet.image.build_plan import Base
from fleet.image.lock import Lock
from fleet.image.machine import Here
from fleet.image.reference import Reference
from fleet.image.store import Store
from fleet.image.workshop import Workshop
from fleet.transport import Output

ID = "sha256:" + "b" * 64
OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64
NAME = "rocm/vllm-dev:base"
LOCKED = "docker.io/rocm/vllm-dev:base"


class Builder(Here):
    """Has the base image, with these RepoDigests; None: has no image."""

    def __init__(self, digests: Sequence[str] | None) -> None:
        self.digests = digests

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        assert tuple(argv[:3]) == ("docker", "image", "inspect")
        if self.digests is None:
            return Output(1, "", "No such image")
        return Output(0, "\n".join(self.digests) if "RepoDigests" in argv[4] else ID, "")


def ask(
    monkeypatch: pytest.MonkeyPatch, digests: Sequence[str] | None, answer: str | FleetError, lock: Lock
) -> tuple[Base, Lock, bool]:
    """The base, the lock after it, and whether the registry was asked; `answer` is the digest that it gives."""
    asked = []

    def resolve(_workshop: Workshop, wanted: Reference, lock: Lock) -> tuple[str, Lock]:
        asked.append(wanted)
        if isinstance(answer, FleetError):
            raise answer
        return answer, lock.with_image(f"{wanted.name}:{wanted.tag}", answer) if answer else lock

    monkeypatch.setattr(recipe, "resolve_tag", resolve)
    shop = Workshop(Store(Path("/nowhere")), Builder(digests), None, lambda _line: None, update=True)
    base, lock = recipe.base_of(NAME, shop, lock)
    return base, lock, bool(asked)


def test_a_base_that_was_pulled_is_followed_in_its_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    for pulled in (f"rocm/vllm-dev@{OLD}", f"docker.io/rocm/vllm-dev@{OLD}"):
        base, lock, asked = ask(monkeypatch, [pulled], NEW, Lock())
        assert asked
        assert base == Base(NAME, f"docker.io/rocm/vllm-dev@{NEW}", NEW)
        assert lock.image(LOCKED) == NEW


def test_a_base_of_ones_own_is_asked_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for digests in ([], [f"registry.corp/mirror@{OLD}"]):
        base, lock, asked = ask(monkeypatch, digests, NEW, Lock())
        assert (base, lock, asked) == (Base(NAME, NAME, ID), Lock().with_local(LOCKED, ID), False)


@pytest.mark.parametrize("answer", ["", FleetError("cannot be reached")])
def test_what_no_registry_gives_is_the_builders(monkeypatch: pytest.MonkeyPatch, answer: str | FleetError) -> None:
    base, lock, _ = ask(monkeypatch, [f"rocm/vllm-dev@{OLD}"], answer, Lock())
    assert (base, lock) == (Base(NAME, NAME, ID), Lock().with_local(LOCKED, ID))
    with pytest.raises(FleetError, match=r"and .* does not have it either"):
        ask(monkeypatch, None, answer, Lock())


def test_a_registry_that_is_silent_tonight_is_no_reason_for_another_base(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FleetError, match="cannot be reached"):
        ask(monkeypatch, [f"rocm/vllm-dev@{OLD}"], FleetError("cannot be reached"), Lock().with_image(LOCKED, OLD))
