from dataclasses import replace
from types import MappingProxyType
from typing import Any

from fleet.facts import Facts
from fleet.facts.model import DeviceNode, Devices, Gpu, Model, Topology
from fleet.inventory.settings import Service, Settings
from fleet.secret import Secret
from fleet.serving.desired import Desired, SecretFiles, desired
from fleet.serving.plan import plan
from tests.unit.serving.make import IMAGE, service, serving


def node(path: str, gid: int) -> DeviceNode:
    return DeviceNode(path, is_char=True, mode=0o660, uid=0, gid=gid, owner="root", group="render")


FACTS = Facts(
    devices=Devices(True, node("/dev/kfd", 105), True, (node("/dev/dri/renderD128", 44),)),
    topology=Topology(gpus=tuple(Gpu(n, n + 1, gfx="gfx942", render_minor=128 + 8 * n) for n in range(4))),
    models=(Model("Llama-3.1-8B", weights=True, attention_heads=6),),
)
SECRET = {"VLLM_API_KEY": Secret("k", literal="k")}


def want(one: Service, *, facts: Facts = FACTS, files: dict[str, str] | None = None, found: Any = ()) -> Desired:
    settings = Settings(services=MappingProxyType({one.name: one}))
    secret_files = SecretFiles({one.name: "good"}, files or {})
    return desired(settings, facts, "/var/lib/fleet", {one.name: IMAGE}, secret_files, found)


def test_facts_become_devices_groups_and_a_tensor_parallel_size() -> None:
    made = want(service())
    assert made.problems == ()
    spec = made.specs[0]
    assert spec.gids == (44, 105)
    assert spec.arguments[spec.arguments.index("--tensor-parallel-size") + 1] == "3"
    assert "leaves 1 GPU of 4 unused" in made.notes[0]


def test_an_open_service_without_a_key_is_said() -> None:
    open_note = "chat-0: listens on every interface of the host and no VLLM_API_KEY guards it"
    assert open_note in want(service()).notes
    assert open_note not in want(service(host="127.0.0.1")).notes
    assert open_note not in want(service(secrets=SECRET)).notes


def test_a_gpu_without_a_render_node_is_a_problem() -> None:
    blind = replace(FACTS, topology=Topology(gpus=(*FACTS.gpus, Gpu(4, 9, gfx="gfx942"))))
    assert want(service(), facts=blind).problems == ("no render node is known of GPU 4",)


def test_bad_settings_are_problems_not_exceptions() -> None:
    assert "is not a size" in want(service(shm_size="lots")).problems[0]


def test_secrets_in_place_change_nothing_and_new_values_take_the_other_file() -> None:
    one = service(secrets=SECRET)
    first = want(one)
    assert first.specs[0].secrets_file == "/var/lib/fleet/secrets/chat-0.a"
    assert first.written == frozenset()
    real = serving(first.specs[0])
    settled = want(one, files={"/var/lib/fleet/secrets/chat-0.a": "good"}, found=[real])
    assert plan(settled.specs, [real], written=settled.written).changes == ()
    changed = want(one, files={"/var/lib/fleet/secrets/chat-0.a": "old"}, found=[real])
    assert changed.specs[0].secrets_file == "/var/lib/fleet/secrets/chat-0.b"
    assert "mount /run/fleet/secrets" in plan(changed.specs, [real], written=changed.written).changes[0].why
