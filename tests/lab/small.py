"""A lab of few nodes with the stand-in's image ready to be brought, and a controller for it: up and serving in seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.lab import Lab, NodeSpec
from tests.lab.cli import Controller
from tests.lab.conftest import lab_name
from tests.lab.standin_image import image_text, standin_archive

# What `deploy` runs, without the ten seconds that a new replica has to stay healthy and without bounds on failures.
PLAYBOOK = """\
- {name: bring, hosts: all, stages: [preflight, image, distribute], max_fail: 100%}
- {name: roll, hosts: all, stages: [serve, verify], max_fail: 100%, min_healthy_time: 0s}
"""


@dataclass(frozen=True)
class Site:
    """The lab, and the command in a directory of its own over the lab's inventory."""

    lab: Lab
    controller: Controller
    folder: Path

    def over(self, text: str) -> Controller:
        """The same with one more inventory on top."""
        path = self.folder / f"over-{len(list(self.folder.glob('over-*')))}.yaml"
        path.write_text(text, encoding="utf-8")
        return self.controller.over(path)

    def docker(self, host: str, *words: str, check: bool = True) -> str:
        return self.lab.node(host).exec(("docker", *words), check=check).stdout.strip()

    def serving(self, host: str) -> str:
        """The id of the container that runs as chat-0."""
        return self.docker(host, "ps", "--no-trunc", "--quiet", "--filter", "name=^chat-0$")

    def containers(self, host: str) -> set[str]:
        """All containers, stopped ones too, but not those that are kept for a roll-back."""
        names = self.docker(host, "ps", "--all", "--format", "{{.Names}}").split()
        return {name for name in names if not name.endswith("-previous")}

    def prune(self, host: str) -> None:
        """So that the next roll has to bring its image and to make its container again."""
        self.docker(host, "rm", "chat-0-previous", check=False)
        self.docker(host, "image", "prune", "--all", "--force")

    def sh(self, host: str, script: str) -> str:
        return self.lab.node(host).exec(("sh", "-c", script)).stdout.strip()


@contextmanager
def small_site(word: str, folder: Path, *specs: NodeSpec) -> Iterator[Site]:
    name = lab_name(word)
    try:
        lab = Lab.up(name, specs, inventories=folder)
        image = folder / "image.yaml"
        image.write_text(image_text(standin_archive(folder / "standin.tar"), registry=bool(lab.registry)))
        work = folder / "controller"
        (work / "playbooks").mkdir(parents=True)
        (work / "playbooks/deploy.yaml").write_text(PLAYBOOK)
        yield Site(lab, Controller(work, (lab.inventory, image)), folder)
    finally:
        Lab.remove(name)
