"""Which images nobody needs."""

from dataclasses import replace

from fleet.image.release import Release
from fleet.rollout.census import Listed
from fleet.rollout.lineage import Lineage, Served
from fleet.rollout.past import Past
from fleet.rollout.surplus import surplus

NAME = "vllm-rocm"


def release(letter: str) -> Release:
    return Release(
        NAME, f"sha256:{letter * 64}", f"sha256:{letter.upper() * 64}", ("sha256:1",), (), (), "source", created=letter
    )


A, B, C, D = (release(letter) for letter in "abcd")
EVERY = {one.id: one for one in (A, B, C, D)}
STANDING = tuple(Served(one.id, float(number)) for number, one in enumerate((A, B, C)))
PULLED = frozenset(f"reg:5000/{NAME}@{one.manifest_digest}" for one in EVERY.values())
PAST = Past({"chat": Lineage(STANDING)}, releases=EVERY, touched=frozenset((A.id, B.id, C.id)), pulled=PULLED)
IMAGES = tuple(
    Listed(one.config_digest, (one.local_name,), (f"reg:5000/{NAME}@{one.manifest_digest}",), 10, 0)
    for one in EVERY.values()
)


def removed(*, past: Past = PAST, used: frozenset[str] = frozenset(), keep: int = 2, wanted: Release = C) -> list[str]:
    return [step.name for step in surplus(past, IMAGES, used, {"chat": wanted}, keep)]


def test_what_serves_and_what_it_would_go_back_to_stays() -> None:
    assert removed() == [A.local_name]


def test_more_can_be_kept() -> None:
    assert removed(keep=3) == []


def test_before_the_roll_the_one_that_runs_still_counts_as_the_way_back() -> None:
    assert removed(wanted=D) == [A.local_name, B.local_name]


def test_what_any_container_was_made_from_stays() -> None:
    assert removed(used=frozenset({A.config_digest})) == []


def test_what_is_pinned_stays() -> None:
    assert removed(past=replace(PAST, pinned={A.id: ""}), wanted=D) == [B.local_name]


def test_what_this_tool_never_brought_stays() -> None:
    assert removed(past=replace(PAST, touched=frozenset())) == []


def test_only_names_that_this_tool_gave_are_taken_off() -> None:
    image = IMAGES[0]
    others = ("reg:5000/other", f"alice/{NAME}", f"other:5000/{NAME}", f"{NAME}2")
    digests = (*image.repo_digests, *(f"{one}@{A.manifest_digest}" for one in others))
    foreign = replace(image, names=(*image.names, "keep:me"), repo_digests=digests)
    (step,) = surplus(PAST, (foreign,), frozenset(), {"chat": C}, 2)
    assert step.references == image.references
    made_up = replace(image, repo_digests=(f"{NAME}@{A.manifest_digest}",))
    (step,) = surplus(PAST, (made_up,), frozenset(), {"chat": C}, 2)
    assert step.references == made_up.references


def test_a_release_that_was_rolled_away_from_goes_too() -> None:
    left = Past({"chat": Lineage(STANDING[:2], (STANDING[2],))}, releases=EVERY, touched=PAST.touched)
    assert removed(past=left, wanted=B) == [C.local_name]
