"""What a host's settings ask of it."""

from fleet.inventory.model import Connection, Host
from fleet.inventory.settings import Gpus, Image, Registry, Service, Settings
from fleet.preflight import ImageFacts, Targets, needs_of
from fleet.secret import Secret


def host(**settings: object) -> Host:
    return Host("gpu-1", ("all",), Connection("10.0.0.1"), Settings(**settings))  # type: ignore[arg-type]  # by name


def test_needs_follow_the_settings() -> None:
    needs = needs_of(
        host(gpus=Gpus("MI300X", 8), delivery="sideload", models_dir="/m", staging_dir="/s", accept={"shm": "fine"}),
        ImageFacts((Targets(("gfx942",), "7.2"),)),
        5.0,
        take_over=("old",),
    )
    assert (needs.host, needs.gpus.count, needs.delivery, needs.models_dir, needs.staging_dir) == (
        "gpu-1", 8, "sideload", "/m", "/s",
    )  # fmt: skip
    assert (needs.epoch, needs.take_over, needs.accept) == (5.0, ("old",), {"shm": "fine"})
    assert needs.image == ImageFacts((Targets(("gfx942",), "7.2"),))


def test_registries_count_where_the_host_pulls_itself() -> None:
    plain, own = Registry("r.corp:5001", insecure=True), Registry("s.corp", ca_file="/ca.pem")
    services = {"a": Service("a", "m"), "b": Service("b", "m", registry=own)}
    asked = needs_of(host(registry=plain, services=services), None, 0.0)
    assert (asked.registries, asked.insecure) == (("s.corp",), ("r.corp:5001",))
    asked = needs_of(host(registry=plain, services=services, delivery="sideload"), None, 0.0)
    assert (asked.registries, asked.insecure) == ((), ())


def test_replicas_count_ports_up() -> None:
    needs = needs_of(host(services={"chat": Service("chat", "m", port=8000, replicas=3, gpus=2)}), None, 0.0)
    assert needs.services[0].ports == (8000, 8001, 8002)
    assert needs.services[0].replicas == 3


def test_a_key_guards_a_service_wherever_it_stands() -> None:
    services = {
        "bare": Service("bare", "m"),
        "secret": Service("secret", "m", secrets={"VLLM_API_KEY": Secret("x", env="K")}),
        "local": Service("local", "m", args={"host": "127.0.0.1"}),
    }
    bare, secret, local = needs_of(host(services=services), None, 0.0).services
    assert (bare.guarded, secret.guarded) == (False, True)
    assert local.host == "127.0.0.1"


def test_aiter_is_asked_for_by_environment() -> None:
    services = {"a": Service("a", "m", env={"VLLM_ROCM_USE_AITER": "1"}), "b": Service("b", "m")}
    assert [service.aiter for service in needs_of(host(services=services), None, 0.0).services] == [True, False]


def test_what_the_inventory_says_of_the_image_counts_until_the_image_is_known() -> None:
    assert needs_of(host(), None, 0.0).image is None
    assert needs_of(host(image=Image("vllm")), None, 0.0).image is None
    told = needs_of(host(image=Image("vllm", gfx=("gfx90a",), rocm="7.2")), None, 0.0).image
    assert told == ImageFacts((Targets(("gfx90a",), "7.2"),))


def test_what_the_inventory_says_counts_service_by_service() -> None:
    own = Image("old", gfx=("gfx90a",))
    services = {name: Service(name, "m", image=own if name == "b" else None) for name in "abc"}
    told = needs_of(host(image=Image("vllm", gfx=("gfx942",)), services=services), None, 0.0).image
    assert told == ImageFacts((Targets(("gfx942",), "", ("a", "c")), Targets(("gfx90a",), "", ("b",))))


def test_hosts_serve_build_or_neither() -> None:
    plain, builder = needs_of(host(), None, 0.0), needs_of(host(builder="gpu-1"), None, 0.0)
    assert (plain.serves, plain.builds) == (False, False)
    assert (builder.serves, builder.builds) == (False, True)
    assert needs_of(host(gpus=Gpus("MI300X", 8)), None, 0.0).serves
    assert needs_of(host(services={"chat": Service("chat", "m")}), None, 0.0).serves
