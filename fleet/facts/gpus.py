"""KFD nodes and DRM devices put together: which GPUs there are, how they hang together, what they say of themselves.

Devices are matched by render minor, then by place on the bus, then by unique id; never by card number, because card0
may be the VGA of a BMC. Sources: kfd_topology.c, amdgpu sysfs documentation, the dumps in tests/data/kfd.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.facts import sensors
from fleet.facts.cards import gfx_of, gfx_of_name, gfx_of_version, mode_of, model_of
from fleet.facts.frames import Frames
from fleet.facts.hardware import Gpu, Link, PciGpu, Topology
from fleet.facts.model import Unread
from fleet.facts.words import decimal, natural

LINK_KINDS = {2: "pcie", 11: "xgmi"}
NODES = "sys/class/kfd/kfd/topology/nodes"
FRAME_BUFFERS = (1, 2)  # heap types of memory banks: the part that the CPU sees, and the part that it does not


@dataclass
class _Node:
    number: int
    properties: dict[str, int] = field(default_factory=dict)
    name: str = ""
    gpu_id: int | None = None
    damaged: list[str] = field(default_factory=list)  # files with values that are no numbers
    banks: list[int] = field(default_factory=list)
    links: list[Link] | None = None

    @property
    def is_gpu(self) -> bool:
        """Old kernels have no gfx_target_version, but shader units all the same."""
        return bool(self.properties.get("gfx_target_version") or self.properties.get("simd_count"))

    @property
    def is_cpu(self) -> bool:
        """A CPU's gpu_id is 0; where that file is missing, its cores tell."""
        return self.gpu_id == 0 or (self.gpu_id is None and bool(self.properties.get("cpu_cores_count")))

    @property
    def unique(self) -> str | None:
        number = self.properties.get("unique_id")
        return f"{number:016x}" if number else None

    @property
    def bdf(self) -> str | None:
        location = self.properties.get("location_id")
        if not location:
            return None
        domain = self.properties.get("domain", 0) & 0xFFFFFFFF
        return f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 31:02x}.{location & 7}"


@dataclass
class _Drm:
    name: str
    files: dict[str, str] = field(default_factory=dict)
    minors: set[int] = field(default_factory=set)

    @property
    def bdf(self) -> str | None:
        match = re.search(r"^PCI_SLOT_NAME=(\S+)", self.files.get("uevent", ""), re.MULTILINE)
        return match[1].lower() if match else None

    @property
    def is_amd(self) -> bool:
        uevent = self.files.get("uevent", "")
        vendor = self.files.get("vendor", "")
        return vendor == "0x1002" or (not vendor and ("amdgpu" in uevent or "=1002:" in uevent or not uevent))


def topology(frames: Frames) -> tuple[Topology, tuple[Unread, ...]]:
    """Every GPU node in KFD's order, and files whose values are none.

    A node of which nobody knows whether it is a GPU is counted among the hidden ones.
    """
    present = frames.lines("present")
    nodes = _nodes(frames)
    drms = _drms(frames)
    gpus = [node for node in nodes if node.is_gpu]
    found = Topology(
        kfd=None if present is None else "sys/class/kfd/kfd" in present or bool(nodes),
        nodes=len(nodes) if frames.lines("nodes") is not None else None,
        gpus=_gpus(gpus, drms),
        hidden_nodes=tuple(node.number for node in nodes if not node.is_gpu and not node.is_cpu),
        pci=_pci(frames),
    )
    damaged = (f"{NODES}/{node.number}/{name}" for node in nodes for name in node.damaged)
    return found, tuple(Unread(path, "EINVAL") for path in damaged)


def _nodes(frames: Frames) -> list[_Node]:
    numbers = map(natural, " ".join(frames.lines("nodes") or ()).split())
    nodes = {number: _Node(number) for number in numbers if number is not None}
    for path, text in frames.files("node").items():
        number, _, rest = path.partition("/")
        node = nodes.get(value) if (value := natural(number)) is not None else None
        if node is None:
            continue
        if rest == "name":
            node.name = text.strip()
        elif rest == "gpu_id":
            node.gpu_id = natural(text)
        elif rest.endswith("properties"):
            numbers_of, whole = _numbers(text)
            if not whole:
                node.damaged.append(rest)
            if rest == "properties":
                node.properties = numbers_of
            elif numbers_of.get("heap_type", FRAME_BUFFERS[0]) in FRAME_BUFFERS:
                node.banks.append(numbers_of.get("size_in_bytes", 0))
    _add_links(frames, nodes)
    return [nodes[number] for number in sorted(nodes)]


def _add_links(frames: Frames, nodes: Mapping[int, _Node]) -> None:
    """Links of both kinds. Each record begins with `type`; p2p_links repeat direct ones only by way of the CPU."""
    for section in ("io_links", "p2p_links"):
        records: list[dict[str, int]] = []
        for line in frames.lines(section) or ():
            key, _, value = line.partition(" ")
            if key == "type":
                records.append({})
            number = natural(value)
            if records and number is not None:
                records[-1][key] = number
        for record in records:
            node = nodes.get(record.get("node_from", -1))
            if node is None or "node_to" not in record:
                continue
            kind = LINK_KINDS.get(record.get("type", 0), "other")
            link = Link(record["node_to"], kind, record.get("weight"), record.get("max_bandwidth"))
            node.links = [*(node.links or []), link]


def _drms(frames: Frames) -> list[_Drm]:
    drms: dict[str, _Drm] = {}
    unread = {entry.path for entry in frames.unread}
    for path, text in frames.files("drm").items():
        name, _, rest = path.partition("/device/")
        drms.setdefault(name, _Drm(name)).files[rest] = text.strip()
    for drm in drms.values():
        if (minor := _minor(drm.name)) is not None:
            drm.minors.add(minor)
    for line in frames.lines("drm_map") or ():
        card, _, render = line.partition(" ")
        if card in drms and (minor := _minor(render)) is not None:
            drms[card].minors.add(minor)
        pages = f"{render}/device/ras/gpu_vram_bad_pages"
        if card == "pages" and render in drms and f"sys/class/drm/{pages}" not in unread:
            drms[render].files.setdefault("ras/gpu_vram_bad_pages", "")
    return [drm for drm in drms.values() if drm.is_amd]


def _minor(name: str) -> int | None:
    """128 of renderD128."""
    return natural(name[7:]) if name.startswith("renderD") else None


def _match(node: _Node, drms: list[_Drm]) -> tuple[_Drm | None, bool]:
    """The DRM device of a node, and whether it is the whole card of which the node is one partition."""
    minor = node.properties.get("drm_render_minor")
    own = next((drm for drm in drms if minor and minor in drm.minors), None)
    if own is not None and "mem_info_vram_total" in own.files:
        return own, False
    exact = next((drm for drm in drms if node.bdf and drm.bdf == node.bdf), None)
    if exact is not None:
        return exact, False
    place = (node.bdf or "").rpartition(".")[0]
    card = next((drm for drm in drms if place and (drm.bdf or "").rpartition(".")[0] == place), None)
    card = card or next(
        (drm for drm in drms if node.unique and drm.files.get("unique_id", "").lower() == node.unique), None
    )
    return (card, True) if card is not None else (own, False)


def _gpus(nodes: list[_Node], drms: list[_Drm]) -> tuple[Gpu, ...]:
    matches = [_match(node, drms) for node in nodes]
    partitions = Counter(drm.name for drm, _ in matches if drm is not None)
    return tuple(
        _gpu(index, node, drm, shared, alone=drm is not None and partitions[drm.name] == 1)
        for index, (node, (drm, shared)) in enumerate(zip(nodes, matches, strict=True))
    )


def _gpu(index: int, node: _Node, drm: _Drm | None, shared: bool, *, alone: bool) -> Gpu:
    """`alone`: no other node is a part of this card, so what its device says of memory and render node is this GPU's."""
    values = node.properties
    files = drm.files if drm is not None else {}
    device_id = values.get("device_id") or natural(files.get("device", ""), 16)
    simds, per_cu = values.get("simd_count"), values.get("simd_per_cu")
    cus = simds // per_cu if simds and per_cu else None
    model = model_of(device_id, cus)
    target = values.get("gfx_target_version")
    banks = sum(node.banks)
    own = alone and not shared
    total = natural(files.get("mem_info_vram_total", "")) if own else None
    minors = drm.minors if drm is not None and own else set()
    temperature, critical = sensors.temperature(files)
    return Gpu(
        index=index,
        node=node.number,
        gpu_id=node.gpu_id,
        model=model,
        gfx=(gfx_of_version(target) if target else None) or gfx_of(device_id) or gfx_of_name(node.name),
        device_id=device_id,
        cus=cus,
        xccs=values.get("num_xcc"),
        vram_bytes=banks or total or values.get("local_mem_size") or None,
        vram_used_bytes=natural(files.get("mem_info_vram_used", "")),
        render_minor=values.get("drm_render_minor") or (min(minors) if len(minors) == 1 else None),
        unique_id=node.unique or files.get("unique_id", "").lower().removeprefix("0x") or None,
        bdf=node.bdf or (drm.bdf if drm is not None else None),
        numa_node=natural(files.get("numa_node", "")),
        compute_partition=files.get("current_compute_partition") or mode_of(model, values.get("num_xcc")),
        memory_partition=files.get("current_memory_partition") or None,
        available_partitions=tuple(re.findall(r"\w+", files.get("available_compute_partition", ""))),
        hive=f"{values['hive_id']:016x}" if values.get("hive_id") else None,
        drm=drm.name if drm is not None else None,
        drm_shared=shared,
        links=tuple(node.links) if node.links is not None else None,
        ras=sensors.ras(files),
        bad_pages=sensors.bad_pages(files),
        pcie_speed=decimal(files.get("current_link_speed", "")),
        pcie_width=natural(files.get("current_link_width", "")),
        pcie_speed_max=decimal(files.get("max_link_speed", "")),
        pcie_width_max=natural(files.get("max_link_width", "")),
        pcie_replays=natural(files.get("pcie_replay_count", "")),
        temperature_c=temperature,
        temperature_crit_c=critical,
        power_cap_w=sensors.micro(files, "power1_cap"),
        power_cap_default_w=sensors.micro(files, "power1_cap_default"),
        firmware=sensors.firmware(files),
    )


def _pci(frames: Frames) -> tuple[PciGpu, ...] | None:
    lines = frames.lines("pci")
    if lines is None:
        return None
    rows = [(line + "  ").split(" ") for line in lines]
    return tuple(PciGpu(row[0], natural(row[1], 16), row[2] == "bound") for row in rows)


def _numbers(text: str) -> tuple[dict[str, int], bool]:
    """Lines `key number`, and whether all of them were. A value that is no number of the kernel's is left out."""
    found, whole = {}, True
    for line in text.split("\n"):
        key, _, value = line.strip().partition(" ")
        number = natural(value)
        if number is None:
            whole = whole and not key
        else:
            found[key] = number
    return found, whole
