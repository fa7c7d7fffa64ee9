"""`invoke facts` for a person: a few lines a host; everything is in `--json`."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from fleet.facts import Facts
from fleet.facts.model import Model
from fleet.report import terminal

GIB = 1 << 30


def show(facts: Mapping[str, Facts], *, verbose: bool) -> None:
    console = terminal.out()
    for name, fact in facts.items():
        console.print(f"[bold]{escape(name)}[/]")
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for title, words in _rows(fact):
            table.add_row(title, escape(words))
        console.print(table)
        if verbose:
            console.print(gpu_table(fact))


def show_captured(places: Mapping[str, Path]) -> None:
    """Where the captures lie, and how one is read back."""
    console = terminal.out()
    for name, place in places.items():
        console.print(f"{escape(name)} is captured in {escape(str(place))}", soft_wrap=True)
    first = next(iter(places.values()))
    console.print(f"Read one back with: invoke facts --root {escape(str(first))}", soft_wrap=True)


def gpu_table(fact: Facts) -> Table:
    """Every GPU with its place, memory and use."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 2))
    for title in ("#", "node", "model", "gfx", "CUs", "VRAM", "used", "render", "bus", "partition", "NUMA"):
        table.add_column(title, justify="right" if title in ("#", "node", "CUs", "VRAM", "used", "NUMA") else "left")
    for gpu in fact.gpus:
        partition = "/".join(filter(None, (gpu.compute_partition, gpu.memory_partition)))
        values = (gpu.index, gpu.node, gpu.model, gpu.gfx, gpu.cus, gib(gpu.vram_bytes), gib(gpu.vram_used_bytes))
        places = (gpu.render_minor, gpu.bdf, partition or None, gpu.numa_node)
        table.add_row(*("?" if value is None else escape(str(value)) for value in (*values, *places)))
    return table


def gpu_words(fact: Facts) -> str:
    """`8 × MI300X gfx942 SPX/NPS1 192 GiB`, one part per kind of GPU."""
    kinds = Counter(
        (
            gpu.model or "unknown GPU",
            gpu.gfx or "",
            "/".join(filter(None, (gpu.compute_partition, gpu.memory_partition))),
            gib(gpu.vram_bytes) if gpu.vram_bytes else "",
        )
        for gpu in fact.gpus
    )
    return ", ".join(f"{number} × {' '.join(filter(None, kind))}" for kind, number in kinds.items()) or "none"


def driver_words(fact: Facts) -> str:
    driver = fact.driver
    if driver.state in ("live", "builtin"):
        return driver.version or "in-tree"
    return driver.state or "?"


def docker_words(fact: Facts) -> str:
    """`20.10.24 overlay2, classic`; the state where it does not run."""
    docker = fact.docker
    if docker.state != "running":
        return docker.state or "?"
    return f"{docker.version or '?'} {docker.storage_driver or ''}, {docker.image_store or '?'} store"


def firewall_words(fact: Facts) -> str:
    """What hangs on the input hook; `not readable` where it takes root to tell."""
    bases = [chain for chain in fact.firewall.chains or () if chain.base]
    shown = "; ".join(f"{one.table} {one.name} policy {one.policy}, {len(one.rules)} rules" for one in bases)
    return "not readable" if fact.firewall.chains is None else shown or "no rules for what comes in"


def _model_words(model: Model) -> str:
    lacks = f", {len(model.missing)} files missing" if model.missing else ""
    known = gib(model.weights_bytes) if model.weights_bytes else "no weights" if not model.weights else ""
    return f"{model.name} ({known}{lacks})" if known or lacks else model.name


def gib(size: int | None) -> str | None:
    if size is None or size >= GIB:
        return None if size is None else f"{size / GIB:.0f} GiB"
    return f"{size / (1 << 20):.0f} MiB" if size >= 1 << 20 else f"{size / 1024:.0f} KiB"


def _rows(fact: Facts) -> list[tuple[str, str]]:
    system, kfd = fact.system, fact.devices.kfd
    rows = [
        ("GPUs", gpu_words(fact)),
        ("driver", f"amdgpu {driver_words(fact)}"),
        (
            "/dev/kfd",
            f"{kfd.mode:04o} {kfd.owner}:{kfd.group} (gid {kfd.gid})" if kfd else "not there or not looked at",
        ),
        ("system", f"{system.os_name or '?'}, kernel {system.kernel or '?'}"),
        ("docker", docker_words(fact)),
    ]
    if fact.docker.root_dir and (root := fact.space.get("root")):
        rows.append(("docker root", f"{fact.docker.root_dir}, {gib(root.free_bytes)} of {gib(root.total_bytes)} free"))
    if fact.models is not None:
        rows.append(("models", ", ".join(map(_model_words, fact.models)) or "none"))
    if fact.firewall.chains is not None or fact.firewall.tools:
        rows.append(("firewall", firewall_words(fact)))
    if fact.topology.processes:
        rows.append(("on the GPUs", "; ".join(f"{p.pid} {p.command or '?'}" for p in fact.topology.processes)))
    if fact.unread:
        rows.append(("not read", ", ".join(f"{unread.path} ({unread.error})" for unread in fact.unread[:6])))
    return rows
