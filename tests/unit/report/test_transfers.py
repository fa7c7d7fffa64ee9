"""Bytes under way, as plain lines: a beginning, a line now and then, an end."""

import io

import pytest
from rich.console import Console

from fleet.report.transfers import Bars, Lines

MB = 1_000_000


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def told(seconds_a_piece: float, pieces: int, total: int) -> list[str]:
    said: list[str] = []
    clock = Clock()
    with Lines(lambda _host, line: said.append(line), clock).moving("n1", "pull r/vllm", total) as at:
        for piece in range(1, pieces + 1):
            clock.now += seconds_a_piece
            at(piece * MB)
    return said


def test_a_line_for_each_tenth() -> None:
    lines = told(1, 100, 100 * MB)
    assert lines[0] == "pull r/vllm: 100 MB at most"
    assert lines[1] == "pull r/vllm: 10 MB of 100 MB (10 %), 1.0 MB/s"
    assert lines[-1] == "pull r/vllm: done, 100 MB in 1 min 40 s, 1.0 MB/s"
    assert len(lines) == 12


def test_a_slow_move_still_speaks_every_half_minute() -> None:
    assert len(told(10, 9, 1000 * MB)) == 2 + 3


def test_a_fast_move_says_little() -> None:
    assert len(told(0.005, 100, 100 * MB)) == 2


def test_a_move_of_unknown_size_speaks_too() -> None:
    assert told(31, 1, 0) == [
        "pull r/vllm",
        "pull r/vllm: 1.0 MB, 32 kB/s",
        "pull r/vllm: done, 1.0 MB in 31 s, 32 kB/s",
    ]


def test_a_move_that_fails_does_not_say_done() -> None:
    said: list[str] = []
    with pytest.raises(EOFError), Lines(lambda _host, line: said.append(line), Clock()).moving("n1", "pull", 5):
        raise EOFError
    assert said == ["pull: 5 B at most"]


def test_on_a_terminal_there_is_a_bar_while_it_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=140)
    bars = Bars(console)
    with bars.moving("n1", "pull r/vllm", 10 * MB) as at, bars.moving("n2", "pull r/vllm", 10 * MB):
        at(5 * MB)
        bars._progress.refresh()
    assert "5.0/10.0 MB" in text.getvalue()
    assert "n1: pull r/vllm: 5.0 MB in" in capsys.readouterr().err
