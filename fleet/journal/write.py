"""Writing a run's journal: one line before and one after each effect, so that a killed run can tell how far it came.

Every line is one write(2) to a file opened with O_APPEND: what was written survives the death of this process, and
fsync at the boundaries of hosts and runs carries it over a power cut too.
"""

import fcntl
import json
import os
import secrets
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fleet.errors import FleetError
from fleet.journal.header import OUTCOMES, SCHEMA, RunHeader, iso, run_id
from fleet.seam import Described

# Names, not words: a secret that happens to equal a host's name must not make the journal useless for --resume.
_PLAIN = frozenset({"schema", "type", "id", "at", "kind", "host", "hosts", "outcome", "verb", "inventory", "limit"})


class Journal:
    """One run's directory, `ROOT/runs/ID/`. Thread-safe. It is a Seam: `perform` writes before and after each step.

    A disk that is full must not keep an old container from being put back, so a journal that cannot go on writing
    never stops the work: `broken` then says why, and the run should end by telling it.
    """

    def __init__(
        self,
        path: Path,
        header: RunHeader,
        redact: Callable[[str], str],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.path = path
        self.id = path.name
        self.header = header
        self.broken = ""
        self._redactors = [redact]
        self._clock, self._monotonic = clock, monotonic
        self._lock = threading.Lock()
        self._sequence = 0
        self._outcomes: dict[str, str] = {}
        self._finished = False
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(path / "journal.jsonl", flags, 0o600)
        # The kernel drops this lock with the process: whoever can take it knows that the run is over.
        fcntl.flock(self._file, fcntl.LOCK_EX)

    @classmethod
    def open(
        cls,
        root: Path,
        header: RunHeader,
        *,
        redact: Callable[[str], str],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Begin a run below `root` (`.fleet`). `redact` takes every secret out of a text.

        Raises FleetError where nothing can be written there; nothing was touched then.
        """
        try:
            journal = cls(_directory(root, clock), header, redact, clock, monotonic)
        except OSError as error:
            raise FleetError(f"no journal can be written below {root}: {error.strerror}") from error
        journal._write({"type": "run", "id": journal.id, "pid": os.getpid(), **asdict(header)}, sync=True)
        if journal.broken:
            raise FleetError(f"no journal can be written below {root}: {journal.broken}")
        return journal

    def perform(self, host: str, step: Described, do: Callable[[], None], /) -> None:
        """Do one step of `host`, with a line before and one after it. What `do` raises goes on to the caller."""
        sequence = self._next()
        kind, size = type(step).__name__, getattr(step, "size", 0)
        begun = {"type": "begin", "host": host, "seq": sequence, "kind": kind, "what": step.what, "why": step.why}
        self._write({**begun, **({"size": size} if size else {})})
        self._log(host, f"begin  {step.what}  ({step.why})" if step.why else f"begin  {step.what}")
        started = self._monotonic()
        try:
            do()
        except BaseException as error:
            message, hint = _words(error)
            ended = {"type": "end", "host": host, "seq": sequence, "ok": False, "error": message, "hint": hint}
            self._write(ended)
            self._log(host, f"failed {step.what}: {message}")
            raise
        self._write({"type": "end", "host": host, "seq": sequence, "ok": True})
        self._log(host, f"done   {step.what}  [{self._monotonic() - started:.1f} s]")

    def plan(self, document: object) -> None:
        """What the run is going to do, as JSON: plan.json."""
        self._replace("plan.json", {"schema": SCHEMA, "id": self.id, "plan": document})

    def event(self, host: str, text: str) -> None:
        """A line of progress; `host` empty = of the whole run. Goes to the host's log too."""
        self._write({"type": "event", "host": host, "text": text})
        if host:
            self._log(host, text)

    def batch(self, number: int, hosts: Sequence[str], name: str = "") -> None:
        """A batch begins; numbers count from 1 in each play, and `name` is for example `canary`."""
        self._write({"type": "batch", "number": number, "hosts": list(hosts), "name": name}, sync=True)

    def host_done(self, host: str, outcome: str, *, message: str = "", hint: str = "") -> None:
        """The run is through with a host; said again (after a retry), the last word counts. `outcome`: see OUTCOMES."""
        if outcome not in OUTCOMES:
            raise ValueError(f"{outcome!r} is no outcome of a host")
        with self._lock:
            self._outcomes[host] = outcome
        self._write({"type": "host", "host": host, "outcome": outcome, "message": message, "hint": hint}, sync=True)
        self._log(host, f"{outcome}{f': {message}' if message else ''}")

    def outcome(self, host: str) -> str:
        """The last word on a host, empty where none was said."""
        with self._lock:
            return self._outcomes.get(host, "")

    def finish(self, exit_code: int, document: Mapping[str, object] | None = None) -> None:
        """The end: result.json, written whole and last. A second call changes nothing."""
        if self._finished:
            return
        self._finished = True
        with self._lock:
            outcomes = dict(self._outcomes)
        ended = {"exit_code": exit_code, "hosts": outcomes}
        self._write({"type": "finish", "exit_code": exit_code}, sync=True)
        now = {"at": iso(self._clock()), "mono": round(self._monotonic(), 3)}
        result = {**(document or {}), "schema": SCHEMA, "id": self.id, **now, **ended}
        if self.broken:
            result["journal"] = f"incomplete: {self.broken}"
        self._replace("result.json", result)
        with self._lock:  # a thread that Ctrl-C left behind must not write into whatever gets this number next
            os.close(self._file)
            self._file = -1

    def learn(self, redact: Callable[[str], str]) -> None:
        """One more redactor, for secrets that were revealed on the way."""
        with self._lock:
            self._redactors.append(redact)

    def redact(self, text: str) -> str:
        for redact in tuple(self._redactors):
            text = redact(text)
        return text

    def host_log(self, host: str) -> Path:
        """`hosts/NAME.log`; characters that a file's name cannot have are written as %XX."""
        return self.path / "hosts" / f"{urllib.parse.quote(host, safe='@:+,=[]')}.log"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Ends the run by how the block was left, unless `finish` was called."""
        if error is None:
            self.finish(0)
            return
        code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
        message, hint = _words(error)
        self.finish(code if isinstance(code, int) else 1, {"error": message, "hint": hint})

    # How

    def _next(self) -> int:
        with self._lock:
            self._sequence += 1
            return self._sequence

    def _write(self, record: Mapping[str, Any], *, sync: bool = False) -> None:
        clean = {key: value if key in _PLAIN else self._clean(value) for key, value in record.items()}
        with self._lock:
            stamp = {"schema": SCHEMA, "at": iso(self._clock()), "mono": round(self._monotonic(), 3)}
            line = json.dumps({**stamp, **clean}, ensure_ascii=False, default=str) + "\n"
            try:
                _write_all(self._file, line.encode("utf-8", "backslashreplace"))
                if sync:
                    os.fsync(self._file)
            except OSError as error:
                self.broken = self.broken or f"{self.path / 'journal.jsonl'}: {error.strerror}"

    def _log(self, host: str, text: str) -> None:
        path = self.host_log(host)
        lines = "".join(f"{iso(self._clock())} {line}\n" for line in self.redact(text).splitlines() or [""])
        try:
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _write_all(file, lines.encode("utf-8", "backslashreplace"))
            finally:
                os.close(file)
        except OSError as error:
            self.broken = self.broken or f"{path}: {error.strerror}"

    def _replace(self, name: str, document: Mapping[str, Any]) -> None:
        """Nobody ever sees half of the file, not even after a power cut."""
        path, staged = self.path / name, self.path / f".{name}"
        clean = {key: value if key in _PLAIN else self._clean(value) for key, value in document.items()}
        text = json.dumps(clean, indent=2, ensure_ascii=False, default=str) + "\n"
        try:
            with staged.open("wb") as file:
                file.write(text.encode("utf-8", "backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
            staged.replace(path)
            _sync_directory(self.path)
        except OSError as error:
            self.broken = self.broken or f"{path}: {error.strerror}"

    def _clean(self, value: Any) -> Any:
        """The same value with every secret replaced, in keys too."""
        if isinstance(value, Mapping):
            return {self.redact(str(name)): self._clean(one) for name, one in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._clean(one) for one in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.redact(str(value))


def _directory(root: Path, clock: Callable[[], float]) -> Path:
    """A new directory below `root`/runs, for this user only: logs of a service may tell more than secrets do."""
    while True:
        moment = datetime.fromtimestamp(clock(), UTC)
        path = root / "runs" / run_id(moment, secrets.token_hex(2))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        (path / "hosts").mkdir(mode=0o700)
        _sync_directory(path.parent)
        return path


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _sync_directory(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _words(error: BaseException) -> tuple[str, str]:
    """(message, hint) of anything that ended a step."""
    if isinstance(error, FleetError):
        tail = "".join(f"\n| {line}" for line in getattr(error, "tail", ()))
        return f"{error.message}{tail}", error.hint
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", ""
    return f"{type(error).__name__}: {error}", ""
