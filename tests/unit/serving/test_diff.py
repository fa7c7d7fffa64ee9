"""Real `docker inspect` answers of two engine generations and both image stores, and edits made behind our back."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.secret import Secret
from fleet.serving.diff import Recreate, Same, Update, compare, runs
from fleet.serving.inspection import Inspection, listening, parse
from fleet.serving.placement import place
from fleet.serving.spec import ContainerSpec, Ground, ImageIdentity, build
from tests.unit.serving.make import IMAGE, built, gpus, service, serving, stranger

DATA = Path("tests/data/inspect")
CAPTURED = sorted(path.stem for path in DATA.glob("*.json"))


def load(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return value


def spec_of(name: str, image: dict[str, Any]) -> ContainerSpec:
    """The spec that the captured container was really created from."""
    one = service(
        model="tiny-chat",
        ulimits={"nofile": 20000},
        secrets={"VLLM_API_KEY": Secret("k", literal="k")},
        hardened=name.endswith("-hardened"),
    )
    on = gpus(8, "gfx90a", stride=1) if name.startswith("engine-26.1-classic") else gpus(8)
    identity = ImageIdentity(
        "vllm-rocm:r1",
        "r1",
        image["Id"],
        diff_ids=tuple(image["RootFS"]["Layers"]),
        entrypoint=("vllm", "serve"),
        env={name: value for name, _, value in (e.partition("=") for e in image["Config"].get("Env") or ())},
    )
    replica = place([one], on, {"tiny-chat": 32}).replicas[0]
    ground = Ground("/srv/models", "/var/lib/fleet", (44, 105))
    return build(one, replica, ground, identity, secrets_file="/var/lib/fleet/secrets/chat-0.a").spec


def both(name: str) -> tuple[ContainerSpec, Inspection]:
    value = load(name)
    return spec_of(name, value["image"]), parse(value["container"], value["image"])


def test_both_generations_and_both_stores_were_captured() -> None:
    assert CAPTURED == [
        "engine-20.10-classic",
        "engine-20.10-classic-hardened",
        "engine-26.1-classic",
        "engine-26.1-classic-hardened",
        "engine-26.1-containerd",
        "engine-26.1-containerd-hardened",
    ]


@pytest.mark.parametrize("name", CAPTURED)
def test_a_container_that_was_just_deployed_is_the_same(name: str) -> None:
    spec, real = both(name)
    assert compare(spec, real) == Same()


@pytest.mark.parametrize("name", CAPTURED)
def test_a_classic_image_id_and_a_containerd_one_are_the_same_release_by_their_layers(name: str) -> None:
    spec, real = both(name)
    elsewhere = replace(spec.image, config_digest="sha256:of-the-release", manifest_digest="")
    assert runs(elsewhere, real)
    assert not runs(replace(elsewhere, diff_ids=("sha256:other",)), real)
    assert not runs(replace(elsewhere, env={"OTHER": "env"}), real)


Edit = Callable[[dict[str, Any]], None]


def host(**changes: Any) -> Edit:
    return lambda container: container["HostConfig"].update(changes)


def config(**changes: Any) -> Edit:
    return lambda container: container["Config"].update(changes)


def env(line: str) -> Edit:
    return lambda container: container["Config"]["Env"].append(line)


def models_writable(container: dict[str, Any]) -> None:
    next(mount for mount in container["Mounts"] if mount["Destination"] == "/app/models")["RW"] = True


EDITS: list[tuple[str, Edit, str]] = [
    ("a variable more", env("HIP_VISIBLE_DEVICES=0"), "env HIP_VISIBLE_DEVICES: 0 -> nothing"),
    ("a delicate variable", env("HF_TOKEN=hf_abc"), "env HF_TOKEN: *** -> nothing"),
    ("a variable changed", env("TRITON_CACHE_DIR=/x"), "env TRITON_CACHE_DIR: /x -> /var/cache/fleet/triton"),
    ("another command", config(Cmd=["serve"]), "command: serve -> vllm serve /app/models/tiny-chat"),
    ("another entrypoint", config(Entrypoint=["bash"]), "entrypoint: bash -> /bin/sh -c"),
    ("no devices", host(Devices=None), "devices: nothing -> /dev/dri /dev/kfd"),
    ("other groups", host(GroupAdd=["video"]), "groups: video -> 105 44"),
    ("no memory lock", host(Ulimits=[]), "ulimit nofile: nothing -> 20000"),
    ("a bridge", host(NetworkMode="default"), "network: bridge -> host"),
    ("private ipc", host(IpcMode="private"), "ipc: private -> host"),
    ("privileged", host(Privileged=True), "privileged: True -> False"),
    ("no init", host(Init=None), "init: False -> True"),
    ("more capabilities", host(CapAdd=["CAP_SYS_ADMIN"]), "added capabilities: SYS_ADMIN -> SYS_PTRACE"),
    ("seccomp back on", host(SecurityOpt=None), "security options: nothing -> seccomp=unconfined"),
    ("logs without end", host(LogConfig={"Type": "json-file", "Config": {"max-size": "100m"}}), "log option max-file: nothing -> 5"),
    ("models writable", models_writable, "mount /app/models: /srv/models (rw) -> /srv/models (ro)"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["engine-20.10-classic", "engine-26.1-containerd"])
@pytest.mark.parametrize(("edit", "said"), [(edit, said) for _, edit, said in EDITS], ids=[e[0] for e in EDITS])
def test_every_edit_behind_our_back_is_named_with_old_and_new(name: str, edit: Edit, said: str) -> None:
    value = deepcopy(load(name))
    edit(value["container"])
    verdict = compare(spec_of(name, value["image"]), parse(value["container"], value["image"]))
    assert isinstance(verdict, Recreate)
    assert any(str(found).startswith(said) for found in verdict.differences), [str(d) for d in verdict.differences]
    assert len(verdict.differences) == 1


def test_another_image_under_the_same_name_is_named() -> None:
    spec, real = both("engine-20.10-classic")
    verdict = compare(spec, replace(real, image_id="sha256:" + "f" * 64, diff_ids=("sha256:x",)))
    assert str(verdict.differences[0]).startswith("image: r1 sha256:ffffffffffff -> r1 sha256:")


def test_a_restart_policy_alone_is_updated_in_place() -> None:
    spec, real = both("engine-26.1-classic")
    verdict = compare(spec, replace(real, restart="always"))
    assert isinstance(verdict, Update)
    assert str(verdict.differences[0]) == "restart: always -> unless-stopped"
    assert compare(spec, replace(real, restart="no"), restart=False) == Same()


def test_what_engines_add_by_themselves_counts_for_nothing() -> None:
    spec, real = both("engine-26.1-classic")
    limits = {**real.ulimits, "core": 0}  # daemon.json's default-ulimits
    added = replace(real, ulimits=limits, security=real.security | {"label=disable"}, health="healthy")
    assert compare(spec, added) == Same()


def test_a_label_of_another_spec_is_a_difference_even_if_nothing_else_shows() -> None:
    spec = built(service()).spec
    real = serving(spec)
    verdict = compare(spec, replace(real, labels={**real.labels, "io.fleet.spec": "0" * 64}))
    assert isinstance(verdict, Recreate)
    assert verdict.differences[0].what == "spec label"


def test_absent_and_null_fields_are_read_as_empty() -> None:
    bare = parse({"Name": "/x", "Config": None, "HostConfig": {"Ulimits": None, "Devices": None}, "State": {}})
    assert (bare.name, bare.env, bare.devices, bare.restart, bare.image_env) == ("x", {}, (), "no", None)
    assert runs(IMAGE, replace(bare, image_id=IMAGE.manifest_digest))


def test_security_options_are_the_same_in_old_and_new_spelling() -> None:
    old = parse({"HostConfig": {"SecurityOpt": ["seccomp:unconfined", "no-new-privileges:true"]}})
    assert old.security == {"seccomp=unconfined", "no-new-privileges"}


@pytest.mark.parametrize(
    ("arguments", "ports"),
    [(("--port", "9000"), {9000}), (("--port=9001",), {9001}), (("serve", "m"), {8000}), (("sleep",), set())],
)
def test_the_port_of_a_stranger_is_read_from_its_command(arguments: tuple[str, ...], ports: set[int]) -> None:
    assert listening(replace(stranger("x"), arguments=arguments)) == ports


def test_published_ports_are_those_of_the_host() -> None:
    bindings = {"80/tcp": [{"HostIp": "", "HostPort": "8000"}], "81/tcp": None}
    real = parse({"HostConfig": {"PortBindings": bindings, "NetworkMode": "bridge"}})
    assert listening(real) == {8000}
