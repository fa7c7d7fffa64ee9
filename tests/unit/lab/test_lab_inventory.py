"""The inventory that `lab.up` writes."""

from typing import Any

import yaml

from fleet.lab.inventory import inventory_text
from fleet.lab.paths import Paths
from fleet.lab.topology import NodeSpec, Topology, default_specs

LAB = Topology("lab", 0, default_specs(1))


def everything(topology: Topology = LAB) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(inventory_text(topology, Paths(topology.name)))["all"]
    return loaded


def gpu_groups() -> dict[str, Any]:
    groups: dict[str, Any] = everything()["children"]["gpu"]["children"]
    return groups


def test_every_node_stands_in_it_once() -> None:
    gpu = [host for group in gpu_groups().values() for host in group["hosts"]]
    infra = list(everything()["children"]["infra"]["hosts"])
    assert sorted(gpu + infra) == sorted(spec.name for spec in LAB.specs)


def test_no_service_reaches_builder_registry_and_bastion() -> None:
    assert "services" not in everything()["vars"]["fleet"]
    assert "vars" not in everything()["children"]["infra"]
    assert everything()["children"]["gpu"]["vars"]["fleet"]["services"]["chat"]["model"] == "tiny-chat"


def test_gpus_are_promised_as_hip_counts_them() -> None:
    promised = {group: values["vars"]["fleet"]["gpus"]["count"] for group, values in gpu_groups().items()}
    assert promised == {"mi300x": 8, "mi250": 8, "mi300x_cpx": 64}


def test_only_ops_becomes_root() -> None:
    assert gpu_groups()["mi250"]["hosts"]["mi250-01"]["ansible_become"] is True
    assert "ansible_become" not in gpu_groups()["mi300x"]["hosts"]["mi300x-01"]


def test_the_offline_node_is_reached_through_the_bastion_and_gets_its_image_over_ssh() -> None:
    offline = gpu_groups()["mi300x"]["hosts"]["mi300x-off-01"]
    assert offline["ansible_ssh_extra_args"] == "-o ProxyJump=jump@10.64.0.12"
    assert offline["fleet"]["delivery"] == "sideload"


def test_no_secret_stands_in_it() -> None:
    registry = everything()["vars"]["fleet"]["registry"]
    assert set(registry["password"]) == {"file"}
    assert registry["ca_file"].startswith("/var/lib/fleet-lab/lab/")


def test_a_small_lab_names_no_builder_and_no_registry_that_it_lacks() -> None:
    fleet = everything(Topology("small", 1, (NodeSpec("mi300x-01", profile="mi300x-8"),)))["vars"]["fleet"]
    assert "builder" not in fleet
    assert "registry" not in fleet
