"""Values for the tests of serving: a host's GPUs, services, images and specs."""

from dataclasses import replace
from typing import Any

from fleet.inventory.settings import Service
from fleet.serving.inspection import Inspection, predict
from fleet.serving.placement import Gpu, place
from fleet.serving.spec import Built, ContainerSpec, Ground, ImageIdentity, build

GROUND = Ground("/srv/models", "/var/lib/fleet", (44, 105))
IMAGE = ImageIdentity(
    reference="vllm-rocm:r1",
    release="r1",
    config_digest="sha256:" + "c" * 64,
    manifest_digest="sha256:" + "a" * 64,
    diff_ids=("sha256:" + "1" * 64, "sha256:" + "2" * 64),
    entrypoint=("vllm", "serve"),
    env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTORCH_ROCM_ARCH": "gfx90a;gfx942"},
)


def gpus(count: int, gfx: str = "gfx942", *, stride: int = 8) -> tuple[Gpu, ...]:
    return tuple(Gpu(n, gfx, 128 + stride * n, "hive", n * 2 // count) for n in range(count))


def service(name: str = "chat", **changes: Any) -> Service:
    return replace(Service(name=name, model="Llama-3.1-8B"), **changes)


def image(release: str) -> ImageIdentity:
    digit = f"{sum(release.encode()) % 16:x}"
    return replace(
        IMAGE,
        reference=f"vllm-rocm:{release}",
        release=release,
        config_digest="sha256:" + digit * 63 + "0",
        manifest_digest="sha256:" + digit * 63 + "1",
        diff_ids=("sha256:" + digit * 64,),
    )


def built(one: Service, *, of: ImageIdentity = IMAGE, on: tuple[Gpu, ...] = gpus(8), number: int = 0) -> Built:
    placement = place([one], on, {one.model: 32})
    assert not placement.problems, placement.problems
    file = f"/var/lib/fleet/secrets/{one.name}-{number}.a" if one.secrets else ""
    return build(one, placement.replicas[number], GROUND, of, secrets_file=file)


def specs(one: Service, *, of: ImageIdentity = IMAGE, on: tuple[Gpu, ...] = gpus(8)) -> tuple[ContainerSpec, ...]:
    return tuple(built(one, of=of, on=on, number=number).spec for number in range(one.replicas))


def serving(spec: ContainerSpec, **changes: Any) -> Inspection:
    """The container of `spec` after a good deploy."""
    return replace(predict(spec, restart=spec.restart, state="running"), **changes)


def stranger(name: str, *, port: int = 0, restart: str = "always", devices: tuple[str, ...] = ()) -> Inspection:
    base = serving(built(service()).spec)
    arguments = ("--port", str(port)) if port else ()
    return replace(
        base, name=name, labels={}, devices=devices, restart=restart, entrypoint=("other-server",), arguments=arguments
    )
