"""A lab whose controllers are ended in the middle of making an image, and what must hold then."""

import gzip
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from fleet.lab import Lab, NodeSpec
from tests.lab.cli import Controller
from tests.lab.kill_driver import Point, struck
from tests.lab.rolls import within
from tests.lab.standin_image import standin_archive
from tests.proc import living_in

BUILDER = NodeSpec("builder", role="builder", base="trixie", user="ops")  # behind a sudo that relays all pipes
DOCKERFILE = """\
ARG BASE_IMAGE=rocm/vllm-dev:base
FROM ${BASE_IMAGE} AS base
ARG ARG_PYTORCH_ROCM_ARCH
ENV PYTORCH_ROCM_ARCH=${ARG_PYTORCH_ROCM_ARCH}
COPY . /src
RUN sleep 1 && echo %d >/mark
"""
GOES = 20.0  # seconds in which everything on the builder must have noticed
LEFT = "ls -A /var/tmp/fleet /var/tmp /tmp; docker ps -aq; docker images -q --filter dangling=true"
EMPTY = "/tmp:\n\n/var/tmp:\nfleet\n\n/var/tmp/fleet:"
RUNS = "grep -laE 'buildx[^]]build|fleet-watc[h]|fleet-pus[h]|skope[o]|docker.sav[e]' /proc/[0-9]*/cmdline; true"


@dataclass(frozen=True)
class Site:
    """The lab, a repository that tests commit to, and a controller with a place of its own for temporary files."""

    lab: Lab
    repository: Path
    folder: Path
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def temporary(self) -> Path:
        return self.folder / "temporary"

    @property
    def directory(self) -> Path:
        return self.folder / "controller"

    def over(self, fleet: dict[str, object]) -> Controller:
        path = self.folder / f"over-{next(self.numbers)}.yaml"
        path.write_text(json.dumps({"all": {"vars": {"fleet": fleet}}}))
        return Controller(self.directory, (self.lab.inventory, path))

    def source(self, *, straight: bool, ballast: int = 0) -> Controller:
        """A commit that nobody has built; `ballast` are bytes of its own layer that do not compress."""
        text = DOCKERFILE % next(self.numbers) + (f"RUN head -c {ballast} /dev/urandom >/ballast\n" if ballast else "")
        (self.repository / "docker/Dockerfile.rocm").write_text(text)
        git(self.repository, "commit", "--quiet", "-am", "new")
        commit = git(self.repository, "rev-parse", "HEAD").strip()
        script = "mv skopeo.away skopeo" if straight else "mv skopeo skopeo.away"
        self.on(BUILDER.name, f"cd /usr/bin; {script}", check=False)
        return self.over({"image": {"source": {"ref": commit, "repository": str(self.repository)}}})

    def archive(self, kind: str, *, ballast: int = 0) -> Controller:
        """An archive that nobody has imported."""
        mark = f"kill{next(self.numbers)}"
        path = standin_archive(self.folder / f"{mark}.tar", mark=mark, ballast=ballast)
        if kind == "oci":
            oci = path.with_suffix(".oci.tar")
            subprocess.run(
                ("skopeo", "copy", f"docker-archive:{path}", f"oci-archive:{oci}"), check=True, capture_output=True
            )
            path = oci
        if kind == "gz":
            packed = path.with_suffix(".tar.gz")
            with path.open("rb") as plain, gzip.open(packed, "wb", compresslevel=1) as file:
                shutil.copyfileobj(plain, file)
            path = packed
        image = {"name": "vllm-rocm", "source": None, "archive": str(path), "gfx": ["gfx942"], "rocm": "6.4.3"}
        return self.over({"image": image})

    def on(self, host: str, script: str, *, check: bool = True) -> str:
        return self.lab.node(host).exec(("sh", "-c", script), check=check).stdout.strip()

    def left_there(self) -> str:
        return self.on(BUILDER.name, LEFT)

    def left_here(self) -> list[str]:
        """What belongs to no finished work."""
        found = [path for path in self.temporary.iterdir() if not path.name.startswith("pytest")]
        for path in (*self.folder.glob(".*"), *(self.directory / ".fleet").rglob("*")):
            if "git" in path.parts or path.name == ".scratch-lock":
                continue
            if path.name.startswith((".", "new-", "tmp")):
                found.append(path)
        return [str(path) for path in found]

    def run(self, controller: Controller, *words: str) -> subprocess.CompletedProcess[str]:
        return controller.run(*words, TMPDIR=str(self.temporary))

    def ask(self, controller: Controller, verb: str) -> Any:
        done = self.run(controller, verb, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def ended(
        self, controller: Controller, verb: tuple[str, ...], point: str, number: int, moment: str, sign: str
    ) -> None:
        """Begin, be ended at the point, and see that nothing goes on."""
        struck(controller.argv(*verb)[1:], controller.directory, self.temporary, (point, number, moment), sign)
        assert within(GOES, lambda: living_in(str(self.temporary)) == []), living_in(str(self.temporary))
        assert within(GOES, lambda: self.on(BUILDER.name, RUNS) == ""), self.on(BUILDER.name, "ps -ef")
        assert within(GOES, lambda: self.left_there() == EMPTY), self.left_there()
        if sign == "INT":
            assert self.left_here() == [], self.left_here()


def git(folder: Path, *args: str) -> str:
    person = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    return subprocess.run(("git", *person, *args), cwd=folder, check=True, capture_output=True, text=True).stdout


def signed(points: Sequence[Point]) -> Iterator[tuple[Point, str]]:
    """Every point by kill -9, and every third one by Ctrl-C too."""
    for number, point in enumerate(points):
        yield point, "KILL"
        if number % 3 == 0:
            yield point, "INT"


def goes_on(site: Site, controller: Controller) -> None:
    """The same command again, twice: it is done, and nothing is left, and there is nothing more to do."""
    first = site.ask(controller, "push")
    assert site.left_here() == [], site.left_here()
    assert site.left_there() == EMPTY, site.left_there()
    again = site.ask(controller, "push")
    assert again["changed"] == []
    assert again["releases"] == first["releases"]
