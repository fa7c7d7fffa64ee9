"""Runs as a journal would tell them, made by a real Journal under a clock of our own."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import HostError
from fleet.journal import Journal, RunHeader

EPOCH = 1_795_405_639.0  # seconds, 2026-11-23 03:47:19 UTC
ROLL = (
    ("Pull", "pull registry.corp:5000/vllm-rocm@sha256:4bf5", "the host does not hold this release", 21.0),
    ("Tag", "tag vllm-rocm:0.11.0-1", "the name is not there", 0.1),
    ("Drain", "drain chat-0", "nothing new is routed to it", 6.0),
    ("Stop", "stop chat-0 (grace 60 s)", "its image differs", 9.0),
    ("FreeVram", "wait until VRAM is free on all GPUs", "the new one needs the memory", 3.0),
    ("Rename", "rename chat-0 to chat-0-old", "it is kept until the new one has answered", 0.1),
    ("Create", "create chat-0-new from vllm-rocm:0.11.0-1", "its image differs", 0.4),
    ("Start", "start chat-0-new", "its image differs", 1.2),
    ("Wait", "wait until chat-0-new is ready", "its image differs", 38.0),
    ("Verify", "verify chat-0-new by a real answer on port 8000", "its image differs", 4.0),
    ("Remove", "remove chat-0-old", "the new one has answered", 0.6),
)
BACK = (("Stop", 4.0), ("SaveLogs", 0.3), ("Remove", 0.4), ("Rename", 0.1), ("Start", 1.1), ("Verify", 9.0))
NO_ANSWER = "could not verify chat-0-new: /health says 503. chat-0 was put back and serves again"


@dataclass(frozen=True)
class Effect:
    kind: str
    what: str
    why: str


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def wall(self) -> float:
        return EPOCH + self.now

    def monotonic(self) -> float:
        return 1000.0 + self.now


def perform(
    journal: Journal, clock: Clock, host: str, kind: str, what: str, why: str, then: Callable[[], None]
) -> None:
    """One step of a class that is called `kind`, as the journal takes its name from the class."""
    made = type(kind, (Effect,), {})
    journal.perform(host, made(kind, what, why), then)


def roll(root: Path, hosts: int, *, fail: tuple[int, ...] = (), killed_at: int = 0, running: bool = False) -> Path:
    """A roll in a canary and batches of a quarter; the hosts numbered in `fail` do not answer and are put back.

    `killed_at`: the run ends in the middle of that host's batch without a word, or goes on if it is `running`. Hosts of a batch go side by side, so
    the journal's lines are made host by host under a clock that is set back; its file is sorted by time afterwards.
    """
    names = tuple(f"mi300x-{number:03d}.dc1" for number in range(1, hosts + 1))
    clock = Clock()
    argv = ("deploy", "--inventory", "prod", "--limit", "mi300x")
    header = RunHeader("deploy", argv, names, ("/srv/fleet/prod.yaml",), "mi300x")
    journal = Journal.open(root, header, redact=str, clock=clock.wall, monotonic=clock.monotonic)
    size = max(1, hosts // 4)
    batches = [names[:1], *(names[at : at + size] for at in range(1, hosts, size))]
    alive = True
    for number, batch in enumerate(batches, 1):
        if not alive:
            break
        began = clock.now
        journal.batch(number, batch, "canary" if number == 1 else "")
        longest = began
        for index, host in enumerate(batch):
            clock.now = began + index % 7 * 1.5
            position = names.index(host) + 1
            alive = alive and position != killed_at
            _one(journal, clock, host, fails=position in fail, stops=position == killed_at)
            longest = max(longest, clock.now)
        clock.now = longest + 1.0
    if alive:
        journal.finish(1 if fail else 0)
    elif not running:
        die(journal)
    _sort(journal.path / "journal.jsonl")
    return journal.path


def die(journal: Journal) -> None:
    """What the kernel does to the journal of a process that is killed; its own methods would say a last word."""
    os.close(journal._file)


def _one(journal: Journal, clock: Clock, host: str, *, fails: bool, stops: bool) -> None:
    def taking(seconds: float, error: HostError | None = None) -> Callable[[], None]:
        def do() -> None:
            clock.now += seconds * (0.9 + sum(host.encode()) % 5 / 10)
            if error is not None:
                raise error

        return do

    for kind, what, why, seconds in ROLL:
        if stops and kind == "Wait":
            with contextlib.suppress(SystemExit):
                _unfinished(journal, clock, host, kind, what, why)
            return
        if fails and kind == "Verify":
            error = HostError(host, NO_ANSWER, hint="invoke logs chat", tail=("ERROR engine died", "exit 1"))
            with contextlib.suppress(HostError):
                perform(journal, clock, host, kind, what, why, taking(seconds * 4, error))
            for undo, took in BACK:
                perform(journal, clock, host, undo, f"{undo.lower()} chat-0", "putting back", taking(took))
            journal.host_done(host, "failed", message=NO_ANSWER, hint="invoke logs chat")
            return
        perform(journal, clock, host, kind, what, why, taking(seconds))
    journal.host_done(host, "changed")


def _unfinished(journal: Journal, clock: Clock, host: str, kind: str, what: str, why: str) -> None:
    """A step whose end never comes: as after kill -9, its last line is cut off the file."""

    def die() -> None:
        clock.now += 12.0
        raise SystemExit

    try:
        perform(journal, clock, host, kind, what, why, die)
    finally:
        path = journal.path / "journal.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:-1]))


def _sort(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in sorted(lines, key=lambda line: float(_mono(line)))))


def _mono(line: str) -> str:
    return line.partition('"mono": ')[2].partition(",")[0]
