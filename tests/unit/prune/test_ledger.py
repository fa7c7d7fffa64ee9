"""What a controller remembers of an inventory, so that a prune can be sure."""

from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.image.release import Release
from fleet.inventory.model import Inventory
from fleet.prune.ledger import Ledger, Needs

A, B = (Release("vllm-rocm", f"sha256:{digit * 64}", f"sha256:c{digit * 63}", (), (), (), "source") for digit in "ab")


def ledger(root: Path, name: str = "prod.yaml") -> Ledger:
    return Ledger.of(root, Inventory({}, {}, (root / name,)))


def test_what_one_inventory_had_made_is_no_other_ones(tmp_path: Path) -> None:
    prod, lab = ledger(tmp_path), ledger(tmp_path, "lab.yaml")
    prod.claim("key1", A.config_digest, "")
    lab.claim("key1", "key2")
    assert prod.owned.has("key1")
    assert prod.owned.has(A.config_digest)
    assert not prod.owned.has("key2", "")
    assert (prod.owned.shares("key1"), prod.owned.shares(A.config_digest)) == (True, False)
    prod.forget("key1", "never")
    assert not prod.owned.has("key1")
    assert not lab.owned.shares("key1")


def test_a_host_needs_what_it_said_and_what_was_meant_for_it_since(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    assert made.needs("n1") == Needs()
    made.expect("n1", [B], "run 1 was to bring it")
    assert made.needs("n1").day == ""  # it was never asked
    made.remember("n1", {A.id: "chat-0 runs it"}, {A.id: A, B.id: B})
    told = made.needs("n1")
    assert (dict(told.needed), dict(told.releases)) == ({A.id: "chat-0 runs it"}, {A.id: A})
    made.expect("n1", [A, B], "run 2 was to bring it")
    assert dict(made.needs("n1").needed) == {A.id: "chat-0 runs it", B.id: "run 2 was to bring it"}
    assert (made.needs("n1").day, dict(made.needs("n1").releases)) == (told.day, {A.id: A, B.id: B})


def test_a_damaged_memory_is_none_and_that_of_a_newer_fleet_is_not_guessed_at(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    made.remember("n1", {A.id: "pinned"}, {A.id: replace(A, labels={"a": "b"})})
    (path,) = made.folder.glob("needed/*")
    path.write_text(path.read_text(encoding="utf-8").replace('"schema": 1, "day"', '"schema": 99, "day"', 1), "utf-8")
    with pytest.raises(FleetError, match="newer fleet"):
        made.needs("n1")
    for text in ("{", "[]", '{"schema": 1}', ""):
        path.write_text(text, "utf-8")
        assert made.needs("n1") == Needs()
