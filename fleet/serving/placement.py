"""Which replica of which service owns which GPUs of a host, and on which port. Pure."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fleet.inventory.settings import Service
from fleet.report.hosts import runs


@dataclass(frozen=True)
class Gpu:
    """One GPU as HIP counts it. `render_minor` names /dev/dri/renderD<minor>; `vram_bytes` 0 means unknown."""

    index: int
    gfx: str
    render_minor: int
    hive: str = ""
    numa_node: int = -1
    vram_bytes: int = 0


@dataclass(frozen=True)
class Replica:
    """One container to be: its GPUs, its port, and whether it is alone with all GPUs of the host."""

    service: str
    number: int
    port: int
    gpus: tuple[Gpu, ...]
    tensor_parallel: int
    whole_host: bool

    @property
    def name(self) -> str:
        """The container's name; the first replica counts from 0."""
        return f"{self.service}-{self.number}"


@dataclass(frozen=True)
class Placement:
    """`problems` forbid to go on; `notes` are worth saying."""

    replicas: tuple[Replica, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def place(services: Iterable[Service], gpus: Sequence[Gpu], heads: Mapping[str, int] | None = None) -> Placement:
    """Share a host's GPUs out to the replicas of its services, disjoint, neighbours of one hive and NUMA node first.

    `heads` maps a model to its number of attention heads, as config.json says (num_attention_heads).
    """
    services = tuple(services)
    notes: list[str] = []
    problems = [*_refusals(services)]
    counts = _counts(services, len(gpus), notes, problems)
    free = sorted(gpus, key=lambda gpu: (gpu.hive, gpu.numa_node, gpu.index))
    replicas: list[Replica] = []
    total = sum(service.replicas for service in services)
    for service in services:
        for number in range(service.replicas):
            own = tuple(free[: counts[service.name]])
            if not own or len(own) < counts[service.name]:
                continue
            del free[: len(own)]
            size, said, wrong = tensor_parallel(service, len(own), (heads or {}).get(service.model))
            name = f"{service.name}-{number}"
            notes += [f"{name}: {text}" for text in said]
            problems += [f"{name}: {text}" for text in wrong]
            if len({gpu.gfx for gpu in own}) > 1:
                problems.append(f"{name}: its GPUs are of different kinds ({', '.join(sorted({g.gfx for g in own}))})")
            whole = total == 1 and len(own) == len(gpus)
            replicas.append(Replica(service.name, number, service.port + number, own, size, whole))
    if free and services and not problems:
        notes.append(f"{_gpus(len(free))} of {len(gpus)} left unused: index {_indices(free)}")
    problems += _port_clashes(replicas)
    return Placement(tuple(replicas), tuple(notes), tuple(problems))


def tensor_parallel(service: Service, gpus: int, heads: int | None) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """The tensor-parallel size of one replica with `gpus` GPUs, with what is to be said and what is wrong.

    `auto` takes the largest size that divides the attention heads, which vLLM demands; where the heads are unknown
    the largest power of two, because head counts of published models divide by those.
    """
    others = _size(service, "pipeline-parallel-size") * _size(service, "data-parallel-size")
    room = gpus // others
    if room < 1:
        return 1, (), (f"pipeline and data parallel need {others} GPUs, the replica has {gpus}",)
    wanted = service.tensor_parallel_size
    by_hand = service.args.get("tensor-parallel-size", service.args.get("tensor_parallel_size"))
    if by_hand is not None:
        if wanted != "auto":
            return 1, (), ("tensor-parallel-size is set twice, as a setting and in args: keep one",)
        if by_hand != "auto" and not (str(by_hand).isdecimal() and int(str(by_hand))):
            return 1, (), (f"tensor-parallel-size {by_hand!r} is neither a number above 0 nor auto",)
        wanted = by_hand if by_hand == "auto" else int(str(by_hand))
    said: tuple[str, ...] = ()
    if wanted != "auto":
        size = _number(wanted)
        if size > room:
            return size, (), (f"tensor-parallel-size {size} needs {_gpus(size * others)}, the replica has {gpus}",)
        if heads and heads % size:
            return size, (), (f"tensor-parallel-size {size} does not divide the model's {heads} attention heads",)
    elif heads:
        size = max(n for n in range(1, room + 1) if heads % n == 0)
    else:
        size = 1 << (room.bit_length() - 1)
        said = (f"attention heads unknown, tensor-parallel-size {size} is the largest power of two",)
    if size * others < gpus:
        why = f" ({heads} attention heads)" if heads and wanted == "auto" else ""
        said += (f"tensor-parallel-size {size}{why} leaves {_gpus(gpus - size * others)} of {gpus} unused",)
    return size, said, ()


def _counts(services: Sequence[Service], available: int, notes: list[str], problems: list[str]) -> dict[str, int]:
    """GPUs of each replica by service: as asked for, or an even share of what the others leave."""
    fixed = sum(service.gpus * service.replicas for service in services)
    sharing = sum(service.replicas for service in services if not service.gpus)
    share, rest = divmod(max(available - fixed, 0), sharing) if sharing else (0, 0)
    if not services:
        return {}
    if fixed > available or (sharing and not share):
        asked = ", ".join(f"{s.name} {s.replicas} x {s.gpus or 'an even share'}" for s in services)
        needed = fixed + sharing
        problems.append(f"not enough GPUs: {asked} need at least {needed}, the host has {available}")
        return {service.name: 0 for service in services}
    if rest:
        notes.append(f"{available - fixed} GPUs do not share evenly among {sharing} replicas")
    return {service.name: service.gpus or share for service in services}


def _refusals(services: Iterable[Service]) -> list[str]:
    return [
        f"{service.name}: one model over {service.nodes} nodes is planned, not there yet: set nodes: 1 and pick a "
        "model or a quantization that fits one host"
        for service in services
        if service.nodes > 1
    ]


def _port_clashes(replicas: Sequence[Replica]) -> list[str]:
    return [
        f"port {one.port} is wanted by {one.name} and {two.name}: move the port of one service"
        for one, two in itertools.combinations(replicas, 2)
        if one.port == two.port
    ]


def _size(service: Service, flag: str) -> int:
    return max(_number(service.args.get(flag, service.args.get(flag.replace("-", "_"), 1))), 1)


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | str) and str(value).isdigit() else 1


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"


def _indices(gpus: Iterable[Gpu]) -> str:
    """Three and more in a row as `5 to 63`."""
    return ", ".join(
        f"{first} to {last}" if last - first > 1 else ", ".join(map(str, range(first, last + 1)))
        for first, last in runs(gpu.index for gpu in gpus)
    )
