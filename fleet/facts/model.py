"""What a host said about itself. None always means "could not be read" unless a comment says otherwise."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fleet.facts.hardware import DeviceNode, Devices, Driver, Gpu, Link, PciGpu, Process, Topology
from fleet.facts.software import Chain, Container, Docker, EngineConfig, Firewall, Listener
from fleet.facts.stored import Model, Space

__all__ = [
    "Chain",
    "Container",
    "DeviceNode",
    "Devices",
    "Docker",
    "Driver",
    "EngineConfig",
    "Facts",
    "Firewall",
    "Gpu",
    "KernelLog",
    "Link",
    "Listener",
    "Model",
    "PciGpu",
    "Process",
    "Space",
    "System",
    "Topology",
    "Tuning",
    "Unread",
    "User",
]


@dataclass(frozen=True)
class Unread:
    """One thing that could not be read. `error` is an errno name (ENOENT, EPERM, EIO, …) or the tool's own words."""

    path: str
    error: str


@dataclass(frozen=True)
class System:
    hostname: str | None = None
    os: str | None = None  # debian, ubuntu, rhel, …
    os_version: str | None = None
    os_name: str | None = None  # for people
    kernel: str | None = None
    boot_id: str | None = None
    cmdline: str | None = None
    uptime_s: float | None = None
    cpus: int | None = None  # online hardware threads
    memory_bytes: int | None = None
    memory_available_bytes: int | None = None
    rocm_version: str | None = None  # of the host itself, absent on most nodes
    epoch_s: float | None = None  # the host's clock while the probe ran
    flock: bool | None = None  # is flock(1) of util-linux there?


@dataclass(frozen=True)
class Tuning:
    """Limits and kernel settings. -1 is unlimited."""

    numa_balancing: int | None = None
    governor: str | None = None
    transparent_hugepage: str | None = None  # the active word: always, madvise, never
    iommu_present: bool | None = None
    memlock_kib: int | None = None  # of the login session
    nofile: int | None = None
    nofile_hard: int | None = None
    engine_memlock_bytes: int | None = None  # of dockerd, hard limits
    engine_nofile: int | None = None
    shm_bytes: int | None = None
    cgroup: int | None = None  # 1 or 2
    selinux: str | None = None  # enforcing, permissive, disabled
    apparmor: bool | None = None
    sysctls: Mapping[str, str | None] = field(default_factory=dict)  # vm.swappiness -> 60


@dataclass(frozen=True)
class KernelLog:
    """Lines of the kernel's ring buffer that look like GPU trouble. None = not readable."""

    lines: tuple[str, ...] | None = None


@dataclass(frozen=True)
class User:
    name: str = ""
    uid: int | None = None
    groups: tuple[str, ...] = ()
    sudo_user: str = ""  # who logged in, where sudo made the probe another user
    login_groups: tuple[str, ...] | None = None  # of sudo_user, as the host's lists have them now


@dataclass(frozen=True)
class Facts:
    """Everything that one probe saw. `source`: live, or tree for a captured directory."""

    source: str = "live"
    system: System = System()
    tuning: Tuning = Tuning()
    devices: Devices = field(default_factory=Devices)
    driver: Driver = field(default_factory=Driver)
    topology: Topology = field(default_factory=Topology)
    docker: Docker = field(default_factory=Docker)
    space: Mapping[str, Space] = field(default_factory=dict)  # root, containerd, models, staging, shm, slash
    models: tuple[Model, ...] | None = None
    listeners: tuple[Listener, ...] | None = None
    firewall: Firewall = field(default_factory=Firewall)
    kernel_log: KernelLog = KernelLog()
    user: User = User()
    unread: tuple[Unread, ...] = ()

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """GPU nodes in KFD's order, which is HIP's."""
        return self.topology.gpus

    @property
    def gids(self) -> tuple[int, ...]:
        """The numeric groups that own /dev/kfd and the render nodes, for --group-add; root's is left out."""
        nodes = (self.devices.kfd, *(self.devices.render or ()))
        return tuple(sorted({node.gid for node in nodes if node is not None and node.gid}))

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dict with stable keys; GPUs stand at the top under `gpus`, each also with `partition`."""
        out = asdict(self)
        topology = out.pop("topology")
        gpus = topology.pop("gpus")
        for gpu in gpus:
            gpu["partition"] = gpu["compute_partition"]
        out["driver"] |= {"in_tree": self.driver.in_tree, "pending_reboot": self.driver.pending_reboot}
        out["kernel_log"] = out["kernel_log"]["lines"]
        return {"source": out.pop("source"), "gpus": gpus, "kfd": topology, **out}
