"""How evidence is worded."""

from collections.abc import Iterable, Sequence

from fleet.facts.model import Facts, Gpu

GIB = 1024**3


def size(count: float) -> str:
    """Bytes for people: 1.5 GiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 1024**2:.0f} MiB"


def name(gpu: Gpu) -> str:
    """GPU 3 (0000:05:00.0)."""
    return f"GPU {gpu.index} ({gpu.bdf})" if gpu.bdf else f"GPU {gpu.index}"


def some(parts: Iterable[str], limit: int = 4) -> str:
    """The first few, and how many more."""
    every = list(parts)
    shown = "; ".join(every[:limit])
    return f"{shown}; and {len(every) - limit} more" if len(every) > limit else shown


def counted(values: Sequence[object]) -> str:
    """7 x SPX, 1 x CPX."""
    kinds = dict.fromkeys(values)
    return ", ".join(f"{sum(value == kind for value in values)} x {kind}" for kind in kinds)


def no_gpus(facts: Facts) -> str:
    """Why there is nothing to look at."""
    return "no GPU node could be seen" if not facts.topology.hidden_nodes else "the GPU nodes could not be read"
