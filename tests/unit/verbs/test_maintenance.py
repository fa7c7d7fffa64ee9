"""`maintenance` as somebody types it."""

import json
from pathlib import Path
from typing import Any

import pytest
from invoke.program import Program

from fleet.tasks import namespace

INVENTORY = "all:\n  children:\n    rack: {hosts: {a: {}, b: {}}}\n    other: {hosts: {c: {}}}\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.yaml").write_text(INVENTORY)
    return tmp_path


def fleet(*words: str) -> int:
    try:
        Program(name="fleet", binary="fleet", namespace=namespace).run(["fleet", *words])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def out(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert fleet("maintenance.list", "-i", "site.yaml", "--json") == 0
    known: dict[str, Any] = json.loads(capsys.readouterr().out)["maintenance"]
    return known


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("words", [("a",), ("--host", "a")])
def test_a_host_is_taken_out_by_its_name_or_by_the_flag(words: tuple[str, ...], capsys: Any) -> None:
    assert fleet("maintenance", *words, "-i", "site.yaml", "--reason", "new HBM", "--until", "3d") == 0
    known = out(capsys)
    assert set(known) == {"a"}
    assert known["a"]["reason"] == "new HBM"
    assert known["a"]["until"]
    assert fleet("maintenance", *words, "-i", "site.yaml", "--end") == 0
    assert out(capsys) == {}


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(("pattern", "hosts"), [("a,c", {"a", "c"}), ("rack", {"a", "b"}), ("all:!rack", {"c"})])
def test_a_pattern_takes_several(pattern: str, hosts: set[str], capsys: Any) -> None:
    assert fleet("maintenance", pattern, "-i", "site.yaml", "--reason", "fans") == 0
    assert set(out(capsys)) == hosts


@pytest.mark.usefixtures("site")
def test_a_host_that_is_not_there_and_a_missing_reason_are_bad_input(capsys: Any) -> None:
    assert fleet("maintenance", "z", "-i", "site.yaml", "--reason", "fans") == 2
    assert fleet("maintenance", "a", "-i", "site.yaml") == 2
    assert out(capsys) == {}
