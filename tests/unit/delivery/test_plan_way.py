"""The plan says which way the bytes go, and how many, for people and for machines."""

import io
from typing import Any

import pytest
from rich.console import Console

from fleet.delivery.holdings import Holdings
from fleet.delivery.plan import Wanted, plan, sideload_way
from fleet.report.plan import document, show
from fleet.rollout.hostplan import HostPlan

WANTED = Wanted("vllm-rocm:r1", "sha256:m", "sha256:c", ("sha256:a", "sha256:b"), (1_200_000_000, 20_000_000))


def planned(repository: str, bastions: tuple[str, ...] = ()) -> HostPlan:
    return HostPlan("n1", plan(WANTED, Holdings(()), repository=repository, way=sideload_way(bastions)))


@pytest.mark.parametrize(
    ("repository", "bastions", "words"),
    [
        ("registry.corp:5000/vllm-rocm", (), "1.2 GB from registry.corp:5000"),
        ("", (), "1.2 GB from this controller"),
        ("", ("jump@gate",), "1.2 GB from this controller through bastion jump@gate"),
        ("", ("a@outer", "b@inner"), "through bastion a@outer, then b@inner"),
    ],
)
def test_bytes_and_way_stand_in_the_line(repository: str, bastions: tuple[str, ...], words: str) -> None:
    text = io.StringIO()
    show(Console(file=text, width=200), [planned(repository, bastions)], verbose=False)
    assert words in text.getvalue()


def test_machines_get_the_way_and_the_bytes_too() -> None:
    told = document(planned("", ("jump@gate",)))
    assert told["bytes"] == 1_220_000_000
    steps: Any = told["steps"]
    (step,) = steps[:1]
    assert (step["size"], step["way"]) == (1_220_000_000, "from this controller through bastion jump@gate")


def test_a_layout_that_the_controller_has_to_fetch_first_is_said() -> None:
    assert sideload_way(("jump@gate",), "r:5000") == "from r:5000 over this controller through bastion jump@gate"
