"""Labs for the tests: booted under a name of this process, taken down whatever happens."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.lab import Lab, NodeSpec

BASTION = NodeSpec("bastion", role="bastion", user="jump", engine=False)
REGISTRY = NodeSpec("registry", role="registry", engine=False)
MI300X = NodeSpec("mi300x-01", profile="mi300x-8")
MI250 = NodeSpec("mi250-01", profile="mi250-4", user="ops")
OFFLINE = NodeSpec("mi300x-off-01", profile="mi300x-8", offline=True)

Boot = Callable[..., Lab]


def lab_name(word: str) -> str:
    """A name that no other process of these tests uses."""
    return f"{word}{os.getpid()}"


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Boot]:
    """Boot labs of few nodes that last for one test: `boot("word", spec, …)`."""
    names = []

    def up(word: str, *specs: NodeSpec) -> Lab:
        names.append(lab_name(word))
        return Lab.up(names[-1], specs, inventories=tmp_path)

    yield up
    for name in names:
        Lab.remove(name)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The default lab, whole, for all tests of the session; a test that breaks a node mends it."""
    name = lab_name("all")
    try:
        yield Lab.up(name, inventories=tmp_path_factory.mktemp("inventories"))
    finally:
        Lab.remove(name)
