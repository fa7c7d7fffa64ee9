"""The stand-in vLLM's git repository, made of fleet/lab/standin with the same commit ids every time."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import FleetError
from fleet.lab import host

SOURCE = Path(__file__).with_name("standin")
WHO = "Fleet Lab <lab@fleet.invalid>"


@dataclass(frozen=True)
class Release:
    """One commit on main. `when` in seconds since 1970; only tagged ones have a directory's name for a tag."""

    name: str
    when: int
    tagged: bool = True


HISTORY = (
    Release("v0.10.2", 1_757_800_000),
    Release("v0.11.0", 1_759_400_000),
    Release("v0.12.0", 1_764_700_000),
    Release("main", 1_764_800_000, tagged=False),
)


def make(target: Path) -> Path:
    """A bare repository at `target`, made anew unless it already has this very history; branch main, tags v*."""
    building = target.with_name(f"{target.name}.new.{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _git("init", "--quiet", "--bare", "--initial-branch=main", str(building))
        _git("-C", str(building), "fast-import", "--quiet", stdin=history())
        if target.is_dir() and _refs(target) == _refs(building):
            return target
        shutil.rmtree(target, ignore_errors=True)
        building.replace(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def history(source: Path = SOURCE) -> bytes:
    """All commits and tags as git fast-import reads them."""
    parts: list[bytes] = []
    for number, release in enumerate(HISTORY, start=1):
        parts += [
            f"commit refs/heads/main\nmark :{number}\ncommitter {WHO} {release.when} +0000\n".encode(),
            _data(f"Stand-in {release.name}\n".encode()),
            f"from :{number - 1}\ndeleteall\n".encode() if number > 1 else b"deleteall\n",
        ]
        for path, content in files_of(release, source).items():
            parts += [f"M 100644 inline {path}\n".encode(), _data(content)]
        if release.tagged:
            tag = f"tag {release.name}\nfrom :{number}\ntagger {WHO} {release.when} +0000\n"
            parts += [tag.encode(), _data(f"{release.name}\n".encode())]
    return b"".join((*parts, b"done\n"))


def files_of(release: Release, source: Path = SOURCE) -> dict[str, bytes]:
    """Path -> content: what all have, then what the releases up to this one changed."""
    layers = [source / "tree"]
    layers += [source / "releases" / one.name for one in HISTORY[: HISTORY.index(release) + 1]]
    found: dict[str, bytes] = {}
    for layer in layers:
        for path in layer.rglob("*"):
            if path.is_file() and not any(part == "__pycache__" for part in path.parts):
                found[path.relative_to(layer).as_posix()] = path.read_bytes()
    return dict(sorted(found.items()))


def _data(content: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(content), content)


def _refs(repository: Path) -> bytes:
    return _git("-C", str(repository), "for-each-ref", "--format=%(objectname) %(refname)")


def _git(*args: str, stdin: bytes = b"") -> bytes:
    # Whatever git settings the user has, the ids stay the same.
    environment = {"PATH": host.PATH, "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(("git", *args), input=stdin, capture_output=True, check=False, env=environment)
    except FileNotFoundError as error:
        raise FleetError("git is not installed here", hint="apt-get install git") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise FleetError(f"making the stand-in repository failed: {said[-1] if said else done.returncode}")
    return done.stdout
