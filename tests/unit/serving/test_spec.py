import json
from dataclasses import replace
from typing import Any

import pytest

from fleet.errors import FleetError
from fleet.secret import Secret
from fleet.serving import command, environment
from fleet.serving.spec import cache_volume, size_in_bytes
from tests.unit.serving.make import GROUND, IMAGE, built, gpus, service

SERVE = ("/app/models/M", "--port", "1")


@pytest.mark.parametrize(
    ("entrypoint", "replaced", "arguments", "whole"),
    [
        (("vllm", "serve"), None, SERVE, ("vllm", "serve", *SERVE)),
        (("/usr/bin/tini", "--", "/opt/bin/vllm", "serve"), None, SERVE,
         ("/usr/bin/tini", "--", "/opt/bin/vllm", "serve", *SERVE)),
        (("vllm",), None, ("serve", *SERVE), ("vllm", "serve", *SERVE)),
        ((), None, ("vllm", "serve", *SERVE), ("vllm", "serve", *SERVE)),
        (("/bin/bash",), ("vllm", "serve"), SERVE, ("vllm", "serve", *SERVE)),
        (("python3", "-m", command.API_MODULE), None, ("--model", *SERVE),
         ("python3", "-m", command.API_MODULE, "--model", *SERVE)),
        (("/opt/start.sh",), None, ("vllm", "serve", *SERVE), ("/opt/start.sh", "vllm", "serve", *SERVE)),
    ],
)  # fmt: skip
def test_the_command_fits_the_images_entrypoint(
    entrypoint: tuple[str, ...], replaced: tuple[str, ...] | None, arguments: tuple[str, ...], whole: tuple[str, ...]
) -> None:
    fitted = command.fit(entrypoint, SERVE)
    assert (fitted.entrypoint, fitted.arguments, fitted.whole) == (replaced, arguments, whole)


def test_arguments_are_passed_through_as_they_are() -> None:
    args = {
        "max-model-len": 32768,
        "enable-prefix-caching": False,
        "trust-remote-code": True,
        "revision": None,
        "allowed-origins": ["a", "b"],
        "speculative-config": {"model": "m", "num": 2},
        "gpu-memory-utilization": 0.9,
    }
    assert built(service(host="127.0.0.1", args=args)).spec.arguments == (
        "/app/models/Llama-3.1-8B", "--served-model-name", "Llama-3.1-8B", "--host", "127.0.0.1", "--port", "8000",
        "--tensor-parallel-size", "8", "--max-model-len", "32768", "--no-enable-prefix-caching", "--trust-remote-code",
        "--allowed-origins", "a", "b", "--speculative-config", '{"model": "m", "num": 2}',
        "--gpu-memory-utilization", "0.9",
    )  # fmt: skip


def test_a_tensor_parallel_size_in_the_arguments_stands_there_once() -> None:
    arguments = built(service(args={"tensor_parallel_size": 4})).spec.arguments
    assert sum("tensor" in word for word in arguments) == 1


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"args": {"api-key": "k"}}, "chat-0: args api-key would show in `docker inspect`"),
        ({"args": {"port": 1}}, "chat-0: args port is the service's own `port`"),
        ({"args": {"served_model_name": "x"}}, "the service's own `served_name`"),
        ({"env": {"ROCR_VISIBLE_DEVICES": "0"}}, "env ROCR_VISIBLE_DEVICES must not be set"),
        ({"env": {"CUDA_VISIBLE_DEVICES": "0"}}, "env CUDA_VISIBLE_DEVICES must not be set"),
        ({"network": "none"}, "network none leaves no port to reach"),
        ({"network": "bridge", "host": "127.0.0.1"}, "host 127.0.0.1 is inside the container's own network"),
        ({"env": {"X": "1"}, "secrets": {"X": Secret("s", literal="1")}}, "X stands in env and in secrets"),
    ],
)
def test_settings_that_belong_elsewhere_are_refused(changes: dict[str, Any], problem: str) -> None:
    assert any(problem in found for found in built(service(**changes)).problems)


def test_mi250_never_uses_aiter_and_asking_for_it_is_refused() -> None:
    spec = built(service(), on=gpus(8, "gfx90a")).spec
    assert dict(spec.env)["VLLM_ROCM_USE_AITER"] == "0"
    asked = built(service(env={"VLLM_ROCM_USE_AITER": "1"}), on=gpus(8, "gfx90a"))
    assert "VLLM_ROCM_USE_AITER=1 cannot work on gfx90a" in asked.problems[0]


def test_mi300_with_aiter_leaves_out_its_mxfp4_path_and_one_gpu_needs_no_channels() -> None:
    env = environment.environment("gfx942", 8, {"VLLM_ROCM_USE_AITER": "1"})
    assert (env["VLLM_ROCM_USE_AITER_FP4BMM"], env["NCCL_MIN_NCHANNELS"]) == ("0", "112")
    assert "NCCL_MIN_NCHANNELS" not in environment.environment("gfx942", 1, {})
    assert environment.environment("gfx942", 8, {"NCCL_MIN_NCHANNELS": "64"})["NCCL_MIN_NCHANNELS"] == "64"


def test_every_rule_of_the_environment_has_a_reason_and_a_source() -> None:
    rules = environment.rules()
    for rule in (*rules.defaults, *rules.forbidden, *rules.refused):
        assert rule.why
        assert rule.source.startswith("https://")


def test_a_replica_gets_only_its_own_render_nodes_unless_it_owns_them_all() -> None:
    assert built(service()).spec.devices == ("/dev/kfd", "/dev/dri")
    second = built(service(replicas=2), number=1).spec
    assert second.devices == ("/dev/kfd", *(f"/dev/dri/renderD{128 + 8 * n}" for n in range(4, 8)))
    assert not any("VISIBLE_DEVICES" in name for name, _ in second.env)


def test_the_plain_container_is_what_amds_guide_asks_for() -> None:
    host = built(service()).spec.host_config_kwargs("no")
    assert host["group_add"] == ["44", "105"]
    assert (host["network_mode"], host["ipc_mode"], host["init"]) == ("host", "host", True)
    assert (host["security_opt"], host["cap_add"]) == (["seccomp=unconfined"], ["SYS_PTRACE"])
    assert host["restart_policy"] == {"Name": "no"}
    mounts = {mount["Target"]: mount for mount in host["mounts"]}
    assert mounts["/app/models"] == {
        "Type": "bind", "Source": GROUND.models_dir, "Target": "/app/models", "ReadOnly": True,
    }  # fmt: skip
    assert mounts["/var/cache/fleet"]["Type"] == "volume"


def test_hardened_drops_what_a_service_can_do_without() -> None:
    spec = built(service(hardened=True)).spec
    host = spec.host_config_kwargs("no")
    assert (host["cap_drop"], host["cap_add"]) == (["ALL"], [])
    assert host["security_opt"] == ["no-new-privileges"]
    assert host["read_only"]
    assert host["pids_limit"] > 0
    assert "/tmp" in host["tmpfs"]
    assert dict(spec.env)["HOME"] == "/tmp"


def test_secrets_are_a_read_only_file_and_appear_nowhere_else() -> None:
    secret = {"VLLM_API_KEY": Secret("k", literal="hunter2hunter2")}
    spec = built(service(secrets=secret, args={"max-model-len": 10})).spec
    assert spec.entrypoint is not None
    assert spec.arguments[:3] == ("vllm", "serve", "/app/models/Llama-3.1-8B")
    everything = json.dumps([spec.create_kwargs("n", {}), spec.host_config_kwargs("no")])
    assert "hunter2" not in everything
    mount = next(volume for volume in spec.volumes if volume.target == "/run/fleet/secrets")
    assert (mount.source, mount.read_only) == ("/var/lib/fleet/secrets/chat-0.a", True)


def test_a_bridged_service_publishes_its_port() -> None:
    spec = built(service(network="bridge")).spec
    assert spec.create_kwargs("n", {})["ports"] == [8000]
    assert spec.host_config_kwargs("no")["port_bindings"] == {8000: 8000}


def test_the_hash_is_stable_and_sees_every_field() -> None:
    spec = built(service()).spec
    assert spec.hash == built(service()).spec.hash
    others = [
        built(service(env={"A": "1"})).spec,
        built(service(hardened=True)).spec,
        built(service(restart="no")).spec,
        built(service(ulimits={"nofile": 1024})).spec,
        replace(spec, gids=(1,)),
        replace(spec, image=replace(IMAGE, config_digest="sha256:0")),
    ]
    assert len({spec.hash, *(other.hash for other in others)}) == 7


def test_the_same_release_in_another_store_has_the_same_hash() -> None:
    spec = built(service()).spec
    assert replace(spec, image=replace(IMAGE, manifest_digest="sha256:0")).hash == spec.hash


def test_cache_volumes_differ_by_release_gfx_and_model_and_are_valid_names() -> None:
    names = {cache_volume(*key) for key in [("r", "gfx942", "a/b"), ("r", "gfx90a", "a/b"), ("q", "gfx942", "a/b"),
                                            ("r", "gfx942", "c/b")]}  # fmt: skip
    assert len(names) == 4
    assert all(name.replace("-", "").replace(".", "").replace("_", "").isalnum() for name in names)


@pytest.mark.parametrize(("text", "size"), [("", 0), ("16g", 16 * 1024**3), ("512MiB", 512 * 1024**2), ("64", 64)])
def test_sizes_are_read_as_docker_reads_them(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


def test_a_wrong_size_or_volume_is_an_error_in_words() -> None:
    with pytest.raises(FleetError, match="is not a size"):
        size_in_bytes("many")
    with pytest.raises(FleetError, match="is not SOURCE:TARGET"):
        built(service(volumes=("/only-one",)))
