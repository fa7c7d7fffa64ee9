"""What is new since the last good night, in words."""

from fleet.image.lock import Lock
from fleet.image.source import History
from fleet.inventory.settings import Image, OwnBase, Source
from fleet.nightly.changes import of_history, of_locks, of_recipes, recipe

SOURCE = Source(ref="main", repository="/srv/vllm")
OLD, NEW = "a" * 40, "b" * 40


def test_a_branch_that_moved_on_a_rewritten_one_and_a_moved_tag_are_told_apart() -> None:
    one = ((NEW, "new"),)
    on_top = of_history(SOURCE, OLD, NEW, History(one, (), known=True, on_top=True, tag=False))
    assert on_top == "main of /srv/vllm: aaaaaaaaaaaa → bbbbbbbbbbbb, 1 commit on top"
    rewritten = of_history(
        SOURCE, OLD, NEW, History(one, ((OLD, "old"), (OLD, "x")), known=True, on_top=False, tag=False)
    )
    assert "upstream rewrote its history: 2 commits of the last good one dropped, 1 commit new" in rewritten
    assert "a tag that was moved" in of_history(SOURCE, OLD, NEW, History(one, (), known=True, on_top=True, tag=True))
    gone = of_history(SOURCE, OLD, NEW, History((), (), known=False, on_top=False, tag=False))
    assert "the old commit is not there any more" in gone


def test_bases_and_tags_are_told_with_both_digests() -> None:
    first, second = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
    old = Lock(images={"r/base:1": first, "r/same:1": first}, local={"own:1": first, "was-own:1": first})
    new = Lock(
        images={"r/base:1": second, "r/same:1": first, "was-own:1": second, "r/new:1": second}, local={"own:1": second}
    )
    assert of_locks(old, new) == (
        "r/base:1: sha256:111111111111 → sha256:222222222222",
        "own:1, on the builder alone: sha256:111111111111 → sha256:222222222222",
        "was-own:1: from the builder alone to its registry's",
    )
    assert of_locks(old, old) == ()


def test_what_somebody_changed_in_the_inventory_is_told() -> None:
    before = Source(
        ref="main", args={"MAX_JOBS": "8", "GONE": "1"}, patches=("a.patch",), base=OwnBase(args={"X": "1"})
    )
    after = Source(ref="v1", args={"MAX_JOBS": "32"}, patches=("a.patch", "b.patch"), base=OwnBase(args={"X": "2"}))
    old = recipe(Image("vllm", source=before), ("1" * 64,))
    assert of_recipes("vllm", old, recipe(Image("vllm", source=after), ("2" * 64, "3" * 64))) == (
        "vllm: base X 1 → 2",
        "vllm: build argument GONE 1 → none",
        "vllm: build argument MAX_JOBS 8 → 32",
        "vllm: patch a.patch 111111111111 → 222222222222",
        "vllm: patch b.patch none → 333333333333",
        "vllm: ref main → v1",
    )
    assert of_recipes("vllm", old, old) == ()
    told = of_recipes("vllm", old, recipe(Image("vllm", prebuilt="rocm/vllm:latest"), ()))
    assert "vllm: prebuilt none → rocm/vllm:latest" in told
