"""Damaged answers: facts or a FleetError, never another exception."""

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import FleetError
from fleet.facts import parse
from fleet.inventory.settings import Gpus
from fleet.preflight import ImageFacts, Needs, ServiceNeeds, Targets, check

RECORDS = sorted((Path(__file__).parents[2] / "data/probe").glob("*.txt"))
LINES = {path.stem: path.read_text("utf-8").split("\n") for path in RECORDS}
SMALL = sorted(name for name, lines in LINES.items() if len(lines) < 1500)
NEEDS = Needs(
    gpus=Gpus("MI300X", 8, "SPX", "NPS1"),
    image=ImageFacts((Targets(("gfx942",), "7.2"),), 1 << 33),
    services=(ServiceNeeds("chat", "m", (8000,)),),
    delivery="sideload",
    epoch=0.0,
)
EDITS = st.lists(
    st.tuples(
        st.integers(0, 1500), st.sampled_from(["drop", "twice", "cut", "empty", "swap", "noise"]), st.integers(0, 60)
    ),
    max_size=40,
)
NOISE = ("grep: x: Permission denied", "{", "9/vram_x:1", "renderDx/device/vendor:0x1002", "0 1 2 x", "::::", "\x1f")


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(SMALL), edits=EDITS)
def test_a_damaged_answer_gives_facts_or_a_plain_error(name: str, edits: list[tuple[int, str, int]]) -> None:
    lines = list(LINES[name])
    for place, how, number in edits:
        at = place % len(lines)
        line = lines[at]
        if how == "drop":
            lines[at : at + number] = []
            lines = lines or [""]
        elif how == "twice":
            lines.insert(at, line)
        elif how in ("cut", "empty"):
            lines[at] = line[:number] if how == "cut" else ""
        elif how == "swap":
            lines[at] = line.replace(":", " ").replace("0", "x")
        else:
            lines.insert(at, NOISE[number % len(NOISE)])
    try:
        facts = parse("\n".join(lines))
    except FleetError:
        return
    assert json.dumps(facts.to_json())
    check(facts, NEEDS)
