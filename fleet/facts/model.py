"""What a host said about itself. None always means "could not be read" unless a comment says otherwise."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


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


@dataclass(frozen=True)
class DeviceNode:
    """A file in /dev. `gid` is the number that --group-add needs."""

    path: str
    is_char: bool
    mode: int  # permission bits
    uid: int
    gid: int
    owner: str
    group: str


@dataclass(frozen=True)
class Devices:
    """`kfd` is None and `kfd_present` False when there is none; both None when nobody looked (a captured tree)."""

    kfd_present: bool | None = None
    kfd: DeviceNode | None = None
    kfd_usable: bool | None = None  # by the probe's own user
    render: tuple[DeviceNode, ...] | None = None


@dataclass(frozen=True)
class Driver:
    """The amdgpu module. `state`: live (loaded), builtin, absent, or its initstate while it comes or goes."""

    state: str | None = None
    version: str | None = None  # loaded; None for an in-tree driver
    srcversion: str | None = None
    disk_version: str | None = None
    disk_srcversion: str | None = None
    dkms: tuple[str, ...] = ()

    @property
    def in_tree(self) -> bool | None:
        """True when the loaded driver carries no version of its own, as the kernel's does."""
        return None if self.state not in ("live", "builtin") else self.version is None

    @property
    def pending_reboot(self) -> bool | None:
        """True when the module on disk is another than the loaded one."""
        if self.version and self.disk_version:
            return self.version != self.disk_version
        if self.srcversion and self.disk_srcversion:
            return self.srcversion != self.disk_srcversion
        return None


@dataclass(frozen=True)
class Link:
    """A link of the KFD topology. `kind`: xgmi, pcie or other; bandwidth in MB/s. Source: kfd_crat.h."""

    to_node: int
    kind: str
    weight: int | None = None
    bandwidth_mbps: int | None = None


@dataclass(frozen=True)
class Gpu:
    """One KFD GPU node, so one HIP device: a card, a die of an MI250 or a partition. `index` is HIP's order."""

    index: int
    node: int
    gpu_id: int | None = None
    model: str | None = None
    gfx: str | None = None
    device_id: int | None = None
    cus: int | None = None
    xccs: int | None = None
    vram_bytes: int | None = None
    vram_used_bytes: int | None = None
    render_minor: int | None = None
    unique_id: str | None = None  # 16 hexadecimal digits
    bdf: str | None = None
    numa_node: int | None = None
    compute_partition: str | None = None
    memory_partition: str | None = None
    available_partitions: tuple[str, ...] = ()
    hive: str | None = None
    drm: str | None = None  # renderD128 or card1, whichever was read
    drm_shared: bool = False  # the values of DRM belong to the whole card, of which this is a partition
    links: tuple[Link, ...] | None = None
    ras: Mapping[str, Mapping[str, int]] | None = None  # block -> {ue, ce, de}
    bad_pages: int | None = None
    pcie_speed: float | None = None  # GT/s
    pcie_width: int | None = None
    pcie_speed_max: float | None = None
    pcie_width_max: int | None = None
    pcie_replays: int | None = None
    temperature_c: float | None = None  # the hottest sensor
    temperature_crit_c: float | None = None  # of that sensor
    power_cap_w: float | None = None
    power_cap_default_w: float | None = None

    @property
    def card(self) -> tuple[str, str]:
        """What partitions of one card share: its unique id, or its place on the bus without the function."""
        return (self.unique_id or "", (self.bdf or f"node{self.node}").rpartition(".")[0] or f"node{self.node}")


@dataclass(frozen=True)
class PciGpu:
    bdf: str
    device_id: int | None
    bound: bool


@dataclass(frozen=True)
class Process:
    """A process that holds a GPU. `vram` maps gpu_id to bytes. `container` is an engine's container id, or empty."""

    pid: int
    command: str | None = None
    vram: Mapping[int, int] = field(default_factory=dict)
    container: str = ""


@dataclass(frozen=True)
class Topology:
    kfd: bool | None = None  # does /sys/class/kfd exist
    nodes: int | None = None  # CPUs too
    gpus: tuple[Gpu, ...] = ()
    hidden_nodes: tuple[int, ...] = ()  # nodes whose properties could not be read, so nobody knows what they are
    pci: tuple[PciGpu, ...] | None = None  # accelerators on the bus, bound or not
    processes: tuple[Process, ...] | None = None


@dataclass(frozen=True)
class Container:
    """A running container. `ports` are the host's own (TCP), empty with host networking."""

    id: str
    name: str
    image: str
    image_id: str
    pid: int
    command: str
    labels: Mapping[str, str]
    network: str
    ports: tuple[int, ...]
    devices: tuple[str, ...]
    privileged: bool = False

    @property
    def service(self) -> str:
        """The service of ours that it belongs to, or empty."""
        return self.labels.get("io.fleet.service", "")


@dataclass(frozen=True)
class Docker:
    """The engine as its CLI shows it. `state`: running, stopped, forbidden, no-cli, or None when nobody looked."""

    state: str | None = None
    error: str = ""
    cli_version: str | None = None
    version: str | None = None
    api_version: str | None = None
    storage_driver: str | None = None
    image_store: str | None = None  # classic | containerd
    root_dir: str | None = None
    rootless: bool | None = None
    desktop: bool | None = None
    cgroup_version: int | None = None
    cgroup_driver: str | None = None
    security: tuple[str, ...] = ()
    buildx: str | None = None  # version of the CLI's plugin; None = none seen
    containers: tuple[Container, ...] | None = None


@dataclass(frozen=True)
class Space:
    """Room below a directory; `path` may not exist yet, then its nearest parent was measured."""

    path: str
    exists: bool
    free_bytes: int
    total_bytes: int
    free_inodes: int | None
    device: int | None  # st_dev: directories with the same one share their room


@dataclass(frozen=True)
class Model:
    """A model below models_dir. `attention_heads` and `kv_heads` come from its config.json."""

    name: str
    weights: bool
    attention_heads: int | None = None
    kv_heads: int | None = None
    model_type: str | None = None
    architectures: tuple[str, ...] = ()
    max_positions: int | None = None


@dataclass(frozen=True)
class Listener:
    """A listening TCP port. pid and command are None without the right to see them."""

    address: str
    port: int
    pid: int | None = None
    command: str | None = None
    container: str = ""


@dataclass(frozen=True)
class KernelLog:
    """Lines of the kernel's ring buffer that look like GPU trouble. None = not readable."""

    lines: tuple[str, ...] | None = None


@dataclass(frozen=True)
class User:
    name: str = ""
    uid: int | None = None
    groups: tuple[str, ...] = ()
    sudo_user: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything that one probe saw. `source`: live, or tree for a captured directory."""

    source: str = "live"
    system: System = System()
    tuning: Tuning = Tuning()
    devices: Devices = Devices()
    driver: Driver = Driver()
    topology: Topology = Topology()
    docker: Docker = Docker()
    space: Mapping[str, Space] = field(default_factory=dict)  # root, containerd, models, staging, shm, slash
    models: tuple[Model, ...] | None = None
    listeners: tuple[Listener, ...] | None = None
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
