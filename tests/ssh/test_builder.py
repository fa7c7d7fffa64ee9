"""What a builder does for us lasts as long as we do: commands, and what is placed on it."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from fleet.errors import HostError
from fleet.image.machine import There
from fleet.transport import Session


def within(seconds: float, ready: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not (well := ready()) and time.monotonic() < until:
        time.sleep(0.05)
    return well


def gone(file: Path) -> bool:
    return not Path(f"/proc/{file.read_text().strip()}").exists()


@pytest.mark.parametrize("environment", [{}, {"A": "a b"}])
def test_a_command_gets_its_environment_and_an_empty_stdin(session: Session, environment: dict[str, str]) -> None:
    lines: list[str] = []
    code = There(session, "/nowhere").stream(
        ("sh", "-c", 'cat; echo "[$A]"; exit 3'), lines.append, environment=environment
    )
    assert (code, lines) == (3, [f"[{environment.get('A', '')}]"])


@pytest.mark.parametrize("environment", [{}, {"A": "a"}])
def test_a_silent_command_ends_with_the_connection(
    session: Session, tmp_path: Path, environment: dict[str, str]
) -> None:
    pid = tmp_path / "pid"

    def lose(_line: str) -> None:
        session.close()

    with pytest.raises(HostError, match="the connection was lost"):
        There(session, "/nowhere").stream(
            ("sh", "-c", f"echo $$ >{pid}; echo begun; exec sleep 300"), lose, environment=environment
        )
    assert within(10, lambda: gone(pid))


def test_what_is_placed_lies_in_one_directory_that_goes_with_its_last_user(session: Session, tmp_path: Path) -> None:
    tree, file, staging = tmp_path / "tree", tmp_path / "file", tmp_path / "staging"
    tree.mkdir()
    (tree / "x").write_text("x")
    file.write_text("secret")
    there = There(session, str(staging))
    with there.place(tree) as first:
        with there.place(file) as second:
            assert (Path(first, "x").read_text(), Path(second).read_text()) == ("x", "secret")
            assert Path(second).stat().st_mode & 0o777 == 0o600
            (bench,) = staging.iterdir()
            assert bench.stat().st_mode & 0o777 == 0o700
        assert not Path(second).exists()
        assert Path(first, "x").exists()
    assert list(staging.iterdir()) == []
    with there.bench() as other:
        assert other != str(bench)
    assert list(staging.iterdir()) == []


def test_what_is_placed_goes_with_the_connection(session: Session, tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    with suppress(HostError), There(session, str(staging)).place(tmp_path):
        assert len(list(staging.iterdir())) == 1
        session.close()
        assert within(10, lambda: not list(staging.iterdir()))


def test_a_staging_directory_that_cannot_be_made_is_told(session: Session, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(HostError, match=r"no directory could be made in .*/file/x: mkdir: .*Not a directory"),
        There(session, f"{tmp_path}/file/x").bench(),
    ):
        raise AssertionError
