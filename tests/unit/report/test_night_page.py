"""The page of a night: whole, of itself alone, and with nothing of a stranger's text read as HTML."""

from html.parser import HTMLParser
from typing import Any

from fleet.nightly.nights import Night
from fleet.report.night_page import page

DOCUMENT: dict[str, Any] = {
    "id": "20261124-023000-000-abcd",
    "inventory": "/srv/prod.yaml",
    "began": "2026-11-24T02:30:00.000Z",
    "ended": "2026-11-24T04:10:00.000Z",
    "continues": "20261123-023000-000-0000",
    "result": "failed",
    "not_back": ["chat of a is not back on 3f9c<1>"],
    "logs": [{"path": ".fleet/logs/a-chat-0.log", "lines": ["<b>HIP error", "gone"]}],
    "drift": ["b: image: vllm:3f9c: is missing"],
    "silent": {"b": "chat-0 gives no answer"},
    "away": {"d": "cannot connect to d: <refused>"},
    "changed": {
        name: [{"subject": "MI300X firmware", "what": "smc 0x1 → 0x2, first seen 2026-11-24 02:31 UTC"}]
        for name in ("mi300x-01", "mi300x-02")
    },
    "strangers": ["chat of b runs 77, which somebody else brought: left alone"],
    "decision": "build",
    "why": "vllm has the new content key k",
    "changes": ["main of r: aaa → bbb; upstream rewrote its history"],
    "dropped": [{"commit": "d" * 40, "subject": "a commit that is gone"}],
    "smoke": [
        {
            "image": "vllm:build-k",
            "vllm": "0.11.0",
            "rocm": "6.4.3",
            "gfx": [],
            "notes": ["does not say its <gfx> targets"],
        }
    ],
    "regression": "10%",
    "first_paces": ["c chat-0 gave no figure with an earlier release"],
    "said": "the canary is slower",
    "good": [{"image": "vllm", "release": "vllm:<0a0a>", "commit": "c" * 40}],
    "next": "look at <a>",
    "hosts": ["a", "b"],
    "left_out": {"c": "in maintenance"},
    "canaries": ["a"],
    "upstream": [{"commit": "f" * 40, "subject": "<script>alert(1)</script>"}],
    "images": [
        {
            "image": "vllm",
            "before": "vllm:0a0a",
            "release": "vllm:3f9c",
            "tag": "20261124-f-k",
            "bytes": 25_000_000_000,
            "why": "new",
            "base": "r/base:1",
            "base_digest": "sha256:77",
        }
    ],
    "stages": [
        {"image": "vllm", "stage": "<i>csrc", "seconds": 51.5},
        {"image": "vllm", "stage": "other", "seconds": 0.5},
    ],
    "paces": [{"host": "a", "replica": "chat-0", "before": 100.0, "after": 80.0, "change": -20.0, "from": "n1"}],
    "pruned": {
        "hosts": {
            "a": {
                "before": {"used": 9_000_000_000, "free": 1},
                "after": {"used": 4_000_000_000, "free": 1},
                "removed": [{"what": "remove image vllm:<b>", "why": "nothing runs it", "bytes": 5}],
            },
            "b": {"before": {"used": 1, "free": 1}, "after": None, "removed": []},
        },
        "places": {"registry r:5000": {"removed": []}},
        "notes": ["collect the garbage"],
        "failed": {"b": "is locked"},
    },
    "phases": [
        {"name": "build", "ok": True, "seconds": 61.0},
        {
            "name": "canary",
            "ok": False,
            "seconds": 9.0,
            "run": "r1",
            "hosts": {"a": {"outcome": "failed", "message": "no"}},
        },
        {"name": "restore", "ok": None},
    ],
}


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}


def night(name: str, seconds: float) -> Night:
    document = {**DOCUMENT, "phases": [{"name": "build", "ok": True, "seconds": seconds}]}
    return Night(name, 0.0, "promoted", "", document)


def test_a_page_shows_every_part_and_loads_nothing() -> None:
    text = page(DOCUMENT, [night("20261123-1", 50.0), night("20261124-2", 61.0)])
    tags = Tags(text)
    assert not tags.seen & {"script", "link", "img", "iframe"}
    assert not tags.attributes & {"src", "href", "onclick"}
    assert "&lt;script&gt;alert(1)" in text
    for word in (
        "remove image vllm:&lt;b&gt;: nothing runs it",
        "9.0 GB",
        "4.0 GB",
        "is locked",
        "registry r:5000",
        "collect the garbage",
        "fffffffff",
        "slower",
        "next: look at &lt;a&gt;",
        "But for that, the fleet goes on with vllm:&lt;0a0a&gt; (vLLM ccccccccc).",
        "in maintenance",
        "a (canary)",
        "failed: no",
        "80.0 tokens/s (-20 %)",
        "20261124-f-k",
        "does not say its &lt;gfx&gt; targets",
        "&lt;i&gt;csrc",
        "52 s",
        '<p class="alarm">chat of a is not back on 3f9c&lt;1&gt;</p>',
        "&lt;b&gt;HIP error\ngone",
        "b: image: vllm:3f9c: is missing",
        "b: chat-0 gives no answer",
        "left alone",
        "d: cannot connect to d: &lt;refused&gt;",
        "<td>mi300x-[01:02]</td><td>MI300X firmware</td><td>smc 0x1 → 0x2",
        "upstream rewrote its history",
        "a commit that is gone",
        "vllm:0a0a",
        "r/base:1 sha256:77",
        "6.4.3",
        "more than 10% slower",
        "before is of night n1",
        "c chat-0 gave no figure",
        "ended 2026-11-24 04:10 UTC",
        "goes on from night 20261123-023000-000-0000",
    ):
        assert word in text
    assert text.count("<svg") == 4


def test_a_night_in_which_nothing_is_new_says_so() -> None:
    quiet = {**DOCUMENT, "decision": "kept", "why": "nothing is new: every content key is as it was", "changes": []}
    assert "<p>Nothing: every content key is as it was.</p>" in page(quiet, [])
    assert "no earlier good night to compare with" in page({**DOCUMENT, "changes": []}, [])


def test_a_night_that_was_killed_early_has_a_page_too() -> None:
    bare = {"id": "1", "inventory": "i", "began": "b", "result": "", "said": "", "phases": []}
    assert "not ended" in page(bare, [])
    assert "Changed under the services" not in page(bare, [])
