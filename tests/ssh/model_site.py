"""A controller with a source of models and one host's models_dir, over the in-process server."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.delivery.way import Way
from fleet.models.execute import Work, carry_out
from fleet.models.hashes import Hashes
from fleet.models.held import Ground
from fleet.models.look import compare
from fleet.models.plan import Keep, Plan, plan_models
from fleet.models.resolve import Origin, Resolved, resolve
from fleet.models.source import Here, find, measure, read
from fleet.transport import Session
from tests.ssh.sshd import Sshd

MIB = 1 << 20
NAME = "org/tiny"

Connect = Callable[[], Session]


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311  only bytes that do not compress


@contextmanager
def cut_under_way(site: "Site", sshd: Sshd) -> Iterator[None]:
    """The host's links are cut once more than a MiB of a file has arrived there."""
    blobs = site.models / ".fleet/blobs"

    def cut() -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until and not any(one.stat().st_size > MIB for one in blobs.glob("*.part")):
            time.sleep(0.001)
        sshd.cut()

    watcher = threading.Thread(target=cut)
    watcher.start()
    yield
    watcher.join()


def shards(release: int, *, count: int = 4, size: int = MIB) -> dict[str, bytes]:
    """A model whose shards all differ from one release to the next; the tokenizer stays."""
    weights = {f"model-{n}.safetensors": noise(release * 100 + n, size) for n in range(count)}
    return {"config.json": b'{"release": %d}\n' % release, "extra/tokenizer.json": b"{}\n", "empty": b"", **weights}


@dataclass
class Site:
    """A controller with a source, and a host's models_dir."""

    connect: Connect
    folder: Path
    models: Path
    seen: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def source(self, files: Mapping[str, bytes]) -> Here:
        root = self.folder / "source" / NAME
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        return self.here()

    def here(self) -> Here:
        found = find(self.folder / "source", NAME)
        assert found
        return read(NAME, found, measure(found), Hashes(self.folder / "hashes.json"), lambda _count: None)

    def way(self, **more: Any) -> Way:
        client: Any = None

        @contextmanager
        def moving(_host: str, _what: str, _total: int) -> Iterator[Callable[[int], None]]:
            yield self.seen.append

        return Way("node", self.connect(), client, moving=moving, say=self.said.append, **more)

    def look(self, here: Here, *, everything: bool = False) -> tuple[Ground, Plan]:
        wanted = {NAME: here.content}
        ground = compare(self.way().sender, str(self.models), wanted, everything=everything)
        return ground, plan_models(ground, {NAME: here})

    def push(self, here: Here, *, everything: bool = False, way: Way | None = None, **more: Any) -> Plan:
        plan = self.look(here, everything=everything)[1]
        assert not plan.problems
        carry_out(plan.steps, Work(str(self.models), {NAME: here}, **more), way or self.way())
        return plan

    def resolve(self, origin: Origin, *, everything: bool = False) -> Resolved:
        return resolve(self.way().sender, str(self.models), {NAME: origin}, everything=everything)

    def bring(self, origin: Origin, *, everything: bool = False, way: Way | None = None) -> Plan:
        """What a run does with any kind of source."""
        found = self.resolve(origin, everything=everything)
        assert not found.problems, found.problems
        contents = {name: one.content for name, one in found.sources.items()}
        ground = compare(self.way().sender, str(self.models), contents, everything=everything)
        plan = plan_models(ground, found.sources)
        assert not plan.problems
        carry_out(plan.steps, Work(str(self.models), found.sources), way or self.way())
        return plan

    @property
    def at(self) -> Path:
        return self.models / NAME

    def holds(self, files: Mapping[str, bytes]) -> bool:
        there = {path.relative_to(self.at).as_posix(): path for path in self.at.rglob("*") if path.is_file()}
        there.pop(".fleet.sha256")
        return {name: path.read_bytes() for name, path in there.items()} == files

    def settled(self, here: Here) -> bool:
        return [type(step) for step in self.look(here)[1].steps] == [Keep]


def kinds(plan: Plan) -> list[type]:
    return [type(step) for step in plan.steps]
