"""The order in which a builder is pruned."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleet.inventory.model import Connection, Host, Inventory
from fleet.inventory.settings import Image, Retention, Service, Settings, Source
from fleet.prune.ledger import Ledger
from fleet.prune.ownership import Owned
from fleet.seam import Described
from fleet.transport import Output
from fleet.verbs import prune_places
from fleet.verbs.prune_places import Scene

OLD = "vllm-rocm:build-ab"


class Engine:
    """A builder with one old image, whose layers are the cache's as soon as the image has gone."""

    name = "this machine"

    def __init__(self) -> None:
        self.done: list[str] = []

    def run(self, argv: Sequence[str]) -> Output:
        words = " ".join(argv)
        if words.startswith(("docker image rm", "docker buildx prune")):
            self.done.append(words)
        gone = any("image rm" in one for one in self.done)
        answers = {
            "docker version": '{"Client": {"Version": "26.1"}, "Server": {"Version": "26.1"}}',
            "docker buildx version": "github.com/docker/buildx 0.13.1",
            "docker image ls --no-trunc --filter": f"{OLD}\n",
            "docker image inspect": '[{"Id": "sha256:1", "Config": {"Labels": {"io.fleet.content-key": "ab"}}}]',
            "docker system df": '{"Type": "Build Cache", "Size": "%s"}' % ("30GB" if gone else "5GB"),
        }
        return Output(0, next((text for start, text in answers.items() if words.startswith(start)), ""), "")


def test_a_builders_cache_is_judged_when_the_images_have_left_it_their_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def perform(_host: str, _step: Described, do: Callable[[], None]) -> None:
        do()

    engine = Engine()
    monkeypatch.setattr(prune_places, "Here", lambda: engine)
    image = Image("vllm-rocm", source=Source("main"))
    settings = Settings(services={"chat": Service("chat", "tiny")}, image=image, retention=Retention(cache="10GB"))
    host = Host("n1", (), Connection("n1"), settings)
    inventory = Inventory({"n1": host}, {}, (tmp_path / "prod.yaml",))
    journal: Any = SimpleNamespace(id="run", perform=perform)
    say: Any = SimpleNamespace(host=lambda _host, _line: None)
    nobody: Any = None
    scene = Scene(
        (host,), 0, {}, True, Ledger.of(tmp_path, inventory), Owned(frozenset({"ab"})), {}, {}, {}, [], journal, say
    )
    prune_places.prune_builders(scene, inventory, nobody, forks=1, wait=0.0)
    assert scene.failed == {}
    assert engine.done == [f"docker image rm {OLD}", "docker buildx prune --force --keep-storage 10000000000"]
