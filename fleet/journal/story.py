"""A run's journal as a story: what happened on each host, and what is left to do. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fleet.journal.header import BAD, DONE, RunHeader, parse, seconds_of

State = Literal["finished", "killed", "running"]


@dataclass(frozen=True)
class StepStory:
    """One step. `start` counts seconds since the run began, by the monotonic clock; `seconds` None = no end is known.

    `ok` None = it was under way when the journal ends.
    """

    seq: int
    host: str
    kind: str
    what: str
    why: str
    at: float  # seconds since the epoch
    start: float
    seconds: float | None = None
    ok: bool | None = None
    error: str = ""
    hint: str = ""
    size: int = 0  # bytes to move


@dataclass(frozen=True)
class HostStory:
    """One host. `outcome` is empty while the run was not through with it; `batch` 0 = in none."""

    name: str
    steps: tuple[StepStory, ...] = ()
    outcome: str = ""
    message: str = ""
    hint: str = ""
    batch: int = 0
    ended: float | None = None  # seconds since the run began

    @property
    def begun(self) -> bool:
        return bool(self.steps)

    @property
    def last_begun(self) -> StepStory | None:
        """The step that was under way, else the last one that began."""
        under_way = [step for step in self.steps if step.ok is None]
        begun = under_way or list(self.steps)
        return begun[-1] if begun else None

    @property
    def broke(self) -> StepStory | None:
        """The first step that failed: what follows it is putting back."""
        return next((step for step in self.steps if step.ok is False), None)


@dataclass(frozen=True)
class Batch:
    number: int  # counted over the whole run
    hosts: tuple[str, ...]
    name: str
    start: float  # seconds since the run began


@dataclass(frozen=True)
class Event:
    host: str  # empty = of the whole run
    text: str
    start: float


@dataclass(frozen=True)
class RunStory:
    """One run. `seconds` is its length, up to the last record where it was killed; `torn` counts unreadable lines.

    `result` is result.json, None where the run did not come to its end.
    """

    id: str
    path: Path
    header: RunHeader
    began: float  # seconds since the epoch
    seconds: float
    state: State
    hosts: Mapping[str, HostStory]
    batches: tuple[Batch, ...] = ()
    events: tuple[Event, ...] = ()
    result: Mapping[str, Any] | None = None
    torn: int = 0

    @property
    def exit_code(self) -> int | None:
        code = (self.result or {}).get("exit_code")
        return code if isinstance(code, int) else None

    @property
    def counts(self) -> dict[str, int]:
        """Hosts by outcome; `begun` and `not begun` are those that the run was not through with."""
        found: dict[str, int] = {}
        for host in self.hosts.values():
            word = host.outcome or ("begun" if host.begun else "not begun")
            word = "not begun" if word == "untouched" else word
            found[word] = found.get(word, 0) + 1
        return found

    def with_outcome(self, *outcomes: str) -> tuple[str, ...]:
        return tuple(name for name, host in self.hosts.items() if host.outcome in outcomes)

    @property
    def begun(self) -> tuple[str, ...]:
        """Hosts in the middle of which the run ended."""
        return tuple(name for name, host in self.hosts.items() if not host.outcome and host.begun)

    @property
    def put_back(self) -> tuple[str, ...]:
        """Hosts in the middle of which the run was interrupted, and where what served before serves again."""
        left = ((name, self.hosts[name]) for name in self.with_outcome("untouched"))
        return tuple(name for name, host in left if host.begun and not host.message.startswith("not begun"))

    @property
    def not_begun(self) -> tuple[str, ...]:
        """Hosts that the run never came to, or that it left as they were."""
        return tuple(
            name for name, host in self.hosts.items() if host.outcome == "untouched" or not (host.outcome or host.begun)
        )


@dataclass(frozen=True)
class RunSummary:
    """A row of `invoke runs`. `seconds` None = it is running."""

    id: str
    verb: str
    argv: tuple[str, ...]
    began: float
    seconds: float | None
    state: State
    exit_code: int | None
    hosts: int
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Remaining:
    """What --resume has to do: the same verb, inventory, limit and flags, over `hosts`; those begun come first.

    `left_out` failed in the run: --only-failed takes them.
    """

    run: str
    header: RunHeader
    hosts: tuple[str, ...]
    begun: tuple[str, ...]
    left_out: tuple[str, ...]


def only_failed(story: RunStory) -> tuple[str, ...]:
    """Hosts that failed or were not reached: unreachable, in the middle of it when the run ended, or never begun."""
    return tuple(name for name, host in story.hosts.items() if host.outcome not in DONE)


def remaining(story: RunStory) -> Remaining:
    """Hosts that the run was not through with."""
    hosts = (*story.begun, *story.not_begun)
    return Remaining(story.id, story.header, hosts, story.begun, story.with_outcome(*BAD))


def summary(story: RunStory) -> RunSummary:
    seconds = None if story.state == "running" else story.seconds
    header = story.header
    return RunSummary(
        story.id, header.verb, header.argv, story.began, seconds, story.state, story.exit_code, len(story.hosts),
        story.counts,
    )  # fmt: skip


def header_of(record: Mapping[str, Any]) -> RunHeader:
    return RunHeader(
        verb=str(record.get("verb", "")),
        argv=_texts(record.get("argv")),
        hosts=_texts(record.get("hosts")),
        inventory=_texts(record.get("inventory")),
        limit=str(record.get("limit", "all")),
        flags=flags if isinstance(flags := record.get("flags"), dict) else {},
        continues=str(record.get("continues", "")),
    )


def tell(path: Path, lines: Iterable[str], result: Mapping[str, Any] | None, *, alive: bool) -> RunStory | None:
    """The story of a journal's lines; torn and unknown ones are read over. None where even the first is missing.

    Raises FleetError for a record of a newer fleet.
    """
    where = f"the journal of run {path.name}"
    found = [(line, parse(line, where)) for line in lines if line.strip()]
    records = [record for _, record in found if record is not None]
    head = next((record for record in records if record.get("type") == "run"), None)
    if head is None:
        return None
    header = header_of(head)
    teller = _Teller(header, _number(head.get("mono")))
    for record in records:
        teller.hear(record)
    state: State = "finished" if result is not None else "running" if alive else "killed"
    return RunStory(
        path.name,
        path,
        header,
        seconds_of(head.get("at")),
        teller.last,
        state,
        teller.hosts,
        tuple(teller.batches),
        tuple(teller.events),
        result,
        len(found) - len(records),
    )


class _Teller:
    """Collects records, one after the other."""

    def __init__(self, header: RunHeader, zero: float) -> None:
        self.hosts = {name: HostStory(name) for name in header.hosts}
        self.batches: list[Batch] = []
        self.events: list[Event] = []
        self.last = 0.0
        self._zero = zero
        self._places: dict[int, tuple[str, int]] = {}  # seq -> host and index of its step

    def hear(self, record: Mapping[str, Any]) -> None:
        start = max(0.0, _number(record.get("mono")) - self._zero)
        self.last = max(self.last, start)
        host = str(record.get("host", ""))
        match record.get("type"):
            case "begin":
                self._begin(host, record, start)
            case "end":
                self._end(record, start)
            case "host":
                known = self._host(host)
                told = {key: str(record.get(key, "")) for key in ("outcome", "message", "hint")}
                self.hosts[host] = replace(known, **told, ended=start)  # type: ignore[arg-type]  # all three are str
            case "batch":
                names = _texts(record.get("hosts"))
                number = len(self.batches) + 1  # those of a playbook's plays each begin with 1
                self.batches.append(Batch(number, names, str(record.get("name", "")), start))
                for name in names:
                    self.hosts[name] = replace(self._host(name), batch=number)
            case "event":
                self.events.append(Event(host, str(record.get("text", "")), start))
            case _:
                pass  # the head, the end, and what a later fleet of the same schema may add

    def _host(self, name: str) -> HostStory:
        return self.hosts.get(name) or HostStory(name)

    def _begin(self, host: str, record: Mapping[str, Any], start: float) -> None:
        known = self._host(host)
        seq = int(_number(record.get("seq")))
        step = StepStory(
            seq,
            host,
            str(record.get("kind", "")),
            str(record.get("what", "")),
            str(record.get("why", "")),
            seconds_of(record.get("at")),
            start,
            size=int(_number(record.get("size"))),
        )
        self._places[seq] = (host, len(known.steps))
        # A step after the last word is a retry: the host is under way again.
        self.hosts[host] = replace(known, steps=(*known.steps, step), outcome="", message="", hint="", ended=None)

    def _end(self, record: Mapping[str, Any], start: float) -> None:
        place = self._places.get(int(_number(record.get("seq"))))
        if place is None:
            return
        host, index = place
        known = self.hosts[host]
        step = known.steps[index]
        ended = replace(
            step,
            seconds=max(0.0, start - step.start),
            ok=record.get("ok") is True,
            error=str(record.get("error", "")),
            hint=str(record.get("hint", "")),
        )
        self.hosts[host] = replace(known, steps=(*known.steps[:index], ended, *known.steps[index + 1 :]))


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list | tuple) else ()


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
