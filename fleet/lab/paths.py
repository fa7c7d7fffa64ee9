"""Where a lab keeps its things. Nothing here touches the disk."""

from dataclasses import dataclass
from pathlib import Path

RUN = Path("/run/fleet-lab")
DATA = Path("/var/lib/fleet-lab")
CACHE = Path("/var/cache/fleet-lab")
CGROUP = "fleet-lab"  # every lab's parent in every cgroup hierarchy


@dataclass(frozen=True)
class NodePaths:
    """One node's files as the machine sees them."""

    name: str
    data: Path
    run: Path

    @property
    def upper(self) -> Path:
        """What the node wrote over its root filesystem; outlives a reboot."""
        return self.data / "upper"

    @property
    def work(self) -> Path:
        return self.data / "work"

    @property
    def kernel(self) -> Path:
        """Where what it shows in /sys and /proc beside the real ones is mounted; made anew at every boot."""
        return self.data / "kernel"

    @property
    def disk(self) -> Path:
        """A sparse ext4 image, mounted at /var/lib/docker: an own filesystem, so it can be filled up for real."""
        return self.data / "docker.img"

    @property
    def prepared(self) -> Path:
        """Stands once everything above was made."""
        return self.data / "prepared"

    @property
    def plan(self) -> Path:
        return self.run / f"{self.name}.plan.json"

    @property
    def process(self) -> Path:
        """The first process of the node."""
        return self.run / f"{self.name}.pid"

    @property
    def accountant(self) -> Path:
        return self.run / f"{self.name}.accountant.pid"

    @property
    def mountpoint(self) -> Path:
        return self.run / f"{self.name}.root"

    @property
    def log(self) -> Path:
        return self.data / "boot.log"


@dataclass(frozen=True)
class Paths:
    """One lab's files."""

    name: str

    @property
    def run(self) -> Path:
        return RUN / self.name

    @property
    def data(self) -> Path:
        return DATA / self.name

    @property
    def lock(self) -> Path:
        return RUN / f"{self.name}.lock"

    @property
    def record(self) -> Path:
        """What the lab is made of: written before the first thing is made, removed after the last."""
        return self.data / "lab.json"

    @property
    def keys(self) -> Path:
        """The CA, the client key and the registry's password. Only root may look in."""
        return self.data / "keys"

    @property
    def client_key(self) -> Path:
        return self.keys / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.keys / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        return self.keys / "ssh_config"

    @property
    def ca(self) -> Path:
        return self.keys / "ca.pem"

    @property
    def registry_user(self) -> Path:
        return self.keys / "registry-user"

    @property
    def registry_password(self) -> Path:
        return self.keys / "registry-password"

    @property
    def source(self) -> Path:
        """The stand-in vLLM's git repository."""
        return self.data / "vllm.git"

    @property
    def cgroup(self) -> str:
        return f"{CGROUP}/{self.name}"

    def node(self, name: str) -> NodePaths:
        return NodePaths(name, self.data / "nodes" / name, self.run)
