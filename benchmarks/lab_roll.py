"""The roll of benchmarks/roll.py over real nodes of a lab: real sshd, real Docker engines, the stand-in's vLLM."""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.simulated.fleet import PLAYBOOK, Cost, SimulatedFleet
from fleet.lab import Lab, NodeSpec
from tests.lab.standin_image import image_text, standin_archive

NAME = "rolls8"


class _Nodes(SimulatedFleet):
    """Real hosts count nothing, so the controller's own process does."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        super().__init__(folder, ())
        self._lab = lab

    def inventories(self, release: int) -> tuple[Path, ...]:
        return (self._lab.inventory, self.folder / f"release-{release}.yaml")

    def run(self, *words: str, release: int = 0, program: Sequence[str | Path] = ()) -> Cost:
        counted = (sys.executable, Path(__file__).with_name("counted.py"), self.folder / "counted.json")
        cost = super().run(*words, release=release, program=program or counted)
        told = json.loads((self.folder / "counted.json").read_text("utf-8"))
        return replace(cost, megabytes=told.pop("kilobytes") / 1024, counts=told)

    def counts(self) -> Counter[str]:
        return Counter()


def measure_lab(nodes: int) -> Iterator[tuple[str, Cost]]:
    """A first deploy, the roll to another release, and a deploy with nothing to do; the lab is taken down at the end.

    Both releases lie in the registry before, as in the simulated fleets, so that a roll is measured and no import of an archive.
    """
    hosts = (NodeSpec(f"roll-{number:02d}", profile="mi300x-8") for number in range(1, nodes + 1))
    specs = (NodeSpec("registry", role="registry"), *hosts)
    with tempfile.TemporaryDirectory(prefix="fleet-lab-roll-") as name:
        folder = Path(name)
        try:
            fleet = _Nodes(folder, Lab.up(NAME, specs, inventories=folder))
            (folder / "roll.yaml").write_text(PLAYBOOK, encoding="utf-8")
            for release in (0, 1):
                archive = standin_archive(folder / f"standin-{release}.tar", mark=f"release {release}")
                text = image_text(archive, registry=True)
                (folder / f"release-{release}.yaml").write_text(text, encoding="utf-8")
                pushed = fleet.run("push", release=release)  # compiles the modules too, as an installation has them
                if pushed.code:
                    sys.exit(pushed.output)
            for what, release in (("first", 0), ("roll", 1), ("nothing to do", 1)):
                yield what, fleet.deploy(release)
        finally:
            Lab.remove(NAME)
