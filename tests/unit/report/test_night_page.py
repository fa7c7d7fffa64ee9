"""The page of a night: whole, of itself alone, and with nothing of a stranger's text read as HTML."""

from html.parser import HTMLParser
from typing import Any

from fleet.nightly.nights import Night
from fleet.report.night_page import page

DOCUMENT: dict[str, Any] = {
    "id": "20261124-023000-000-abcd",
    "inventory": "/srv/prod.yaml",
    "began": "2026-11-24T02:30:00.000Z",
    "result": "failed",
    "said": "the canary is slower",
    "hosts": ["a", "b"],
    "left_out": {"c": "in maintenance"},
    "canaries": ["a"],
    "upstream": [{"commit": "f" * 40, "subject": "<script>alert(1)</script>"}],
    "images": [{"image": "vllm", "release": "vllm:3f9c", "tag": "20261124-f-k", "bytes": 25_000_000_000, "why": "new"}],
    "stages": [
        {"image": "vllm", "stage": "<i>csrc", "seconds": 51.5},
        {"image": "vllm", "stage": "other", "seconds": 0.5},
    ],
    "paces": [{"host": "a", "replica": "chat-0", "before": 100.0, "after": 80.0, "change": -20.0}],
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
        "in maintenance",
        "a (canary)",
        "failed: no",
        "80.0 tokens/s (-20 %)",
        "20261124-f-k",
        "&lt;i&gt;csrc",
        "52 s",
    ):
        assert word in text
    assert text.count("<svg") == 4


def test_a_night_that_was_killed_early_has_a_page_too() -> None:
    bare = {"id": "1", "inventory": "i", "began": "b", "result": "", "said": "", "phases": []}
    assert "not ended" in page(bare, [])
