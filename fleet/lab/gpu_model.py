"""What a lab node's hardware is: values only. gpu_kfd, gpu_drm and gpu_host write it out as the kernel would.

Numbers are those of public KFD dumps (ROCm/k8s-device-plugin's MI210 and MI300X CPX fixtures, gpuq's MI300X SPX) and
of AMD's data sheets. No MI250 dump is public: `MI250` is derived from the MI210 one and is labelled synthetic here.
"""

import hashlib
from dataclasses import dataclass, replace

from fleet.errors import UsageError

RENDER_GID = 105  # what the lab's nodes call `render`; tools must read the number from the device, as on a real node
VIDEO_GID = 44  # Debian's fixed gid of `video`
FIRST_RENDER_MINOR = 128  # DRM: render nodes count from 128, 64 of them
DRM_MINORS = 64
PARTITIONS = {"SPX": 1, "DPX": 2, "QPX": 4, "CPX": 8}  # KFD nodes a card of the MI300X


@dataclass(frozen=True)
class Product:
    """One kind of GPU, as one PCI device (so an MI250 card is two). Sizes in bytes, clocks in MHz, power in µW."""

    name: str
    title: str
    kfd_name: str
    gfx_version: int
    device_id: int
    simds: int
    xccs: int
    cus_per_array: int
    arrays: int
    vram: int
    memory_bits: int
    memory_mhz: int
    core_mhz: int
    caches: int
    fw_version: int
    sdma_fw_version: int
    sdma_xgmi_engines: int
    link_speed: str
    power_cap: int
    temperatures: tuple[str, ...]
    dies_a_card: int = 1
    partitionable: bool = False
    minor_stride: int = 1


MI300X = Product(
    name="MI300X",
    title="AMD Instinct MI300X OAM",
    kfd_name="ip discovery",
    gfx_version=90402,
    device_id=0x74A1,
    simds=1216,
    xccs=8,
    cus_per_array=10,
    arrays=32,
    vram=206_141_652_992,
    memory_bits=8192,
    memory_mhz=1300,
    core_mhz=2100,
    caches=626,
    fw_version=177,
    sdma_fw_version=24,
    sdma_xgmi_engines=14,
    link_speed="32.0 GT/s PCIe",
    power_cap=750_000_000,
    temperatures=("junction", "mem"),
    partitionable=True,
    minor_stride=8,  # the XCP driver keeps eight minors for each card, whatever its mode
)
MI250 = Product(
    name="MI250",
    title="AMD Instinct MI250",
    kfd_name="aldebaran",
    gfx_version=90010,
    device_id=0x740C,
    simds=416,
    xccs=1,
    cus_per_array=14,
    arrays=8,
    vram=68_702_699_520,
    memory_bits=4096,
    memory_mhz=1600,
    core_mhz=1700,
    caches=217,
    fw_version=92,
    sdma_fw_version=9,
    sdma_xgmi_engines=3,
    link_speed="16.0 GT/s PCIe",
    power_cap=560_000_000,
    temperatures=("edge", "junction", "mem"),
    dies_a_card=2,
)
MI210 = replace(MI250, name="MI210", title="AMD Instinct MI210", device_id=0x740F, power_cap=300_000_000, dies_a_card=1)
MI100 = replace(
    MI250,
    name="MI100",
    title="AMD Instinct MI100",
    kfd_name="arcturus",
    gfx_version=90008,
    device_id=0x738C,
    simds=480,
    cus_per_array=15,
    vram=34_342_961_152,
    memory_mhz=1200,
    core_mhz=1502,
    power_cap=290_000_000,
    dies_a_card=1,
)


@dataclass(frozen=True)
class Gpu:
    """One PCI device that amdgpu drives. `slot` says which one it was when the machine was built."""

    slot: int
    bus: int
    numa_node: int
    unique_id: int
    gpu_id: int

    @property
    def address(self) -> str:
        """The PCI address, as in `PCI_SLOT_NAME`."""
        return f"0000:{self.bus:02x}:00.0"


@dataclass(frozen=True)
class Part:
    """What KFD shows as one GPU node: a card, a die of one, or a partition of one."""

    gpu: Gpu
    index: int
    minor: int
    card_minor: int
    gpu_id: int

    @property
    def location_id(self) -> int:
        """Bus and function; in a partitioned mode the function bits carry the partition's index."""
        return self.gpu.bus << 8 | self.index


@dataclass(frozen=True)
class Driver:
    """amdgpu as loaded and as it lies on disk. `loaded` is None when absent, "" for the in-tree one without a version."""

    loaded: str | None = "6.16.13"
    on_disk: str = "6.16.13"


@dataclass(frozen=True)
class Machine:
    """A node's whole pretended hardware; every fault of it is one of these fields.

    `kfd_mode` None means that /dev/kfd does not exist. `minor_limit` is how many DRM minors are left for amdgpu.
    """

    node: str
    product: Product | None = None
    gpus: tuple[Gpu, ...] = ()
    mode: str = "SPX"
    bmc_vga: bool = False
    minor_limit: int = DRM_MINORS
    cores: int = 96
    driver: Driver = Driver()
    kfd_mode: int | None = 0o660
    numa_balancing: bool = False
    uncorrectable: int = 0
    cmdline: str = "BOOT_IMAGE=/boot/vmlinuz root=/dev/nvme0n1p2 ro iommu=pt pci=realloc=off"

    @property
    def parts(self) -> tuple[Part, ...]:
        """The GPU nodes that KFD shows, in its order; none when the driver is not loaded."""
        if self.product is None or self.driver.loaded is None:
            return ()
        stride = self.product.minor_stride
        first_card = 1 if self.bmc_vga else 0
        count = PARTITIONS[self.mode] if self.product.partitionable else 1
        return tuple(
            Part(gpu, index, FIRST_RENDER_MINOR + offset, first_card + offset, gpu.gpu_id + index)
            for position, gpu in enumerate(self.gpus)
            for index in range(count)
            if (offset := position * stride + index) < self.minor_limit
        )

    @property
    def partitions_a_card(self) -> int:
        return PARTITIONS[self.mode] if self.product and self.product.partitionable else 1

    @property
    def memory_mode(self) -> str:
        """CPX is shown with NPS4, its usual companion; the other modes with NPS1."""
        return "NPS4" if self.mode == "CPX" else "NPS1"


def machine(profile: str, node: str) -> Machine:
    """The machine that `profile` names. Identities (serials, unique ids) follow from `node`, so they stay the same.

    Raises UsageError for a profile that does not exist.
    """
    if profile not in PROFILES:
        raise UsageError(f"there is no GPU profile {profile!r}", hint=f"known: {', '.join(sorted(PROFILES))}")
    base = PROFILES[profile]
    if base.product is None:
        return replace(base, node=node)
    buses = MI250_BUSES if base.product is MI250 else MI300X_BUSES
    return replace(base, node=node, gpus=tuple(_gpu(node, slot, bus) for slot, bus in enumerate(buses)))


def stable(node: str, what: str, bits: int) -> int:
    """A number that looks random and never changes for this node."""
    return int.from_bytes(hashlib.sha256(f"{node}/{what}".encode()).digest()[:8]) >> (64 - bits)


def _gpu(node: str, slot: int, bus: int) -> Gpu:
    return Gpu(
        slot=slot,
        bus=bus,
        numa_node=slot // 4,
        unique_id=stable(node, f"gpu{slot}", 62) | 1 << 62,
        gpu_id=4096 + slot * 7001 + stable(node, "gpu_id", 11),
    )


MI300X_BUSES = (0x05, 0x27, 0x47, 0x65, 0x85, 0xA7, 0xC7, 0xE5)
MI250_BUSES = (0x29, 0x2C, 0x43, 0x46, 0x83, 0x86, 0xC3, 0xC6)

PROFILES = {
    "mi300x-8": Machine(node="", product=MI300X, bmc_vga=True),
    "mi300x-8-cpx": Machine(node="", product=MI300X, mode="CPX"),
    # With the BMC's VGA holding one of the 64 DRM minors the last partition gets none (seen in the public dump).
    "mi300x-8-cpx-63": Machine(
        node="",
        product=MI300X,
        mode="CPX",
        bmc_vga=True,
        minor_limit=DRM_MINORS - 1,
        driver=Driver("6.14.14", "6.14.14"),
    ),
    "mi250-4": Machine(node="", product=MI250, cores=64),
    "none": Machine(node="", driver=Driver(loaded=None, on_disk=""), kfd_mode=None),
}


def without_one_gpu(before: Machine) -> Machine:
    """A card that fell off the bus: the last one of the first CPU's."""
    lost = next((gpu for gpu in reversed(before.gpus) if gpu.numa_node == 0), None)
    return replace(before, gpus=tuple(gpu for gpu in before.gpus if gpu != lost))


def with_other_gpus(before: Machine) -> Machine:
    """Other hardware than was promised: MI210s for MI300Xs, MI100s for MI250s."""
    other = {"MI300X": MI210, "MI250": MI100}
    return before if before.product is None else replace(before, product=other.get(before.product.name, MI210))


def without_driver(before: Machine) -> Machine:
    """The driver lies on disk but is not loaded."""
    return replace(before, driver=replace(before.driver, loaded=None), kfd_mode=None)


def with_driver_in_tree(before: Machine) -> Machine:
    """The kernel's own amdgpu: it has no version file."""
    return replace(before, driver=Driver(loaded="", on_disk=""))


def with_newer_driver_on_disk(before: Machine) -> Machine:
    """The package was upgraded, the node was not rebooted."""
    return replace(before, driver=replace(before.driver, on_disk="6.19.14.31400000"))


def with_other_partition(before: Machine) -> Machine:
    """CPX where SPX was, and the other way round. Raises UsageError for GPUs that cannot be partitioned."""
    if before.product is None or not before.product.partitionable:
        name = before.product.name if before.product else "no GPU"
        raise UsageError(f"{before.node} has {name}, which cannot be partitioned")
    return replace(before, mode="SPX" if before.mode == "CPX" else "CPX")
