"""What hosts that cannot be asked keep from going, and what they do not."""

from pathlib import Path

import pytest

from fleet.image.release import Release
from fleet.inventory.model import Connection, Host, Inventory
from fleet.inventory.settings import Service, Settings
from fleet.nightly.nights import Book
from fleet.options import Options
from fleet.prune.facts import PrunePlan, Room
from fleet.prune.ledger import Ledger
from fleet.report.prune import HostPrune
from fleet.verbs import night_prune
from fleet.verbs.prune import Pruned, recall

A, B = (Release("vllm-rocm", f"sha256:{digit * 64}", f"sha256:c{digit * 63}", (), (), (), "source") for digit in "ab")
SERVES = Settings(services={"chat": Service("chat", "org/tiny")})
NAMES = ("n1", "n2")


def inventory(root: Path) -> Inventory:
    return Inventory({name: Host(name, (), Connection(name), SERVES) for name in NAMES}, {}, (root / "prod.yaml",))


def n2_is_away(root: Path, chosen: tuple[str, ...] = NAMES) -> tuple[bool, dict[str, str], Pruned]:
    found = Pruned(hosts={"n1": HostPrune(PrunePlan(), Room())})
    needed = {A.id: "chat-0 runs it"}
    made = inventory(root)
    return recall(made, chosen, Ledger.of(root, made), found, needed), needed, found


def test_a_host_that_cannot_be_asked_needs_what_it_needed_and_stops_nothing(tmp_path: Path) -> None:
    ledger = Ledger.of(tmp_path, inventory(tmp_path))
    ledger.remember("n2", {A.id: "pinned", B.id: "chat-0 runs it"}, {B.id: B})
    judged, needed, found = n2_is_away(tmp_path)
    assert judged
    assert needed == {A.id: "chat-0 runs it", B.id: "n2: chat-0 runs it"}
    assert found.known == {B.id: B}
    (note,) = found.notes
    assert note.startswith("n2 cannot be asked: what it needed on ")


def test_a_host_that_was_never_asked_or_not_chosen_keeps_images_from_going_and_that_is_said(tmp_path: Path) -> None:
    judged, needed, found = n2_is_away(tmp_path)
    assert (judged, needed) == (False, {A.id: "chat-0 runs it"})
    assert found.notes == [
        "layouts, images on the builder and the registry are left alone: not asked, now or before, were n2"
    ]
    ledger = Ledger.of(tmp_path, inventory(tmp_path))
    ledger.expect("n2", [B], "run 1 was to bring it")  # which it never confirmed
    assert not n2_is_away(tmp_path)[0]
    ledger.remember("n2", {}, {})
    assert not n2_is_away(tmp_path, ("n1",))[0]


@pytest.mark.parametrize("left", [[], ["chat of n1 is not back on 1234"]])
def test_while_a_host_is_not_back_nothing_goes(
    left: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def pruned(_options: Options, *, lock_wait: float) -> Pruned:
        asked.append(lock_wait)
        return Pruned()

    monkeypatch.setattr(night_prune, "pruned", pruned)
    book = Book.begin(tmp_path, "prod.yaml", 0.0)
    book.put(not_back=left)
    night_prune.retain(Options(), book)
    assert len(asked) == (not left)
    assert [phase["name"] for phase in book.document["phases"]] == ([] if left else ["prune"])
