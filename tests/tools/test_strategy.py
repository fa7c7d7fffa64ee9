"""What the candidates of a strategy say of themselves: real git, a real registry on loopback, a fake docker."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import FleetError
from fleet.image.candidates import ask
from fleet.image.lock import Lock
from fleet.image.strategy import Known, Told, choose
from fleet.image.workshop import Workshop
from fleet.inventory.settings import Image, OwnBase, Registry, Source
from fleet.rollout.strategies import settle
from fleet.transport import Connector, Output
from tests.tools import test_produce
from tests.tools.test_convert import docker_save
from tests.tools.test_produce import BASE_ID, Docker, free_port, workshop
from tests.tools.test_source import git

repository, registry = test_produce.repository, test_produce.registry  # fixtures
GFX = ("gfx90a", "gfx942")
KNOWN = Known(GFX, {"a": "6.14.14"})
BASE = """ARG BASE_IMAGE=rocm/dev-ubuntu-22.04:7.2.3-complete
FROM ${BASE_IMAGE}
ARG PYTORCH_ROCM_ARCH=gfx90a
"""


class Builder(Docker):
    """Has local/base:1, which it did not pull, with this environment."""

    def __init__(self, *env: str) -> None:
        super().__init__()
        self.env = env

    def run(self, argv: Sequence[str], *, stall: float = 0) -> Output:
        form = argv[4] if argv[1:3] == ("image", "inspect") else ""
        if form == "{{json .Config}}" and argv[-1] == "local/base:1":
            return Output(0, json.dumps({"Env": self.env}), "")
        return Output(0, "", "") if "RepoDigests" in form else super().run(argv, stall=stall)


def push(path: Path, registry: Registry, name: str, config: Mapping[str, Any]) -> str:
    """An image of this config in the registry, by its full name."""
    flags = ("--format", "oci", "--dest-tls-verify=false")
    source = docker_save(path, dict(config))
    target = f"{registry.host}/{name}"
    subprocess.run(("skopeo", "copy", *flags, f"docker-archive:{source}", f"docker://{target}"), check=True)
    return target


def shop_of(tmp_path: Path, docker: Docker, registry: Registry | None) -> Workshop:
    return workshop(tmp_path / "fleet", docker, registry)


def test_the_prebuilt_image_is_asked_by_its_config_alone_and_the_source_only_where_it_must(
    repository: Path, registry: Registry, tmp_path: Path
) -> None:
    labels = {"io.fleet.rocm": "7.2.1"}
    config = {"Env": ["PYTORCH_ROCM_ARCH=gfx90a;gfx942;gfx950"], "Labels": labels}
    name = push(tmp_path / "a.tar", registry, "vendor/vllm:v1", config)
    image = Image("vllm-rocm", prebuilt=name, source=Source("v0.11.0", repository=str(repository)), strategy="auto")
    shop = shop_of(tmp_path, Builder(), registry)
    known = ask(image, shop, Lock(), KNOWN)
    assert known.prebuilt == Told(name, ("gfx90a", "gfx942", "gfx950"), "7.2.1")
    assert known.base is None
    assert choose(image, known).kind == "prebuilt"
    assert not (tmp_path / "fleet/layouts").exists()
    everything = ask(image, shop, Lock(), KNOWN, everything=True)
    assert everything.base == Told("local/base:1")
    assert everything.prebuilt == known.prebuilt
    other = replace(KNOWN, gfx=("gfx1100",))
    assert ask(image, shop, Lock(), other).base == Told("local/base:1")


def test_a_tag_that_is_not_there_is_another_thing_than_a_registry_that_is_not(
    repository: Path, registry: Registry, tmp_path: Path
) -> None:
    source = Source("v0.11.0", repository=str(repository))
    image = Image("vllm-rocm", prebuilt=f"{registry.host}/vendor/vllm:v9", source=source, strategy="auto")
    docker = Builder("PYTORCH_ROCM_ARCH=gfx90a;gfx942")
    gone = ask(image, shop_of(tmp_path, docker, registry), Lock(), KNOWN)
    assert gone.prebuilt is not None
    assert (gone.prebuilt.silent, gone.base) == (False, Told("local/base:1", GFX))
    assert "has no vendor/vllm:v9" in gone.prebuilt.problem
    away = replace(image, prebuilt=f"127.0.0.1:{free_port()}/vendor/vllm:v1")
    silent = ask(away, shop_of(tmp_path, docker, registry), Lock(), replace(KNOWN, before="prebuilt"))
    assert silent.prebuilt is not None
    assert silent.prebuilt.silent
    assert choose(away, silent).kind == "prebuilt"
    assert choose(away, replace(silent, before="")).kind == "source"


def test_a_base_of_ones_own_is_known_by_its_file_and_what_lies_below_it(
    repository: Path, registry: Registry, tmp_path: Path
) -> None:
    below = push(tmp_path / "a.tar", registry, "rocm/dev:1", {"Env": ["PATH=/bin"]})
    source = Source("main", repository=str(repository))
    shop = shop_of(tmp_path, Builder("PYTORCH_ROCM_ARCH=gfx942"), registry)
    image = Image("vllm-rocm", source=source, strategy="auto")
    known = ask(image, shop, Lock(), KNOWN)
    assert (known.own_file, known.below) == ("", None)
    assert not choose(image, known).kind
    (repository / "docker/Dockerfile.rocm_base").write_text(BASE)
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "base")
    base = OwnBase(args={"BASE_IMAGE": below})
    known = ask(replace(image, source=replace(source, base=base)), shop, Lock(), KNOWN)
    assert (known.base, known.own_file, known.own_gfx) == (Told("local/base:1", ("gfx942",)), base.build, True)
    assert known.below == Told(below)
    default = ask(image, shop, Lock(), KNOWN)
    assert default.below is not None
    assert (default.below.reference, default.below.rocm) == ("rocm/dev-ubuntu-22.04:7.2.3-complete", "7.2.3")


def test_a_choice_is_locked_and_moves_by_an_update_alone(repository: Path, registry: Registry, tmp_path: Path) -> None:
    name = push(tmp_path / "a.tar", registry, "vendor/vllm:v1", {"Env": ["PYTORCH_ROCM_ARCH=gfx90a;gfx942"]})
    image = Image("vllm-rocm", prebuilt=name, source=Source("v0.11.0", repository=str(repository)), strategy="auto")
    shop = shop_of(tmp_path, Builder("PYTORCH_ROCM_ARCH=gfx90a;gfx942"), registry)
    with Connector() as connector:
        chosen, lock, why = settle(image, (), GFX, connector, shop, Lock())
        assert (chosen.prebuilt, chosen.source) == (name, None)
        assert "no host's driver is known" in why or "does not say" in why
        assert list(lock.choices.values()) == ["prebuilt"]
        push(tmp_path / "b.tar", registry, "vendor/vllm:v1", {"Env": ["PYTORCH_ROCM_ARCH=gfx942"]})
        assert settle(image, (), GFX, connector, shop, lock) == (chosen, lock, "")
        moved, after, why = settle(image, (), GFX, connector, replace(shop, update=True), lock)
        assert (moved.prebuilt, list(after.choices.values())) == ("", ["source"])
        assert "prebuilt does not fit (gfx targets: gfx942, and not gfx90a" in why
        with pytest.raises(FleetError, match="image vllm-rocm: nothing fits: prebuilt") as caught:
            settle(replace(image, source=None), (), GFX, connector, replace(shop, update=True), lock)
        assert "build --explain" in caught.value.hint


def test_a_repository_that_does_not_answer_is_a_fact(tmp_path: Path) -> None:
    image = Image("vllm-rocm", source=Source("main", repository=str(tmp_path / "nowhere")), strategy="auto")
    known = ask(image, shop_of(tmp_path, Builder(), None), Lock(), KNOWN)
    assert known.base is not None
    assert "asking" in known.base.problem
    assert BASE_ID not in known.base.problem
