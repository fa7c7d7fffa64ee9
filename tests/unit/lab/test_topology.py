"""The lab's nodes, addresses and names, as values."""

import ipaddress

import pytest

from fleet.lab.topology import NodeSpec, Topology, default_specs

LAB = Topology("lab", 3, default_specs())


def test_the_record_reads_back_as_it_was() -> None:
    assert Topology.from_json(LAB.to_json()) == LAB


def test_nodes_asked_for_join_at_the_end_so_that_addresses_stay() -> None:
    more = Topology("lab", 3, default_specs(2))
    assert [spec.name for spec in more.specs[-2:]] == ["mi300x-02", "mi300x-03"]
    assert all(more.address(spec.name) == LAB.address(spec.name) for spec in LAB.specs)


def test_only_the_bastion_is_on_both_networks() -> None:
    both = [spec.name for spec in LAB.specs if len(LAB.links(spec.name)) == 2]
    assert both == ["bastion"]


def test_an_offline_node_has_no_address_on_the_main_network() -> None:
    offline = ipaddress.ip_network(LAB.offline_network)
    inside = [spec.name for spec in LAB.specs if ipaddress.ip_address(LAB.address(spec.name)) in offline]
    assert inside == ["mi300x-off-01"]
    assert ipaddress.ip_address(LAB.controller) not in offline


@pytest.mark.parametrize("count", [0, 60])
def test_every_address_mac_and_link_is_its_own(count: int) -> None:
    lab = Topology("lab", 63, default_specs(count))
    links = [link for spec in lab.specs for link in lab.links(spec.name)]
    for values in ({link.address for link in links}, {link.mac for link in links}, {link.outside for link in links}):
        assert len(values) == len(links)
    assert all(len(name) <= 15 for name in (*lab.bridges, *(link.outside for link in links)))  # IFNAMSIZ - 1


def test_labs_with_other_numbers_share_no_address_and_no_link() -> None:
    one, two = (Topology("lab", index, default_specs()) for index in (1, 11))
    assert not set(one.bridges) & set(two.bridges)
    assert not two.links("builder")[0].outside.startswith(one.link_prefix)
    assert one.registry != two.registry


def test_a_lab_without_a_registry_has_no_registry_address() -> None:
    assert Topology("lab", 0, (NodeSpec("mi300x-01"),)).registry == ""
