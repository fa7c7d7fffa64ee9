"""GPUs whose memory did not come back: which, how much, held by whom, and what to type. Pure.

A process that is killed in the middle of HIP work can leave its memory taken until a reset (sgl-project/sglang#30431).
amdgpu resets all GPUs of an XGMI hive together, so nothing here resets one by itself.
Source: Linux, drivers/gpu/drm/amd/amdgpu/amdgpu_device.c (amdgpu_device_gpu_recover), amd-smi's `reset`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fleet.facts.model import Facts, Gpu, Process

GIB = 1024**3
RESIDUE = 1 * GIB  # an idle card keeps a few hundred MiB for itself
SHOWN = 8  # GPUs that are named one by one: all of a usual host's, or one card's partitions


def idle(total: int) -> int:
    """The most that an idle GPU of so many bytes has in use: its baseline."""
    return RESIDUE + total // 50


@dataclass(frozen=True)
class Dirty:
    """A GPU (or the partitions of one card that were asked for) with memory in use. Bytes.

    `used` is without what processes on the card's other partitions hold. `holders` are those that KFD shows on it.
    """

    gpu: Gpu
    used: int
    total: int
    holders: tuple[Process, ...] = ()

    def fits(self, share: float) -> bool:
        """Would vLLM start with this gpu-memory-utilization? It wants so much of the whole to be free."""
        return self.total - self.used >= int(self.total * share)

    @property
    def state(self) -> str:
        who = ", ".join(f"pid {one.pid} ({one.command or 'gone'})" for one in self.holders)
        return (
            f"{self.used / GIB:.1f} of {self.total / GIB:.1f} GiB in use, at most {idle(self.total) / GIB:.1f} when idle; "
            f"held by {who or 'no process that KFD knows'}"
        )

    def __str__(self) -> str:
        return f"{label(self.gpu)}: {self.state}"


def label(gpu: Gpu) -> str:
    """renderD128 (0000:05:00.0, unique id 9f…)."""
    name = f"renderD{gpu.render_minor}" if gpu.render_minor is not None else f"GPU {gpu.index}"
    more = [gpu.bdf or "", f"unique id {gpu.unique_id}" if gpu.unique_id else ""]
    told = ", ".join(filter(None, more))
    return f"{name} ({told})" if told else name


def dirty(facts: Facts, minors: Collection[int] | None = None) -> tuple[Dirty, ...]:
    """Those of the GPUs with these render minors (None = all) that hold more than their baseline.

    A card in partitions has one counter. What is on the other partitions is then known only as KFD tells it.
    """
    processes = facts.topology.processes or ()
    found = []
    seen = set()
    for gpu in facts.gpus:
        key = (gpu.card, gpu.drm)
        if gpu.vram_used_bytes is None or key in seen:
            continue
        seen.add(key)
        mates = [other for other in facts.gpus if (other.card, other.drm) == key]
        mine = [one for one in mates if minors is None or one.render_minor in minors]
        others = [one for one in mates if one not in mine]
        if not mine or not all(one.vram_bytes for one in mine) or (others and any(not one.vram for one in processes)):
            continue
        used = gpu.vram_used_bytes - sum(one.vram.get(other.gpu_id or -1, 0) for one in processes for other in others)
        total = sum(one.vram_bytes or 0 for one in mine)
        if used > idle(total):
            found.append(Dirty(mine[0], used, total, _holders(processes, mine)))
    return tuple(found)


def _holders(processes: Sequence[Process], gpus: Sequence[Gpu]) -> tuple[Process, ...]:
    """Who has memory on one of them, or does not tell where."""
    ids = {gpu.gpu_id for gpu in gpus}
    return tuple(one for one in processes if not one.vram or any(one.vram.get(gpu or -1, 0) for gpu in ids))


def evidence(found: Sequence[Dirty]) -> str:
    """GPUs in the same state are told together."""
    alike: dict[str, list[str]] = {}
    for one in found:
        alike.setdefault(one.state, []).append(label(one.gpu))
    told = []
    for state, labels in alike.items():
        more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
        told.append(f"{', '.join(labels[:SHOWN])}{more}: {'each ' if len(labels) > 1 else ''}{state}")
    return "; ".join(told)


def summary(found: Sequence[Dirty]) -> str:
    """One line, however many GPUs: `8 GPUs (renderD128 … renderD184) hold 173.1 GiB each of 192.0, and no process …`."""
    names = [f"renderD{one.gpu.render_minor}" for one in found]
    which = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
    most = max(found, key=lambda one: one.used)
    pids = sorted({process.pid for one in found for process in one.holders})
    who = f"pid {', '.join(map(str, pids))} still on them" if pids else "no process on them"
    count = "1 GPU" if len(found) == 1 else f"{len(found)} GPUs"
    return f"{count} ({which}) with up to {most.used / GIB:.1f} of {most.total / GIB:.1f} GiB in use and {who}"


def remedy(facts: Facts, found: Sequence[Dirty], host: str) -> str:
    """What to type. While somebody holds the memory, ending him is all; a reset is for what nobody holds."""
    living = sorted({one.pid for entry in found for one in entry.holders if one.command is not None})
    check = f"then: invoke preflight --limit {host}"
    if living:
        pids = " ".join(map(str, living))
        return (
            f"on {host}: ps -o pid,etime,args -p {','.join(map(str, living))}; end what should not be there with "
            f"kill -TERM {pids} (never -9: that is how memory is lost); {check}"
        )
    places = " ".join(one.gpu.bdf or f"renderD{one.gpu.render_minor}" for one in found)
    hives = _hives(facts, found)
    warning = (
        f"a reset takes every GPU of the XGMI hive with it, here {hives}, so stop what runs on them first "
        f"(invoke stop --limit {host}); "
        if hives
        else f"stop what runs on the same card first (invoke stop --limit {host}); "
    )
    return (
        f"nothing is reset by itself; {warning}then on {host}: sudo amd-smi reset --gpureset -g {places}; if the memory "
        f"is still taken, reboot the host; {check}"
    )


def _hives(facts: Facts, found: Sequence[Dirty]) -> str:
    """The GPUs that share a hive with those found, by render node; empty where no hive is known."""
    hives = {one.gpu.hive for one in found if one.gpu.hive}
    gpus = [gpu for gpu in facts.gpus if gpu.hive in hives]
    if len(gpus) < 2:
        return ""
    names = [f"renderD{gpu.render_minor}" for gpu in gpus if gpu.render_minor is not None]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
