"""What a host said of its GPUs, their driver and its devices. None means "could not be read" unless a comment says otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass, field


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
    firmware: Mapping[str, str] | None = None  # smc -> 0x00557300, vbios -> 113-M3000100-102; what is loaded

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
