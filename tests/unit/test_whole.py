"""A file is replaced whole or not at all, and what a killed writer left goes."""

import fcntl
from pathlib import Path

import pytest

from fleet import whole


def test_a_file_is_replaced_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.lock.yaml"
    whole.write(path, "one")
    assert path.stat().st_mode & 0o777 == 0o600
    whole.write(path, "é", mode=0o644)
    assert (path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777) == ("é", 0o644)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    whole.write(path, "one")
    monkeypatch.setattr("os.fsync", lambda _file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        whole.write(path, "two")
    assert (path.read_text(), list(tmp_path.iterdir())) == ("one", [path])


def test_what_a_killed_writer_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    path, dead, busy, other = (tmp_path / name for name in ("a", ".a.dead.new", ".a.busy.new", ".b.dead.new"))
    dead.touch()
    other.touch()
    with busy.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        whole.write(path, "text")
    assert sorted(tmp_path.iterdir()) == [busy, other, path]
