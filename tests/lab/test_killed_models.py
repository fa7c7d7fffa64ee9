"""A controller that is killed or interrupted while it brings a model: nobody sees half of one, and the next push goes on."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from fleet.lab.files import model_files
from tests.lab.cli import Controller
from tests.lab.conftest import MI250, MI300X
from tests.lab.kill_driver import Point, struck
from tests.lab.killed import signed
from tests.lab.rolls import within
from tests.lab.small import Site, small_site
from tests.proc import living_in, working_in

pytestmark = [pytest.mark.lab, pytest.mark.matrix]

NAME = "org/new"
MODELS = "/srv/models"
HOSTS = (MI250.name, MI300X.name)  # root by sudo, and a login that is root
WEIGHTS = 12 << 20
SETTINGS = {"delivery": "sideload", "sideload": {"limit": "8MB/s"}, "services": {"chat": {"model": NAME}}}
GOES = 30.0  # seconds in which a host notices that nobody is there any more
WHOLE = f"cd {MODELS}/{NAME} && sha256sum --quiet --check .fleet.sha256 && sha256sum < model.safetensors"
RUNS = "grep -laE 'fleet-model[s]|[.]fleet/blob[s]|fleet-loc[k]' /proc/[0-9]*/cmdline; true"

POINTS: tuple[Point, ...] = (
    ("fleet.models.hashes:Hashes.save", 1, "before"),
    ("fleet.models.hashes:Hashes.save", 1, "after"),
    ("os:fsync", 1, "before"),
    ("fleet.models.execute:_begin", 1, "before"),
    ("fleet.models.execute:_begin", 1, "0.05"),
    ("fleet.models.execute:_begin", 2, "after"),
    *(
        ("fleet.models.carry:FromHere.carry", number, moment)
        for number in (1, 2, 3, 4)
        for moment in ("before", "after")
    ),
    *(("fleet.models.execute:persist", 1, moment) for moment in ("0.3", "0.8", "1.3", "1.6", "1.8", "2.0", "after")),
    ("fleet.models.execute:_switch", 1, "before"),
    *(
        ("fleet.models.execute:_switch", number, moment)
        for number in (1, 2)
        for moment in ("0.01", "0.05", "0.1", "after")
    ),
    ("fleet.models.execute:carry_out", 1, "after"),
    ("fleet.models.execute:carry_out", 2, "after"),
)


@dataclass(frozen=True)
class Story:
    site: Site
    controller: Controller
    temporary: Path

    def renew(self) -> str:
        """Weights that no host has; their checksum."""
        path = self.controller.directory / "models" / NAME / "model.safetensors"
        path.with_name("extra.safetensors").write_bytes(os.urandom(1 << 20))
        path.write_bytes(os.urandom(1 << 20) * (WEIGHTS >> 20))
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def shown(self, host: str) -> str:
        """What a service that starts now would read: whole, or nothing at all."""
        if self.site.sh(host, f"ls -d {MODELS}/{NAME} 2>/dev/null || true") == "":
            return ""
        return self.site.sh(host, WHOLE).split()[0]

    def forget(self) -> None:
        for host in HOSTS:
            self.site.sh(host, f"rm -rf {MODELS}/org")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("killed")
    with small_site("killedm", folder, MI250, MI300X) as site:
        source = site.controller.directory / "models" / NAME
        source.mkdir(parents=True)
        for file in model_files():
            (source / Path(file.path).name).write_bytes(file.content)
        (folder / "temporary").mkdir()
        yield Story(site, site.over(json.dumps({"gpu": {"vars": {"fleet": SETTINGS}}})), folder / "temporary")


@pytest.mark.parametrize("first", [True, False], ids=["a first push", "a new version"])
def test_every_point_of_a_push(story: Story, subtests: pytest.Subtests, first: bool) -> None:
    for point, sign in signed(POINTS):
        with subtests.test(point=point, sign=sign):
            if first:
                story.forget()
            before = {host: story.shown(host) for host in HOSTS}
            new = story.renew()
            words = story.controller.argv("models.push", NAME)[1:]
            struck(words, story.controller.directory, story.temporary, point, sign)
            assert living_in(str(story.temporary)) == []
            for host in HOSTS:
                assert story.shown(host) in (before[host], new)
            settled(story, new)


def settled(story: Story, new: str) -> None:
    """The same command at once, and once more: the model is there, and nothing else is."""
    code, document = story.controller.ask("models.push", NAME)
    assert (code, document["failed"]) == (0, {})
    for host in HOSTS:
        assert story.shown(host) == new
        assert story.site.sh(host, f"ls -d {MODELS}/.fleet 2>/dev/null || true") == ""
        names = story.site.sh(host, f"ls -A {MODELS}/org").split()
        assert len(names) <= 3, names  # the name, what it leads to, and the version before
        assert all(name == "new" or name.startswith(".new.") for name in names), names
        assert within(GOES, partial(quiet, story, host)), story.site.sh(host, "ps -ef")
    code, document = story.controller.ask("models.push", NAME)
    assert {host: found["changed"] for host, found in document["hosts"].items()} == dict.fromkeys(HOSTS, 0)
    assert list(story.temporary.iterdir()) == []
    left = [
        path for path in (story.controller.directory / ".fleet").rglob("*") if path.name.endswith((".new", ".part"))
    ]
    assert left == []
    assert working_in(story.controller.directory) == []


def quiet(story: Story, host: str) -> bool:
    return story.site.sh(host, RUNS) == ""
