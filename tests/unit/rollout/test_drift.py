"""Drift: against the inventory, and against the neighbours."""

from dataclasses import replace

from fleet.delivery.plan import Keep, Tag
from fleet.facts import Facts
from fleet.facts.hardware import Driver, Gpu, Topology
from fleet.facts.model import System, Tuning
from fleet.inventory.model import Connection, Host
from fleet.inventory.settings import Gpus, Service, Settings
from fleet.rollout.drift import Drift, of_host, unlike
from fleet.rollout.hostplan import HostPlan
from fleet.serving.steps import Change, ServingPlan

USUAL = Facts(system=System(kernel="6.8.0-60"), tuning=Tuning(numa_balancing=0), driver=Driver("live", "6.12.12"))


SERVES = Settings(services={"chat": Service("chat", model="tiny-chat")})


def hosts(*names: str, groups: tuple[str, ...] = ("all", "mi300x"), settings: Settings = SERVES) -> list[Host]:
    return [Host(name, groups, Connection(name), settings) for name in names]


def with_kernel(kernel: str) -> Facts:
    return replace(USUAL, system=replace(USUAL.system, kernel=kernel))


def test_a_host_that_is_as_wanted_has_none() -> None:
    plan = HostPlan("n1", (Keep("vllm-rocm:a", "there"),), ServingPlan((), kept=("chat-0: runs",)))
    assert of_host(plan, (), {"chat"}) == ()


def test_what_a_deploy_would_do_is_drift() -> None:
    change = Change("chat-0", "no container of chat-0 is there", ())
    plan = HostPlan("n1", (Tag("sha256:1", "vllm-rocm:a", "the name points to another image"),), ServingPlan((change,)))
    assert of_host(plan, (), {"chat"}) == (
        Drift("image", "tag vllm-rocm:a", "the name points to another image"),
        Drift("missing", "chat-0", "no container of chat-0 is there"),
    )


def test_one_among_many_is_named_with_what_the_others_have() -> None:
    facts = {"n1": USUAL, "n2": USUAL, "n3": with_kernel("6.8.0-31")}
    assert unlike(hosts("n1", "n2", "n3"), facts) == {
        "n3": (Drift("unlike", "kernel", "6.8.0-31, where 2 of 3 hosts of mi300x have 6.8.0-60"),)
    }


def test_two_hosts_are_no_majority_and_an_even_split_has_none() -> None:
    assert unlike(hosts("n1", "n2"), {"n1": USUAL, "n2": with_kernel("x")}) == {}
    split = {"n1": USUAL, "n2": USUAL, "n3": with_kernel("x"), "n4": with_kernel("x")}
    assert unlike(hosts(*split), split) == {}


def test_the_smallest_group_with_a_majority_judges() -> None:
    """Three old nodes among six new ones are alike in their own group, and that is what counts."""
    old = hosts("o1", "o2", "o3", groups=("all", "mi250"))
    new = hosts("n1", "n2", "n3", "n4", "n5", "n6")
    facts = {host.name: USUAL for host in new} | {host.name: with_kernel("5.15") for host in old}
    assert unlike([*old, *new], facts) == {}


def test_what_the_inventory_itself_says_is_different_is_not_compared() -> None:
    """A builder without GPUs, and a node in another partition, beside three nodes of a kind."""
    whole = replace(SERVES, gpus=Gpus("MI300X", 8, "SPX", "NPS1"))
    parted = replace(SERVES, gpus=Gpus("MI300X", 64, "CPX", "NPS4"))
    three = hosts("n1", "n2", "n3", settings=whole)
    others = [*hosts("p1", settings=parted), *hosts("builder", settings=Settings())]
    facts = {host.name: USUAL for host in three} | {host.name: with_kernel("5.15") for host in others}
    assert unlike([*three, *others], facts) == {}
    odd = {**facts, "n3": with_kernel("5.15")}
    said = "5.15, where 2 of 3 hosts with 8 MI300X in SPX NPS1 of mi300x have 6.8.0-60"
    assert unlike([*three, *others], odd) == {"n3": (Drift("unlike", "kernel", said),)}


def test_what_a_host_does_not_tell_is_no_difference() -> None:
    silent = replace(USUAL, system=System(), driver=Driver())
    assert unlike(hosts("n1", "n2", "n3"), {"n1": USUAL, "n2": USUAL, "n3": silent}) == {}


def test_hosts_that_were_not_reached_are_left_out() -> None:
    assert unlike(hosts("n1", "n2", "n3"), {"n1": USUAL, "n2": with_kernel("x")}) == {}


def with_cards(*models: str, smc: str) -> Facts:
    cards = tuple(
        Gpu(index, index, model=model, firmware={"smc": smc, "sos": "0x7"}) for index, model in enumerate(models)
    )
    return replace(USUAL, topology=Topology(kfd=True, gpus=cards))


def test_firmware_is_compared_among_cards_of_one_model_alone() -> None:
    same = with_cards("MI300X", smc="0x1")
    facts = {"n1": same, "n2": same, "n3": with_cards("MI300X", smc="0x2"), "n4": with_cards("MI250", smc="0x9")}
    assert unlike(hosts(*facts), facts) == {
        "n3": (Drift("unlike", "MI300X firmware", "smc 0x2, where 2 of 3 hosts of mi300x have 0x1"),)
    }


def test_cards_of_one_host_that_differ_are_unlike_those_of_the_others() -> None:
    odd = with_cards("MI300X", smc="0x1")
    odd = replace(
        odd, topology=Topology(kfd=True, gpus=(*odd.gpus, replace(odd.gpus[0], index=1, firmware={"smc": "0x2"})))
    )
    facts = {
        "n1": with_cards("MI300X", "MI300X", smc="0x1"),
        "n2": with_cards("MI300X", "MI300X", smc="0x1"),
        "n3": odd,
    }
    assert "smc 0x1, 0x2, where 2 of 3 hosts of mi300x have 0x1" in unlike(hosts(*facts), facts)["n3"][-1].what


def test_kernel_settings_that_differ_are_one_difference_of_a_host() -> None:
    tuned = {"vm.swappiness": "60", "vm.max_map_count": "65530", "net.core.rmem_max": None}
    usual = replace(USUAL, tuning=replace(USUAL.tuning, sysctls=tuned))
    odd = replace(
        USUAL, tuning=Tuning(numa_balancing=1, sysctls={**tuned, "vm.swappiness": "1", "net.core.rmem_max": "9"})
    )
    assert unlike(hosts("n1", "n2", "n3"), {"n1": usual, "n2": usual, "n3": odd})["n3"] == (
        Drift("unlike", "kernel.numa_balancing", "1, where 2 of 3 hosts of mi300x have 0"),
        Drift("unlike", "kernel settings", "vm.swappiness 1, where 2 of 3 hosts of mi300x have 60"),
    )
