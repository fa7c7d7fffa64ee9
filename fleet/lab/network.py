"""Bridges and links of a lab, by `ip` and, where a firewall stands in the way, `iptables`."""

import json
from pathlib import Path

from fleet.lab import host
from fleet.lab.topology import PREFIX, Link, Topology

BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def interfaces() -> frozenset[str]:
    """The names of the links in the machine's own namespace."""
    return frozenset(link["ifname"] for link in json.loads(host.run(("ip", "-j", "link")).stdout))


def alias(lab: str) -> str:
    """What `ip link` shows beside the lab's links, for people who wonder."""
    return f"fleet lab {lab}"


def used_octets() -> frozenset[int]:
    """The second octets of 10.0.0.0/8 that the machine already has routes or addresses in."""
    found = set()
    for route in json.loads(host.run(("ip", "-j", "-4", "route", "show", "table", "all")).stdout):
        parts = str(route.get("dst", "")).split(".")
        if parts[0] == "10" and len(parts) > 1:
            found.add(int(parts[1].partition("/")[0]))
    return frozenset(found)


def ensure_bridges(topology: Topology) -> None:
    """Make both bridges; the controller has an address on the main one only."""
    present = interfaces()
    for name in topology.bridges:
        if name not in present:
            host.run(("ip", "link", "add", name, "type", "bridge"))
            host.run(("ip", "link", "set", name, "alias", alias(topology.name)))
            # Without this a bridge says for a moment of every link that it is only listening.
            host.run(("ip", "link", "set", name, "type", "bridge", "forward_delay", "0"))
        host.run(("ip", "link", "set", name, "up"))
    host.run(("ip", "address", "replace", f"{topology.controller}/{PREFIX}", "dev", topology.main_bridge))
    # Else the machine would ask its own gateway for the offline nodes.
    host.run(("ip", "route", "replace", "unreachable", topology.offline_network))
    _open_firewall(topology)


def _rule(bridge: str) -> tuple[str, ...]:
    return ("FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT")


def _open_firewall(topology: Topology) -> None:
    """Let bridged packets pass where the machine filters them (a Docker engine of its own sets FORWARD to DROP)."""
    filtered = BRIDGE_FILTER.exists() and BRIDGE_FILTER.read_text().strip() == "1"
    if not filtered or "-P FORWARD DROP" not in host.run(("iptables", "-w", "-S", "FORWARD"), check=False).stdout:
        return
    for bridge in topology.bridges:
        if host.run(("iptables", "-w", "-C", *_rule(bridge)), check=False).returncode:
            host.run(("iptables", "-w", "-I", *_rule(bridge)))


def connect(lab: str, links: tuple[Link, ...], pid: int) -> None:
    """Give the node whose first process is `pid` its links and addresses. It gets no default route, ever."""
    for link in links:
        host.run(("ip", "link", "delete", link.outside), check=False)
        peer = ("peer", "name", link.inside, "address", link.mac, "netns", str(pid))
        host.run(("ip", "link", "add", link.outside, "type", "veth", *peer))
        host.run(("ip", "link", "set", link.outside, "alias", alias(lab), "master", link.bridge, "up"))
    lines = ["link set lo up"]
    for link in links:
        lines += [f"address replace {link.address}/{PREFIX} dev {link.inside}", f"link set {link.inside} up"]
    host.run(("nsenter", "-t", str(pid), "-n", "ip", "-batch", "-"), stdin="\n".join(lines))


def connected(links: tuple[Link, ...]) -> bool:
    """Whether every link is there, up and plugged into its bridge."""
    found = {link["ifname"]: link for link in json.loads(host.run(("ip", "-j", "link")).stdout)}
    return all(
        "UP" in found.get(link.outside, {}).get("flags", ()) and found[link.outside].get("master") == link.bridge
        for link in links
    )


def set_links(links: tuple[Link, ...], *, up: bool) -> None:
    """Plug the node's cables in or pull them out."""
    for link in links:
        host.run(("ip", "link", "set", link.outside, "up" if up else "down"))


def remove(topology: Topology) -> None:
    """Remove the lab's links, bridges and rules; what is not there is fine."""
    for name in interfaces():
        if name in topology.bridges or name.startswith(topology.link_prefix):
            host.run(("ip", "link", "delete", name), check=False)
    host.run(("ip", "route", "delete", "unreachable", topology.offline_network), check=False)
    rules = host.run(("iptables", "-w", "-S", "FORWARD"), check=False).stdout
    for bridge in topology.bridges:
        for _ in range(rules.count(f"-i {bridge} ")):
            host.run(("iptables", "-w", "-D", *_rule(bridge)), check=False)
