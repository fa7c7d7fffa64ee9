"""Which release the fleet runs after a night, however that ended."""

from typing import Any

import pytest

from fleet.report.night_words import serves

GOOD = {"image": "vllm", "release": "vllm:3f9c", "version": "0.11.0", "commit": "a" * 40, "since": "20261123-1"}
TOLD = "vllm:3f9c (vLLM 0.11.0 aaaaaaaaa, of night 20261123-1)"
NIGHT: dict[str, Any] = {
    "canaries": ["a"],
    "good": [GOOD],
    "running": {name: {"chat": "3f9c"} for name in ("a", "b")},
}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"result": "failed"}, f"the fleet goes on with {TOLD}"),
        ({"result": "interrupted"}, f"the fleet goes on with {TOLD}"),
        ({"result": "held"}, f"the fleet goes on with {TOLD}"),
        ({"result": "failed", "not_back": ["chat of a is not back"]}, f"but for that, the fleet goes on with {TOLD}"),
        ({"result": "promoted"}, f"the fleet runs {TOLD}"),
        ({"result": "kept"}, f"the fleet runs {TOLD}"),
        (
            {"result": "kept", "good": [{**GOOD, "version": "0.12.0-2-gaaaaaaa"}]},
            f"the fleet runs {TOLD.replace('0.11.0 aaaaaaaaa', '0.12.0-2-gaaaaaaa')}",
        ),
        ({"result": "drift"}, f"the fleet is to run {TOLD}"),
        ({"result": "waiting"}, f"a runs the new release, all others go on with {TOLD}"),
        (
            {"result": ""},
            f"the last good release is {TOLD}; the next night goes on from what this one has left on hosts",
        ),
        (
            {"result": "failed", "running": {"a": {"chat": "3f9c"}, "b": {"chat": "77"}}},
            f"the fleet goes on with {TOLD}; b ran another release when the night began: invoke drift",
        ),
        (
            {"result": "failed", "good": []},
            "no release is on record as the last good one; hosts go on with what they ran: 3f9c",
        ),
        ({"result": "failed", "good": [], "running": {}}, "no release is on record as the last good one"),
        (
            {"result": "failed", "good": [{"image": "vllm", "release": "vllm:3f9c"}, {**GOOD, "release": "b:1"}]},
            f"the fleet goes on with vllm:3f9c, {TOLD.replace('vllm:3f9c', 'b:1')}",
        ),
    ],
)
def test_what_the_fleet_runs_after_the_night(more: dict[str, Any], said: str) -> None:
    assert serves({**NIGHT, **more}) == said
