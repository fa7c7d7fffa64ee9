"""The catalogue as data, and the page made from it."""

from pathlib import Path

import pytest

from fleet.preflight import Entry, catalogue
from fleet.preflight.finding import SEVERITIES
from fleet.preflight.page import page

PAGE = Path(__file__).parents[3] / "docs/checks.md"
FAMILIES = {"MI300X", "MI300A", "MI325X", "MI308X", "MI350X", "MI355X", "MI250", "MI250X"}


@pytest.mark.parametrize("entry", catalogue().values(), ids=list(catalogue()))
def test_every_row_is_whole(entry: Entry) -> None:
    assert entry.severity in SEVERITIES
    assert entry.unread in SEVERITIES
    assert all((entry.title, entry.why, entry.fix, entry.verify, entry.source))
    assert set(entry.gpus) <= FAMILIES


def test_causes_stand_before_what_follows_from_them() -> None:
    seen: set[str] = set()
    for entry in catalogue().values():
        assert set(entry.after) <= seen, entry.id
        seen.add(entry.id)


def test_the_page_is_the_catalogue() -> None:
    """Write it anew with `python -m fleet.preflight.page > docs/checks.md`."""
    assert PAGE.read_text("utf-8") == page()
