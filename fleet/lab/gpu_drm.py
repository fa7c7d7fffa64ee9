"""/sys/class/drm and amdgpu's PCI devices as amdgpu shows them, and the device nodes under /dev."""

from dataclasses import dataclass

from fleet.lab.gpu_model import RENDER_GID, VIDEO_GID, Machine, Part, Product, stable

DRM = "/sys/class/drm"
DRIVER = "/sys/module/amdgpu/drivers/pci:amdgpu"
IDLE_VRAM = 299_892_736  # bytes amdgpu itself holds on an idle card; mem_info_vram_used is never 0
DRM_MAJOR = 226
RAS_BLOCKS = ("umc", "gfx", "sdma", "mmhub", "xgmi_wafl", "pcie_bif", "hdp")


@dataclass(frozen=True)
class Device:
    """A character device to be made. The lab backs each by /dev/null's numbers, so that open() works without a driver."""

    path: str
    major: int = 1
    minor: int = 3
    mode: int = 0o660
    uid: int = 0
    gid: int = RENDER_GID


def files(machine: Machine) -> dict[str, str]:
    """Every file under /sys/class/drm and below amdgpu's PCI driver; device directories stand in place of symlinks."""
    found = {f"{DRM}/version": "drm 1.1.0 20060810\n"}
    if machine.bmc_vga:
        found |= _under(f"{DRM}/card0", {"dev": f"{DRM_MAJOR}:0\n"} | _under("device", BMC_VGA))
    for part in machine.parts:
        if machine.product is None:
            continue
        names = (f"card{part.card_minor}", f"renderD{part.minor}")
        if part.index == 0:
            device = _pci_device(machine, machine.product, part)
            found |= _under(f"{DRIVER}/{part.gpu.address}", device)
        else:
            device = _partition_device(part)
        for name, minor in zip(names, (part.card_minor, part.minor), strict=True):
            found |= _under(f"{DRM}/{name}", {"dev": f"{DRM_MAJOR}:{minor}\n"} | _under("device", device))
    return found


def devices(machine: Machine) -> tuple[Device, ...]:
    """The nodes under /dev: kfd, every card, every render node."""
    found = []
    if machine.kfd_mode is not None:
        found.append(Device("/dev/kfd", mode=machine.kfd_mode))
    if machine.bmc_vga:
        found.append(Device("/dev/dri/card0", gid=VIDEO_GID))
    for part in machine.parts:
        found.append(Device(f"/dev/dri/card{part.card_minor}", gid=VIDEO_GID))
        found.append(Device(f"/dev/dri/renderD{part.minor}"))
    return tuple(found)


BMC_VGA = {
    "vendor": "0x1a03\n",
    "device": "0x2000\n",
    "class": "0x030000\n",
    "numa_node": "0\n",
    "boot_vga": "1\n",
    "uevent": "DRIVER=ast\nPCI_CLASS=30000\nPCI_ID=1A03:2000\nPCI_SUBSYS_ID=1A03:2000\nPCI_SLOT_NAME=0000:03:00.0\n",
}


def _pci_device(machine: Machine, product: Product, part: Part) -> dict[str, str]:
    gpu = part.gpu
    found = {
        "vendor": "0x1002\n",
        "device": f"0x{product.device_id:04x}\n",
        "class": "0x120000\n",
        "numa_node": f"{gpu.numa_node}\n",
        "unique_id": f"{gpu.unique_id:016x}\n",
        "serial_number": f"{stable(machine.node, f'serial{gpu.slot}', 40):012d}\n",
        "product_name": f"{product.title}\n",
        "vbios_version": "113-M3000100-102\n" if product.partitionable else "113-D65209-073\n",
        "current_link_speed": f"{product.link_speed}\n",
        "current_link_width": "16\n",
        "max_link_speed": f"{product.link_speed}\n",
        "max_link_width": "16\n",
        "pcie_replay_count": "0\n",
        "gpu_busy_percent": "0\n",
        "mem_info_vram_total": f"{product.vram}\n",
        "mem_info_vram_used": f"{IDLE_VRAM}\n",
        "mem_info_vis_vram_total": f"{product.vram}\n",
        "mem_info_vis_vram_used": f"{IDLE_VRAM}\n",
        "ras/gpu_vram_bad_pages": "",
        "uevent": (
            f"DRIVER=amdgpu\nPCI_CLASS=120000\nPCI_ID=1002:{product.device_id:04X}\n"
            f"PCI_SUBSYS_ID=1002:{product.device_id:04X}\nPCI_SLOT_NAME={gpu.address}\n"
        ),
        f"drm/card{part.card_minor}/dev": f"{DRM_MAJOR}:{part.card_minor}\n",
        f"drm/renderD{part.minor}/dev": f"{DRM_MAJOR}:{part.minor}\n",
    }
    for block in RAS_BLOCKS:
        errors = machine.uncorrectable if block == "umc" and gpu.slot == 0 else 0
        found[f"ras/{block}_err_count"] = f"ue: {errors}\nce: 0\n"
    if product.partitionable:
        found |= {
            "current_compute_partition": f"{machine.mode}\n",
            "available_compute_partition": "SPX, DPX, QPX, CPX\n",
            "current_memory_partition": f"{machine.memory_mode}\n",
            "available_memory_partition": "NPS1, NPS4\n",
        }
    found |= _under("fw_version", {f"{name}_fw_version": f"0x{value:08x}\n" for name, value in _firmware(product)})
    return found | _under(f"hwmon/hwmon{gpu.slot + 2}", _sensors(product))


def _firmware(product: Product) -> list[tuple[str, int]]:
    """A few of amdgpu_ucode.c's files, with numbers of the lab's own; what the card has not is zero."""
    loaded = [
        ("mec", product.fw_version),
        ("sdma", product.sdma_fw_version),
        ("smc", 0x0055_7300),
        ("sos", 0x0036_6C4C),
    ]
    return [*loaded, ("ta_xgmi", 0x2000_0014), ("vcn", 0x0911_800B), ("ce", 0), ("me", 0)]


def _partition_device(part: Part) -> dict[str, str]:
    """Partitions after the first are platform devices: no PCI files, no VRAM counters (amdgpu_xcp_drv.c)."""
    name = f"amdgpu_xcp_{part.minor}"
    return {
        "uevent": f"DRIVER=amdgpu_xcp_drv\nMODALIAS=platform:{name}\n",
        "modalias": f"platform:{name}\n",
        f"drm/card{part.card_minor}/dev": f"{DRM_MAJOR}:{part.card_minor}\n",
        f"drm/renderD{part.minor}/dev": f"{DRM_MAJOR}:{part.minor}\n",
    }


def _sensors(product: Product) -> dict[str, str]:
    """hwmon: millidegrees and microwatts. MI300X has no edge sensor, so its labels begin at temp2."""
    numbers = {"edge": 1, "junction": 2, "mem": 3}
    found = {
        "name": "amdgpu\n",
        "power1_cap": f"{product.power_cap}\n",
        "power1_cap_default": f"{product.power_cap}\n",
        "power1_cap_max": f"{product.power_cap}\n",
    }
    for label in product.temperatures:
        number = numbers[label]
        found[f"temp{number}_label"] = f"{label}\n"
        found[f"temp{number}_input"] = f"{38000 + 2000 * number}\n"
        found[f"temp{number}_crit"] = "105000\n" if label == "mem" else "100000\n"
    return found


def _under(path: str, entries: dict[str, str]) -> dict[str, str]:
    return {f"{path}/{name}": text for name, text in entries.items()}
