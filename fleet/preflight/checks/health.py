"""Is the hardware well, and is it free? Sources: Linux' amdgpu RAS and thermal documents, ROCm/cvs' host checks."""

from collections.abc import Iterator, Mapping

from fleet.facts.model import Container, Facts, Gpu, Process
from fleet.preflight.checks.words import name, no_gpus, size, some
from fleet.preflight.kernel import meaning
from fleet.preflight.needs import Needs
from fleet.preflight.registry import Blind, Result, Told, checks
from fleet.preflight.vram import RESIDUE, Dirty, evidence, remedy

TAKEN = 0.1  # vLLM asks for nine tenths of the memory by default
IDLE = 64 * 1024**2
MESH = "gfx942"  # every card of a hive is linked to every other one; gfx90a is not


def _ours(facts: Facts, needs: Needs) -> Mapping[str, Container]:
    """Containers of this fleet, and those that may be taken over, by id."""
    return {
        container.id: container
        for container in facts.docker.containers or ()
        if container.service or container.name in needs.take_over
    }


def _foreign(facts: Facts, needs: Needs) -> tuple[Process, ...] | None:
    if facts.topology.processes is None:
        return None
    ours = _ours(facts, needs)
    return tuple(process for process in facts.topology.processes if process.container not in ours)


def _described(facts: Facts, process: Process) -> str:
    owner = next((c for c in facts.docker.containers or () if c.id == process.container), None)
    where = f" in container {owner.name} ({owner.image})" if owner else ""
    return f"pid {process.pid}{where} holds {size(sum(process.vram.values()))}: {process.command or 'unknown command'}"


@checks("gpu_foreign")
def gpu_foreign(facts: Facts, needs: Needs) -> Result:
    foreign = _foreign(facts, needs)
    if foreign is None:
        return Blind("the processes in /sys/class/kfd/kfd/proc")
    busy = [p for p in foreign if p.command is not None and (sum(p.vram.values()) > IDLE or not p.vram)]
    return some(_described(facts, process) for process in busy) or None


@checks("gpu_idle_process")
def gpu_idle_process(facts: Facts, needs: Needs) -> Result:
    idle = [p for p in _foreign(facts, needs) or () if p.command is not None and 0 <= sum(p.vram.values()) <= IDLE]
    return some(_described(facts, process) for process in idle if process.vram) or None


@checks("kfd_leftovers")
def kfd_leftovers(facts: Facts, needs: Needs) -> Result:
    foreign = _foreign(facts, needs)
    if foreign is None:
        return Blind("the processes in /sys/class/kfd/kfd/proc")
    gone = [f"pid {p.pid} ({size(sum(p.vram.values()))})" for p in foreign if p.command is None]
    return f"KFD still counts processes that nobody can see: {some(gone)}" if gone else None


def _used_by_nobody(facts: Facts) -> Iterator[tuple[Gpu, int, int | None]]:
    """(GPU, used, total) where no process is known that could hold the memory; a whole card for partitions."""
    held = {gpu_id for process in facts.topology.processes or () for gpu_id in process.vram}
    seen = set()
    for gpu in facts.gpus:
        mates = [other for other in facts.gpus if other.card == gpu.card]
        key = (gpu.card, gpu.drm)
        if gpu.vram_used_bytes is None or key in seen or any(mate.gpu_id in held for mate in mates):
            continue
        seen.add(key)
        sizes = [mate.vram_bytes for mate in mates if mate.drm == gpu.drm]
        yield gpu, gpu.vram_used_bytes, sum(filter(None, sizes)) if all(sizes) else None


def _anybody(facts: Facts) -> bool:
    return any(not process.vram for process in facts.topology.processes or ())


@checks("vram_free")
def vram_free(facts: Facts, needs: Needs) -> Result:
    if not facts.gpus:
        return Blind(no_gpus(facts))
    silent = [name(gpu) for gpu in facts.gpus if gpu.vram_used_bytes is None]
    if silent:
        return Blind(f"the memory in use on {some(silent)}")
    if _anybody(facts):
        return None  # somebody holds a GPU, and is judged by who it is
    lost = [
        Dirty(gpu, used, total)
        for gpu, used, total in _used_by_nobody(facts)
        if total and used > RESIDUE and used > total * TAKEN
    ]
    return Told(evidence(lost), remedy(facts, lost, needs.host or "this host")) if lost else None


@checks("vram_residue")
def vram_residue(facts: Facts, _needs: Needs) -> Result:
    if _anybody(facts):
        return None
    some_left = [
        f"{name(gpu)}: {size(used)}"
        for gpu, used, total in _used_by_nobody(facts)
        if used > RESIDUE and (total is None or used <= total * TAKEN)
    ]
    return f"in use, and no process holds it: {some(some_left)}" if some_left else None


def _ras(facts: Facts, kind: str) -> Iterator[str]:
    told = set()
    for gpu in facts.gpus:
        for block, counters in (gpu.ras or {}).items():
            if counters.get(kind) and (gpu.drm, block) not in told:
                told.add((gpu.drm, block))
                yield f"{name(gpu)} {block}: {counters[kind]}"


def _ras_blind(facts: Facts) -> Blind | None:
    silent = [name(gpu) for gpu in facts.gpus if gpu.ras is None]
    if not facts.gpus:
        return Blind(no_gpus(facts))
    return Blind(f"the error counters of {some(silent)}") if silent else None


@checks("ras_uncorrectable")
def ras_uncorrectable(facts: Facts, _needs: Needs) -> Result:
    return some(_ras(facts, "ue")) or _ras_blind(facts)


@checks("ras_correctable")
def ras_correctable(facts: Facts, _needs: Needs) -> Result:
    return some(_ras(facts, "ce")) or _ras_blind(facts)


@checks("bad_pages")
def bad_pages(facts: Facts, _needs: Needs) -> Result:
    if not facts.gpus:
        return Blind(no_gpus(facts))
    bad = [f"{name(gpu)}: {gpu.bad_pages}" for gpu in facts.gpus if gpu.bad_pages and not gpu.drm_shared]
    if bad:
        return some(bad)
    silent = [name(gpu) for gpu in facts.gpus if gpu.bad_pages is None]
    return Blind(f"the bad pages of {some(silent)}") if silent else None


@checks("pcie_link")
def pcie_link(facts: Facts, _needs: Needs) -> Result:
    if not facts.gpus:
        return Blind(no_gpus(facts))
    slow, silent = [], []
    for gpu in facts.gpus:
        now, most = (gpu.pcie_speed, gpu.pcie_width), (gpu.pcie_speed_max, gpu.pcie_width_max)
        if None in now or None in most:
            silent.append(name(gpu))
        elif any((at or 0) < (top or 0) for at, top in zip(now, most, strict=True)):
            slow.append(f"{name(gpu)}: {now[0]:g} GT/s x{now[1]} of {most[0]:g} GT/s x{most[1]}")
    return some(slow) or (Blind(f"the PCIe link of {some(silent)}") if silent else None)


@checks("pcie_replays")
def pcie_replays(facts: Facts, _needs: Needs) -> Result:
    counted = [f"{name(gpu)}: {gpu.pcie_replays}" for gpu in facts.gpus if gpu.pcie_replays and not gpu.drm_shared]
    if counted:
        return some(counted)
    silent = [name(gpu) for gpu in facts.gpus if gpu.pcie_replays is None]
    return Blind(f"the replay counter of {some(silent)}") if silent else None


@checks("xgmi_links")
def xgmi_links(facts: Facts, _needs: Needs) -> Result:
    if len(facts.gpus) < 2:
        return None
    if any(gpu.links is None for gpu in facts.gpus):
        return Blind(f"the links of {some(name(gpu) for gpu in facts.gpus if gpu.links is None)}")
    lonely = []
    for gpu in facts.gpus:
        mates = {other.node for other in facts.gpus if other.hive == gpu.hive and other.node != gpu.node}
        reached = {link.to_node for link in gpu.links or () if link.kind == "xgmi"}
        missing = mates - reached if gpu.hive else set()
        if gpu.hive is None and gpu.gfx == MESH:
            lonely.append(f"{name(gpu)} is in no hive")
        elif missing and (gpu.gfx == MESH or missing == mates):
            lonely.append(f"{name(gpu)} has XGMI to {len(mates) - len(missing)} of {len(mates)} in its hive")
    return some(lonely) or None


@checks("temperature")
def temperature(facts: Facts, _needs: Needs) -> Result:
    if not facts.gpus:
        return Blind(no_gpus(facts))
    hot = [
        f"{name(gpu)}: {gpu.temperature_c:g} °C of {gpu.temperature_crit_c:g} °C"
        for gpu in facts.gpus
        if gpu.temperature_c is not None
        and gpu.temperature_crit_c is not None
        and gpu.temperature_c >= gpu.temperature_crit_c - 5
    ]
    silent = [name(gpu) for gpu in facts.gpus if gpu.temperature_c is None or gpu.temperature_crit_c is None]
    return some(hot) or (Blind(f"the temperature of {some(silent)}") if silent else None)


@checks("power_cap")
def power_cap(facts: Facts, _needs: Needs) -> Result:
    if not facts.gpus:
        return Blind(no_gpus(facts))
    lowered = [
        f"{name(gpu)}: {gpu.power_cap_w:g} W of {gpu.power_cap_default_w:g} W"
        for gpu in facts.gpus
        if gpu.power_cap_w is not None and gpu.power_cap_default_w and gpu.power_cap_w < gpu.power_cap_default_w
    ]
    silent = [name(gpu) for gpu in facts.gpus if gpu.power_cap_w is None or gpu.power_cap_default_w is None]
    return some(lowered) or (Blind(f"the power cap of {some(silent)}") if silent else None)


@checks("kernel_log")
def kernel_log(facts: Facts, _needs: Needs) -> Result:
    lines = facts.kernel_log.lines
    if lines is None:
        return Blind("the kernel's log (dmesg)")
    kinds: dict[str, list[str]] = {}
    for line in lines:
        kinds.setdefault(meaning(line), []).append(line)
    return some(f"{kind} ({len(found)} x, last: {found[-1].strip()})" for kind, found in kinds.items()) or None
