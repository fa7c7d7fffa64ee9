"""Run the probe: over a session, or against a tree that somebody captured."""

import secrets
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from fleet.errors import FleetError, HostError
from fleet.facts.frames import Frames, split
from fleet.facts.model import Facts
from fleet.facts.parse import parse
from fleet.facts.tree import confined
from fleet.facts.words import scrub
from fleet.shell import Scripted

PROBE = files("fleet.facts").joinpath("probe.sh").read_text("utf-8")
_LONGEST_NAME = 400
RECORD = "probe.txt"  # the probe's own output inside a captured tree
_SECTION_ROOTS = {
    "files": "",
    "memory": "",
    "listeners": "",
    "node": "sys/class/kfd/kfd/topology/nodes/",
    "process": "sys/class/kfd/kfd/proc/",
    "drm": "sys/class/drm/",
}


class ProbeNeeds(Protocol):
    """What the probe must be told: which directories matter."""

    @property
    def models_dir(self) -> str: ...
    @property
    def staging_dir(self) -> str: ...


def collect(session: Scripted, needs: ProbeNeeds, *, timeout: float = 120.0) -> Facts:
    """Facts of a live host: one round trip, under sudo where `become` is set. Raises HostError."""
    return _parsed(session, _ask(session, needs, timeout))


def capture(session: Scripted, needs: ProbeNeeds, directory: Path, *, timeout: float = 120.0) -> Facts:
    """Like collect, and leave the host as a tree in `directory` for `read_tree` to replay, docker and all.

    Secrets on command lines are blotted out before anything is written. Raises HostError, also when the directory holds
    something already: it is never written over.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise HostError(session.host.name, f"{directory} is not empty", hint="capture into another directory")
    text = scrub(_ask(session, needs, timeout))
    facts = _parsed(session, text)
    frames = split(text)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / RECORD).write_text(text, encoding="utf-8")
        _unpack(frames, directory)
    except OSError as error:
        message = f"could not write the capture to {directory}: {error.strerror}"
        raise HostError(session.host.name, message) from error
    return facts


def read_tree(root: Path, *, models_dir: str = "/srv/models") -> Facts:
    """Facts of a captured tree (ROOT/sys/…, ROOT/proc/…) by the same script, run here.

    A tree made by `capture` holds the probe's whole answer, which is then replayed. No link leads out of the tree. Raises
    FleetError.
    """
    record = root / RECORD
    if record.is_file():
        return parse(record.read_text("utf-8", errors="replace"))
    try:
        with confined(root, models_dir) as place:
            argv = ["sh", "-s", "--", _token(), str(place), models_dir]
            done = subprocess.run(argv, input=PROBE.encode(), capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FleetError(f"the probe could not read {root}: {error}") from error
    if done.returncode == 3:
        raise FleetError(f"{root} cannot be entered", hint="it must be a directory that holds sys/ and proc/")
    return parse(done.stdout.decode("utf-8", errors="replace"))


def _token() -> str:
    return f"@{secrets.token_hex(6)}"


def _ask(session: Scripted, needs: ProbeNeeds, timeout: float) -> str:
    args = (_token(), "", needs.models_dir, needs.staging_dir)
    return session.script(PROBE, args=args, sudo=True, timeout=timeout, check=False).stdout


def _parsed(session: Scripted, text: str) -> Facts:
    try:
        return parse(text)
    except HostError:
        raise
    except FleetError as error:
        tail = tuple(text.splitlines()[-5:])
        raise HostError(session.host.name, error.message, hint=error.hint, tail=tail) from error


def _unpack(frames: Frames, directory: Path) -> None:
    """The files that were read, in their places; for people to look into. A host chooses the names, so they are judged."""
    for section, base in _SECTION_ROOTS.items():
        for name, text in frames.files(section).items():
            path = directory / base / name
            if name.startswith("/") or ".." in path.parts or len(name) > _LONGEST_NAME:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
