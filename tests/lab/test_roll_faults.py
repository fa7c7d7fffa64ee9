"""Faults of every kind in the middle of rolls, each for real, with the promise that it proves (tests.lab.faults).

`make faults` writes what was tried, and how it went, to docs/faults-tried.md.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet.lab import NodeSpec
from tests.lab.conftest import REGISTRY
from tests.lab.faults import FAULTS
from tests.lab.faults.world import HOSTS, SUDO, World
from tests.lab.rolls import fleet_of

pytestmark = pytest.mark.lab

SPECS = tuple(
    NodeSpec(name, profile="mi250-4", user="ops") if name == SUDO else NodeSpec(name, profile="mi300x-8")
    for name in HOSTS
)
HEAD = """\
# Faults tried

Written by `make faults`. Each fault is brought about for real on hosts of the lab in the middle of a roll; after each one a
plain deploy must end with every host serving, one container each, nothing left over. A controller that is killed or cut
off at each step of a roll is tried besides, by `make test` and in every combination by `make matrix`.

| fault | how | promise | kept |
|---|---|---|---|
"""


@dataclass
class Results:
    kept: dict[str, str] = field(default_factory=dict)

    def table(self) -> str:
        rows = (
            f"| {one.name} | {one.how} | {one.promise} | {self.kept.get(name, 'not tried')} |"
            for name, one in FAULTS.items()
        )
        return HEAD + "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def results() -> Iterator[Results]:
    made = Results()
    yield made
    print(f"\n{made.table()}")  # noqa: T201  what this is for
    if target := os.environ.get("FLEET_FAULTS_TABLE"):
        Path(target).write_text(made.table(), encoding="utf-8")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with fleet_of("flt", tmp_path_factory.mktemp("faults"), REGISTRY, *SPECS, ballast=30 << 20) as fleet:
        assert fleet.wants("b").run("push").returncode == 0
        code, document = fleet.wants("a").ask("deploy")
        assert (code, document["failed"]) == (0, {})
        yield World(fleet)


@pytest.mark.parametrize("name", FAULTS)
def test_the_promise_is_kept(name: str, world: World, results: Results) -> None:
    fault = FAULTS[name]
    began = time.monotonic()
    results.kept[name] = "NO"
    try:
        fault.proof(world)
    finally:
        world.recovered(fault.hosts)
    results.kept[name] = f"yes, {time.monotonic() - began:.0f} s"
