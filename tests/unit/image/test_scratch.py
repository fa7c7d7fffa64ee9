"""Working directories vanish with their user, and a killed one's are swept."""

import tempfile
from pathlib import Path

import pytest

from fleet.image.scratch import left, scratch, sweep, temporary


def test_a_directory_is_gone_afterwards_and_after_an_error_too(tmp_path: Path) -> None:
    with scratch(tmp_path / "new") as folder:
        (folder / "x").write_text("x")
    assert not folder.exists()
    with pytest.raises(KeyboardInterrupt), scratch(tmp_path / "new") as folder:
        raise KeyboardInterrupt
    assert not folder.exists()


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    left = tmp_path / ".scratch-left"
    left.mkdir()
    (left / "lock").touch()
    (tmp_path / "other").mkdir()
    with scratch(tmp_path) as first, scratch(tmp_path) as second:
        assert not left.exists()
        assert first.is_dir()
        assert second.is_dir()
        assert (tmp_path / "other").is_dir()


def test_a_half_made_directory_is_swept_too(tmp_path: Path) -> None:
    (tmp_path / ".scratch-half").mkdir()
    with scratch(tmp_path):
        assert not (tmp_path / ".scratch-half").exists()


def test_what_was_left_is_told_without_being_touched(tmp_path: Path) -> None:
    assert left(tmp_path / "none") == ()
    with scratch(tmp_path) as used:
        dead, half = tmp_path / ".scratch-dead", tmp_path / ".scratch-half"
        dead.mkdir()
        (dead / "lock").touch()
        half.mkdir()
        assert left(tmp_path) == (dead, half)
        assert used.is_dir()
        assert dead.is_dir()
        assert not (half / "lock").exists()


def test_a_temporary_directory_goes_and_so_does_what_a_killed_process_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, foreign = tmp_path / "fleet-skopeo-dead", tmp_path / "fleet-of-somebody"
    dead.mkdir()
    (dead / ".fleet-lock").touch()
    (dead / "auth.json").write_text("secret")
    foreign.mkdir()
    with temporary("fleet-skopeo-") as first, temporary("fleet-git-") as second:
        assert not dead.exists()
        assert (first.is_dir(), second.is_dir()) == (True, True)
        assert first.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == [foreign]


def test_a_sweep_takes_what_was_left_where_nobody_needs_a_directory_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    trees = tmp_path / "trees"
    sweep(trees)
    assert not trees.exists()
    with scratch(trees) as used:
        for dead, lock in ((trees / ".scratch-dead", "lock"), (tmp_path / "fleet-git-dead", ".fleet-lock")):
            dead.mkdir()
            (dead / lock).touch()
        sweep(trees)
        assert sorted(tmp_path.rglob("*dead")) == []
        assert used.is_dir()
