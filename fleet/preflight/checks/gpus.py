"""Which GPUs there are, against what was promised and what the image was built for."""

from fleet.facts.cards import family, gfx_of_model
from fleet.facts.model import Facts
from fleet.preflight.checks.images import of_each
from fleet.preflight.checks.words import counted, name, no_gpus, size, some
from fleet.preflight.needs import Needs, Targets
from fleet.preflight.registry import Blind, Result, checks

CPX_PROMISED, CPX_SEEN = 64, 63


@checks("gpu_nodes_readable")
def gpu_nodes_readable(facts: Facts, _needs: Needs) -> Result:
    hidden = facts.topology.hidden_nodes
    return f"KFD nodes without readable properties: {', '.join(map(str, hidden))}" if hidden else None


@checks("gpu_unbound")
def gpu_unbound(facts: Facts, _needs: Needs) -> Result:
    if facts.topology.pci is None:
        return Blind("the PCI bus")
    loose = [card.bdf for card in facts.topology.pci if not card.bound]
    return f"without a driver: {some(loose, 8)}" if loose else None


@checks("gpu_model")
def gpu_model(facts: Facts, needs: Needs) -> Result:
    if not facts.gpus:
        return Blind(no_gpus(facts))
    unknown = [f"{name(gpu)} has device id {_hex(gpu.device_id)}" for gpu in facts.gpus if gpu.model is None]
    if unknown:
        return Blind(f"the model of {some(unknown)}")
    wanted = needs.gpus.model
    if wanted and any(family(gpu.model or "") != family(wanted) for gpu in facts.gpus):
        return f"promised are {wanted}, found: {counted([gpu.model for gpu in facts.gpus])}"
    return None


@checks("gpu_count")
def gpu_count(facts: Facts, needs: Needs) -> Result:
    wanted, seen = needs.gpus.count, len(facts.gpus)
    if facts.topology.kfd is None or (facts.topology.kfd and facts.topology.nodes is None):
        return Blind("the KFD topology")
    if not wanted:
        return None if seen else "no GPU"
    if wanted == seen or (wanted, seen) == (CPX_PROMISED, CPX_SEEN):
        return None
    loose = [card.bdf for card in facts.topology.pci or () if not card.bound]
    return f"{wanted} promised, {seen} seen" + (f"; unbound on the PCI bus: {some(loose, 8)}" if loose else "")


@checks("gpu_count_cpx63")
def gpu_count_cpx63(facts: Facts, needs: Needs) -> Result:
    short = (needs.gpus.count, len(facts.gpus)) == (CPX_PROMISED, CPX_SEEN)
    return "64 promised, 63 seen: one render minor of the 64 is taken by another device" if short else None


@checks("gpu_gfx")
def gpu_gfx(facts: Facts, needs: Needs) -> Result:
    if not facts.gpus:
        return Blind(no_gpus(facts))
    if any(gpu.gfx is None for gpu in facts.gpus):
        return Blind(f"the target of {some(name(gpu) for gpu in facts.gpus if gpu.gfx is None)}")
    targets = [gpu.gfx for gpu in facts.gpus]
    wanted = gfx_of_model(needs.gpus.model) if needs.gpus.model else None
    if wanted and any(target != wanted for target in targets):
        return f"{needs.gpus.model} is {wanted}, found: {counted(targets)}"
    return f"different targets on one host: {counted(targets)}" if len(set(targets)) > 1 else None


@checks("partition_compute")
def partition_compute(facts: Facts, needs: Needs) -> Result:
    wanted = needs.gpus.compute_partition.upper()
    if not wanted:
        return None
    modes = [gpu.compute_partition for gpu in facts.gpus]
    if not modes or None in modes:
        return Blind("the compute partition mode of the GPUs")
    return f"promised is {wanted}, found: {counted(modes)}" if set(modes) != {wanted} else None


@checks("partition_memory")
def partition_memory(facts: Facts, needs: Needs) -> Result:
    wanted = needs.gpus.memory_partition.upper()
    if not wanted:
        return None
    modes = [gpu.memory_partition for gpu in facts.gpus]
    if not modes or None in modes:
        return Blind("the memory partition mode of the GPUs")
    return f"promised is {wanted}, found: {counted(modes)}" if set(modes) != {wanted} else None


@checks("partition_uniform")
def partition_uniform(facts: Facts, _needs: Needs) -> Result:
    if not facts.gpus:
        return Blind(no_gpus(facts))
    if any(gpu.compute_partition is None for gpu in facts.gpus):
        return Blind("the compute partition mode of the GPUs")
    modes = [f"{gpu.compute_partition}/{gpu.memory_partition or '?'}" for gpu in facts.gpus]
    return counted(modes) if len(set(modes)) > 1 else None


@checks("image_gfx")
def image_gfx(facts: Facts, needs: Needs) -> Result:
    targets = {gpu.gfx for gpu in facts.gpus if gpu.gfx}

    def judge(image: Targets) -> str | Blind | None:
        if not image.gfx:
            return Blind("the image does not tell its gfx targets")
        if not targets:
            return Blind(no_gpus(facts))
        missing = targets - {target.split(":")[0] for target in image.gfx}
        if not missing:
            return None
        return f"the host has {', '.join(sorted(missing))}, the image was built for {', '.join(image.gfx)}"

    return of_each(needs, judge)


@checks("aiter_gfx90a")
def aiter_gfx90a(facts: Facts, needs: Needs) -> Result:
    asking = [service.name for service in needs.services if service.aiter]
    if not asking:
        return None
    if not facts.gpus:
        return Blind(no_gpus(facts))
    old = sorted({gpu.gfx for gpu in facts.gpus if gpu.gfx == "gfx90a"})
    return f"VLLM_ROCM_USE_AITER=1 for {', '.join(asking)} on gfx90a" if old else None


@checks("gpus_enough")
def gpus_enough(facts: Facts, needs: Needs) -> Result:
    fixed = sum(service.gpus * service.replicas for service in needs.services)
    shared = sum(service.replicas for service in needs.services if not service.gpus)
    wanted, there = fixed + shared, len(facts.gpus)
    if not wanted or wanted <= there:
        return None
    if not there:
        return Blind(no_gpus(facts))
    return f"the services ask for at least {wanted} GPUs, the host has {there}"


@checks("vram_uniform")
def vram_uniform(facts: Facts, _needs: Needs) -> Result:
    if not facts.gpus:
        return Blind(no_gpus(facts))
    sizes = [gpu.vram_bytes for gpu in facts.gpus]
    if None in sizes:
        return Blind(f"the memory size of {some(name(gpu) for gpu in facts.gpus if gpu.vram_bytes is None)}")
    known = [value for value in sizes if value is not None]
    # Firmware keeps a little back, and not always the same, so one part in fifty is no difference.
    return counted([size(value) for value in known]) if max(known) - min(known) > max(known) / 50 else None


@checks("unique_ids")
def unique_ids(facts: Facts, _needs: Needs) -> Result:
    if not facts.gpus:
        return Blind(no_gpus(facts))
    if any(gpu.unique_id is None for gpu in facts.gpus):
        return Blind(f"the unique id of {some(name(gpu) for gpu in facts.gpus if gpu.unique_id is None)}")
    keys = [(gpu.unique_id, gpu.bdf) for gpu in facts.gpus]
    twins = sorted({f"{unique} at {bdf}" for unique, bdf in keys if keys.count((unique, bdf)) > 1})
    return f"several GPUs are called {some(twins)}" if twins else None


def _hex(value: int | None) -> str:
    return "unknown" if value is None else f"{value:#06x}"
