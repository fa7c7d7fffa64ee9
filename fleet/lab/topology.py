"""What a lab is made of, as values: nodes, their addresses and the names of bridges and links.

Two networks. The main LAN, 10.N.0.0/17, holds the controller (the machine itself, .0.1) and every node but the offline
ones. The offline LAN, 10.N.128.0/17, holds the bastion and the offline nodes, and the controller is not on it.
"""

from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from typing import Any

FIRST_OCTET = 64  # lab 0 is 10.64.0.0/16
MAX_LABS = 64
PREFIX = 17
ENGINES = ("standin", "vllm-cpu")  # what serves: the stand-in everywhere, or the real vLLM on one node
REGISTRY_PORT = 5000


@dataclass(frozen=True)
class NodeSpec:
    """One machine of the lab.

    `base` is the root filesystem: `host` (this machine's Debian, Docker 20.10) or `trixie` (Debian 13, 26.1 and buildx).
    `profile` names the GPUs (fleet.lab.gpus), empty = none. `user` is whom the inventory logs in as: root; `ops`
    with passwordless sudo; `dev` in the docker group; `jump`, who may do nothing.
    """

    name: str
    role: str = "gpu"  # gpu | builder | registry | bastion
    base: str = "host"
    profile: str = ""
    user: str = "root"
    engine: bool = True
    containerd_store: bool = False
    offline: bool = False

    @property
    def services(self) -> tuple[str, ...]:
        """The daemons it runs, in the order they start."""
        registry = ("registry",) if self.role == "registry" else ()
        return ("sshd", *registry, *(("dockerd",) if self.engine else ()))


def default_specs(extra: int = 0) -> tuple[NodeSpec, ...]:
    """The lab of the issue: two engine generations, both image stores, three kinds of login. `extra` adds MI300X nodes."""
    further = (NodeSpec(f"mi300x-{number:02d}", profile="mi300x-8") for number in range(2, extra + 2))
    return (
        NodeSpec("builder", role="builder", base="trixie"),
        NodeSpec("registry", role="registry", engine=False),
        NodeSpec("bastion", role="bastion", user="jump", engine=False),
        NodeSpec("mi300x-01", profile="mi300x-8"),
        NodeSpec("mi250-01", profile="mi250-4", user="ops"),
        NodeSpec("mi300x-cpx-01", base="trixie", profile="mi300x-8-cpx", user="dev", containerd_store=True),
        NodeSpec("mi300x-off-01", profile="mi300x-8", offline=True),
        *further,
    )


@dataclass(frozen=True)
class Link:
    """One end of a veth pair: `outside` sits on `bridge` in the machine's namespace, `inside` in the node's."""

    outside: str
    inside: str
    bridge: str
    address: str

    @property
    def mac(self) -> str:
        """Made from the address, so that a rebooted node does not meet stale ARP entries."""
        return "02:fb:" + ":".join(f"{octet:02x}" for octet in IPv4Address(self.address).packed)


@dataclass(frozen=True)
class Topology:
    """A lab's name, its number among the labs of this machine, its nodes, and what their service runs (ENGINES)."""

    name: str
    index: int
    specs: tuple[NodeSpec, ...]
    engine: str = ENGINES[0]

    @property
    def main_bridge(self) -> str:
        return f"fleetlab{self.index}m"

    @property
    def offline_bridge(self) -> str:
        return f"fleetlab{self.index}o"

    @property
    def bridges(self) -> tuple[str, str]:
        return (self.main_bridge, self.offline_bridge)

    @property
    def link_prefix(self) -> str:
        """Every veth end of this lab begins with this."""
        return f"fl{self.index}-"

    @property
    def controller(self) -> str:
        """The machine's own address on the main LAN."""
        return f"10.{FIRST_OCTET + self.index}.0.1"

    @property
    def offline_network(self) -> str:
        return f"10.{FIRST_OCTET + self.index}.128.0/{PREFIX}"

    def spec(self, name: str) -> NodeSpec:
        return next(spec for spec in self.specs if spec.name == name)

    def role(self, role: str) -> NodeSpec | None:
        """The first node with this role, if the lab has one."""
        return next((spec for spec in self.specs if spec.role == role), None)

    @property
    def real(self) -> NodeSpec | None:
        """The one node that serves with the real vLLM; a node of the main LAN, since that image is large."""
        gpus = (spec for spec in self.specs if spec.role == "gpu" and spec.profile and not spec.offline)
        return next(gpus, None) if self.engine == "vllm-cpu" else None

    def links(self, name: str) -> tuple[Link, ...]:
        """The node's links; the first carries the address by which others know it."""
        spec = self.spec(name)
        position = self.specs.index(spec)
        second = FIRST_OCTET + self.index
        main = Link(f"{self.link_prefix}{position}m", "eth0", self.main_bridge, f"10.{second}.0.{10 + position}")
        offline = Link(
            f"{self.link_prefix}{position}o",
            "eth0" if spec.offline else "eth1",
            self.offline_bridge,
            f"10.{second}.128.{10 + position}",
        )
        if spec.offline:
            return (offline,)
        return (main, offline) if spec.role == "bastion" else (main,)

    def address(self, name: str) -> str:
        """The address by which the inventory reaches the node."""
        return self.links(name)[0].address

    @property
    def registry(self) -> str:
        """`address:port` of the lab's registry, empty without one."""
        spec = self.role("registry")
        return f"{self.address(spec.name)}:{REGISTRY_PORT}" if spec else ""

    def to_json(self) -> dict[str, Any]:
        specs = [asdict(spec) for spec in self.specs]
        return {"name": self.name, "index": self.index, "specs": specs, "engine": self.engine}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Topology":
        specs = tuple(NodeSpec(**spec) for spec in data["specs"])
        return cls(data["name"], data["index"], specs, data.get("engine", ENGINES[0]))
