"""What is known from night to night."""

import os
from pathlib import Path

import pytest

from fleet import calendar
from fleet.errors import FleetError
from fleet.nightly.nights import Book, Night, alone, failed, good_paces, keep, nights, remember, unsettled


def test_a_night_is_on_disk_from_its_first_step_on(tmp_path: Path) -> None:
    book = Book.begin(tmp_path, "/prod.yaml", 1795478400.0)

    def broken() -> None:
        with book.phase("build"):
            (night,) = nights(tmp_path, "/prod.yaml")
            assert (night.id, night.result, night.document["phases"][0]["ok"]) == (book.id, "", None)
            raise FleetError("broken")

    with pytest.raises(FleetError, match="broken"):
        broken()
    book.end("failed", "broken")
    (night,) = nights(tmp_path)
    assert (night.began, night.result, night.said) == (1795478400.0, "failed", "broken")
    assert night.document["phases"][0]["ok"] is False
    assert nights(tmp_path, "/other.yaml") == ()


def test_the_calendar_dates_what_a_night_writes_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calendar, "now", lambda: 1795564800.0)
    book = Book.begin(tmp_path, "/prod.yaml", calendar.now())
    with book.phase("look") as phase:
        pass
    book.end("kept", "as it was")
    assert book.id.startswith("20261125-000000-")
    assert phase["began"] == book.document["ended"] == "2026-11-25T00:00:00.000Z"


def test_no_secret_reaches_the_report(tmp_path: Path) -> None:
    book = Book.begin(tmp_path, "/prod.yaml", 1.0, lambda text: text.replace("s3cret", "***"))
    book.end("failed", "it said s3cret")
    assert nights(tmp_path)[0].said == "it said ***"


def test_a_second_night_of_an_inventory_is_refused_wherever_it_is_said(tmp_path: Path) -> None:
    lock = tmp_path / "prod.lock.yaml"
    with alone(lock):
        with (
            pytest.raises(FleetError, match=f"another night is running here .process {os.getpid()} in"),
            alone(lock),
        ):
            pass
        with alone(tmp_path / "other.lock.yaml"):  # another inventory's is its own affair
            pass
    with alone(lock):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_figures_of_the_last_good_night_are_known_by_replica() -> None:
    def night(name: str, result: str, after: float) -> Night:
        return Night(name, 0.0, result, "", {"paces": [{"host": "a", "replica": "chat-0", "after": after}]})

    found = good_paces([night("1", "promoted", 90.0), night("2", "promoted", 100.0), night("3", "failed", 10.0)])
    assert found == {"a chat-0": (100.0, "2")}


def test_keys_that_failed_are_remembered_until_they_go_well(tmp_path: Path) -> None:
    assert failed(tmp_path) == {}
    remember(tmp_path, {"k": "why", "l": "why"})
    remember(tmp_path, {"m": "why"}, forget=("k",))
    assert set(failed(tmp_path)) == {"l", "m"}


def test_only_the_newest_nights_of_an_inventory_are_kept(tmp_path: Path) -> None:
    other = Book.begin(tmp_path, "/other.yaml", 1.0)
    books = [Book.begin(tmp_path, "/prod.yaml", float(second)) for second in range(2, 6)]
    assert keep(tmp_path, "/prod.yaml", 2) == (books[0].id, books[1].id)
    assert {night.id for night in nights(tmp_path)} == {other.id, books[2].id, books[3].id}


def test_a_night_is_unsettled_until_it_went_well_or_all_is_back() -> None:
    def night(name: str, **document: object) -> Night:
        return Night(name, 0.0, "", "", document)

    stands = {"a": {"chat": "old"}}
    killed, early = night("1", before=stands, brought=["new"]), night("2")
    assert unsettled([]) is None
    assert unsettled([killed, early]) is killed  # one that was killed before it looked knows nothing
    assert unsettled([killed, night("3", before=stands, settled=True)]) is None
    assert killed.brought == {"new"}
