"""What two releases have otherwise, and where one is."""

from dataclasses import replace

import pytest

from fleet.errors import FleetError
from fleet.image.release import Release
from fleet.report.release import places
from fleet.rollout.compare import Difference, Layers, differences, layers
from fleet.rollout.lineage import Lineage, Served
from fleet.rollout.past import Past, understand
from fleet.rollout.pins import pinned_in

OLD = Release(
    "vllm-rocm",
    "sha256:" + "a" * 64,
    "sha256:" + "1" * 64,
    ("sha256:base", "sha256:old"),
    ("sha256:b", "sha256:o"),
    (100, 20),
    "source",
    vllm_commit="abc",
    gfx=("gfx942",),
    env={"A": "1", "GONE": "x"},
    args={"MAX_JOBS": "8"},
    versions={"PYTORCH_BRANCH": "one"},
)
NEW = replace(
    OLD,
    manifest_digest="sha256:" + "b" * 64,
    diff_ids=("sha256:base", "sha256:new"),
    layer_digests=("sha256:recompressed", "sha256:n"),
    layer_sizes=(90, 30),
    vllm_commit="def",
    gfx=("gfx90a", "gfx942"),
    env={"A": "2"},
    args={"MAX_JOBS": "8", "base.PYTORCH_BRANCH": "two"},
    versions={"PYTORCH_BRANCH": "two"},
)


def test_only_what_differs_is_told_and_an_empty_side_has_none() -> None:
    assert differences(OLD, NEW) == (
        Difference("vllm commit", "abc", "def"),
        Difference("gfx", "gfx942", "gfx90a gfx942"),
        Difference("arg base.PYTORCH_BRANCH", "", "two"),
        Difference("version PYTORCH_BRANCH", "one", "two"),
        Difference("env A", "1", "2"),
        Difference("env GONE", "x", ""),
    )
    assert differences(OLD, OLD) == ()


def test_a_layer_that_was_only_compressed_otherwise_is_not_new() -> None:
    assert layers(OLD, NEW) == Layers(1, 1, 30)


def test_a_host_is_named_when_it_holds_or_ran_the_release() -> None:
    ran = Past({"chat": Lineage((Served(OLD.id, 1.0),))}, releases={OLD.id: OLD})
    found = places(OLD, {"holds": Past(held=frozenset({OLD.id})), "ran": ran, "neither": Past()})
    assert {host: (place.image, [row.state for row in place.rows]) for host, place in found.items()} == {
        "holds": (True, []),
        "ran": (False, ["before"]),
    }


def test_pins_are_read_among_other_records_and_are_no_releases() -> None:
    lines = ['{"schema": 1, "pinned": "aaaaaaaaaaaa", "why": "by me"}', "torn {", '{"schema": 1, "name": "x"}']
    assert pinned_in(lines, "a record") == {"aaaaaaaaaaaa": "by me"}
    assert understand(lines, "a record") == ({}, {})
    with pytest.raises(FleetError):
        pinned_in(['{"schema": 99, "pinned": "aaaaaaaaaaaa"}'], "a record")
