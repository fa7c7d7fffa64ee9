"""Bringing models to one host: every effect goes through the seam, and what arrived stays when something breaks."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fleet.delivery.persist import minutes, persist
from fleet.delivery.send import Sent
from fleet.delivery.way import Way
from fleet.errors import HostError
from fleet.models import scripts
from fleet.models.carry import Carrier, carrier
from fleet.models.content import Source, listing
from fleet.models.look import STALL, look
from fleet.models.names import split
from fleet.models.plan import Adopt, Bring, Keep, Retire, Step, Switch

TRIES_OF_A_FILE = 2


@dataclass(frozen=True)
class Work:
    """What the steps of one host need. `settled(name)` comes back when no service that is starting reads the model, and
    raises HostError where one goes on starting for too long. `through` brings files in the place of the source's own way.
    """

    directory: str
    sources: Mapping[str, Source]
    through: Carrier | None = None
    settled: Callable[[str], None] = lambda _name: None


def carry_out(steps: Sequence[Step], work: Work, way: Way) -> int:
    """All steps in order; how many changed something. Raises HostError."""
    for step in steps:
        way = _apply(step, work, way)
    return sum(step.changes for step in steps)


def _apply(step: Step, work: Work, way: Way) -> Way:
    if isinstance(step, Keep):
        return way
    last = [way]

    def do() -> None:
        match step:
            case Bring():
                last[0] = persist(step, f"model {step.name} {step.way}", way, _once(step, work))
            case Switch():
                _switch(step, work, way)
            case Adopt():
                lines = listing(step.content.files)
                args = (work.directory, step.name, str(len(lines.encode())))
                _run(way, step, scripts.ADOPT, args, lines)
            case Retire():
                _run(way, step, scripts.RETIRE, (work.directory, *split(step.name), *step.versions))

    way.seam.perform(way.host, step, do)
    return last[0]


def _once(step: Bring, work: Work) -> Callable[[Way, Sent, bool], None]:
    """One try over one connection: all files of the step, whole and checked by the host."""
    carry = work.through or carrier(work.sources[step.name])

    def bring(way: Way, sent: Sent, _again: bool) -> None:
        hexed = [one.sha256 for one in step.files]
        for _ in range(TRIES_OF_A_FILE):
            _begin(way, work.directory, hexed)
            ground = look(way.sender, work.directory, (step.name,))
            for file in step.files:
                if ground.blobs.get(file.sha256) != file.size:
                    carry.carry(way, file, ground, sent)
            code, said, complaint = way.sender.run(scripts.CHECK, (ground.directory,), _lines(hexed), STALL)
            if not code:
                return
            if code != scripts.WRONG:
                raise HostError(way.host, "the files could not be checked", tail=(complaint,))
            wrong = set(said.split())
            for file in step.files:
                if file.sha256 in wrong:
                    carry.blame(way, file, ground)
        raise HostError(way.host, "a file arrived damaged twice", hint=f"does the disk of {work.directory} fail?")

    return bring


def _begin(way: Way, directory: str, hexed: Sequence[str]) -> None:
    place = directory.rstrip("/")
    code, _, complaint = way.sender.run(scripts.BEGIN, (place, minutes(way)), _lines(hexed), STALL)
    if code:
        hint = f"is {place} the login's own or root's, and {place}/.fleet nobody else's?"
        raise HostError(way.host, f"nothing can be staged in {place}/.fleet", hint=hint, tail=(complaint,))


def _switch(step: Switch, work: Work, way: Way) -> None:
    if step.replaces:
        work.settled(step.name)
    words = "".join(
        f"{one.sha256} {'b' if one.path in step.staged else 'k'} {one.path}\n" for one in step.content.files
    )
    parent, base = split(step.name)
    _run(way, step, scripts.SWITCH, (work.directory, parent, base, step.version, step.before), f"{words}end\n")


def _run(way: Way, step: Step, script: str, args: Sequence[str], words: str = "") -> None:
    directory, *rest = args
    place = directory.rstrip("/")
    code, _, complaint = way.sender.run(script, (place, *rest), io.BytesIO(words.encode()), STALL)
    if code:
        hint = "it has changed meanwhile; the same command again sees what is there" if code == scripts.LOST else ""
        tail = tuple(complaint.splitlines()[-4:])
        raise HostError(way.host, f"could not {step.what} (exit {code})", hint=hint, tail=tail)


def _lines(words: Sequence[str]) -> io.BytesIO:
    return io.BytesIO("".join(f"{one}\n" for one in words).encode())
