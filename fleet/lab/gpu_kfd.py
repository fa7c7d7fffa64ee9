"""/sys/class/kfd as the kernel writes it. Sources: drivers/gpu/drm/amd/amdkfd/kfd_topology.c and public dumps."""

from collections.abc import Iterator

from fleet.lab.gpu_model import Machine, Part, Product, stable

KFD = "/sys/class/kfd/kfd"
CPU_NODES = 2
CPU_MEMORY = 1_081_101_176_832  # bytes each socket
PCIE, XGMI, QPI = 2, 11, 1  # io_link types
SYSTEM_HEAP, VRAM_HEAP = 0, 1  # mem_bank heap types

Fields = tuple[tuple[str, int], ...]


def files(machine: Machine) -> dict[str, str]:
    """Every file under /sys/class/kfd/kfd; a name that ends in "/" is an empty directory."""
    parts = machine.parts
    if machine.product is None or machine.driver.loaded is None:
        return {}
    top = f"{KFD}/topology"
    found = {
        f"{KFD}/proc/": "",
        f"{top}/generation_id": f"{len(parts) + CPU_NODES}\n",
        f"{top}/system_properties": _text(
            (
                ("platform_oem", stable(machine.node, "oem", 62)),
                ("platform_id", stable(machine.node, "platform", 47)),
                ("platform_rev", 2),
            )
        ),
    }
    for cpu in range(CPU_NODES):
        found |= _cpu_node(machine, cpu, f"{top}/nodes/{cpu}")
    for number, part in enumerate(parts, start=CPU_NODES):
        found |= _gpu_node(machine, machine.product, part, number, f"{top}/nodes/{number}")
    return found


def memory_of_part(machine: Machine, product: Product) -> int:
    """Bytes of VRAM that one KFD node owns."""
    return product.vram // machine.partitions_a_card


def _cpu_node(machine: Machine, cpu: int, path: str) -> dict[str, str]:
    near, far = _links(machine, cpu)
    fields: Fields = (
        ("cpu_cores_count", machine.cores),
        ("simd_count", 0),
        ("mem_banks_count", 1),
        ("caches_count", 0),
        ("io_links_count", len(near)),
        ("p2p_links_count", len(far)),
        ("cpu_core_id_base", cpu * machine.cores),
        *((name, 0) for name in SHARED_FIELDS),
        ("max_engine_clk_ccompute", 2400),
    )
    return {
        f"{path}/gpu_id": "0\n",
        f"{path}/name": "\n",
        f"{path}/properties": _text(fields),
        f"{path}/mem_banks/0/properties": _bank(SYSTEM_HEAP, CPU_MEMORY, 0, 0),
        **_link_files(path, near, far),
    }


def _gpu_node(machine: Machine, product: Product, part: Part, number: int, path: str) -> dict[str, str]:
    near, far = _links(machine, number)
    split = machine.partitions_a_card
    known = {
        "simd_id_base": 2147487744 + 40 * (number - CPU_NODES),
        "max_waves_per_simd": 8,
        "lds_size_in_kb": 64,
        "num_gws": 64,
        "wave_front_size": 64,
        "array_count": product.arrays // split,
        "simd_arrays_per_engine": 1,
        "cu_per_simd_array": product.cus_per_array,
        "simd_per_cu": 4,
        "max_slots_scratch_cu": 32,
        "gfx_target_version": product.gfx_version,
        "vendor_id": 0x1002,
        "device_id": product.device_id,
        "location_id": part.location_id,
        "drm_render_minor": part.minor,
        "hive_id": stable(machine.node, "hive", 63),
        "num_sdma_engines": 2,
        "num_sdma_xgmi_engines": product.sdma_xgmi_engines if split == 1 else 0,
        "num_sdma_queues_per_engine": 8,
        "num_cp_queues": 24,
    }
    fields: Fields = (
        ("cpu_cores_count", 0),
        ("simd_count", product.simds // split),
        ("mem_banks_count", 1),
        ("caches_count", product.caches // split),
        ("io_links_count", len(near)),
        ("p2p_links_count", len(far)),
        ("cpu_core_id_base", 0),
        *((name, known.get(name, 0)) for name in SHARED_FIELDS),
        ("max_engine_clk_fcompute", product.core_mhz),
        ("local_mem_size", 0),  # the kernel has said 0 here for years; the size stands in mem_banks
        ("fw_version", product.fw_version),
        ("capability", 746037888),
        ("debug_prop", 1511),
        ("sdma_fw_version", product.sdma_fw_version),
        ("unique_id", part.gpu.unique_id),
        ("num_xcc", product.xccs // split or 1),
        ("max_engine_clk_ccompute", 2400),
    )
    size = memory_of_part(machine, product)
    return {
        f"{path}/gpu_id": f"{part.gpu_id}\n",
        f"{path}/name": f"{product.kfd_name}\n",
        f"{path}/properties": _text(fields),
        f"{path}/mem_banks/0/properties": _bank(VRAM_HEAP, size, product.memory_bits // split, product.memory_mhz),
        **_link_files(path, near, far),
    }


SHARED_FIELDS = (
    "simd_id_base",
    "max_waves_per_simd",
    "lds_size_in_kb",
    "gds_size_in_kb",
    "num_gws",
    "wave_front_size",
    "array_count",
    "simd_arrays_per_engine",
    "cu_per_simd_array",
    "simd_per_cu",
    "max_slots_scratch_cu",
    "gfx_target_version",
    "vendor_id",
    "device_id",
    "location_id",
    "domain",
    "drm_render_minor",
    "hive_id",
    "num_sdma_engines",
    "num_sdma_xgmi_engines",
    "num_sdma_queues_per_engine",
    "num_cp_queues",
)


def _links(machine: Machine, number: int) -> tuple[list[Fields], list[Fields]]:
    """The io_links and the p2p_links of KFD node `number`: its own CPU and hive, then what is behind the other CPU."""
    parts = machine.parts
    near: list[Fields] = []
    far: list[Fields] = []
    if number < CPU_NODES:
        near.append(_link(QPI, (number, 1 - number), 32, (0, 0), (0, 0)))
        for other, part in enumerate(parts, start=CPU_NODES):
            if part.gpu.numa_node == number:
                near.append(_link(PCIE, (number, other), 20, (312, 64000), (3, 3)))
            else:
                far.append(_link(PCIE, (number, other), 52, (0, 0), (0, 3)))
        return near, far
    here = parts[number - CPU_NODES]
    home = here.gpu.numa_node
    near.append(_link(PCIE, (number, home), 20, (312, 64000), (3, 1)))
    far.append(_link(PCIE, (number, 1 - home), 52, (0, 0), (0, 1)))
    for other, part in enumerate(parts, start=CPU_NODES):
        if other != number:
            weight = _weight(machine, here, part)
            fastest = 200000 if weight == 13 else 50000
            near.append(_link(XGMI, (number, other), weight, (50000, fastest), (28, 1)))
    return near, far


def _weight(machine: Machine, here: Part, there: Part) -> int:
    """13 in one package, 15 one XGMI hop, 41 to another card's partition."""
    dies = machine.product.dies_a_card if machine.product else 1
    if here.gpu.slot // dies == there.gpu.slot // dies:
        return 13
    return 41 if machine.partitions_a_card > 1 else 15


def _link(kind: int, ends: tuple[int, int], weight: int, bandwidth: tuple[int, int], marks: tuple[int, int]) -> Fields:
    """One link; `marks` are the mask of recommended SDMA engines and the flags."""
    return (
        ("type", kind),
        ("version_major", 0),
        ("version_minor", 0),
        ("node_from", ends[0]),
        ("node_to", ends[1]),
        ("weight", weight),
        ("min_latency", 0),
        ("max_latency", 0),
        ("min_bandwidth", bandwidth[0]),
        ("max_bandwidth", bandwidth[1]),
        ("recommended_transfer_size", 0),
        ("recommended_sdma_engine_id_mask", marks[0]),
        ("flags", marks[1]),
    )


def _link_files(path: str, near: list[Fields], far: list[Fields]) -> dict[str, str]:
    return dict(_numbered(f"{path}/io_links", near)) | dict(_numbered(f"{path}/p2p_links", far))


def _numbered(path: str, links: list[Fields]) -> Iterator[tuple[str, str]]:
    if not links:
        yield f"{path}/", ""
    for index, link in enumerate(links):
        yield f"{path}/{index}/properties", _text(link)


def _bank(heap: int, size: int, width: int, clock: int) -> str:
    return _text((("heap_type", heap), ("size_in_bytes", size), ("flags", 0), ("width", width), ("mem_clk_max", clock)))


def _text(fields: Fields) -> str:
    return "".join(f"{name} {value}\n" for name, value in fields)
