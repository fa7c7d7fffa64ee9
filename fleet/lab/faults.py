"""Faults of the lab's nodes: break one in a named way, mend it whole again.

What is broken is recorded before it is broken, in the lab's data directory, and every undo works from what it finds: so
mending works after a crash, twice, and from another process. Faults of the hardware are changes of a Machine value
(gpu_model); the node's files are brought to whatever all recorded changes together give.
"""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import FleetError, UsageError
from fleet.lab import fault_effects as effects
from fleet.lab import gpu_host, gpu_model, gpus
from fleet.lab.fault_effects import Options
from fleet.lab.gpu_model import Machine

if TYPE_CHECKING:
    from fleet.lab.lab import Lab
    from fleet.lab.node import Node


@dataclass(frozen=True)
class Fault:
    """A way to be broken. `hardware` changes the pretended machine; `apply` and `undo` act on the node.

    `gone_with_reboot`: a real node would lose this fault by booting, and so does the lab's.
    """

    help: str
    hardware: Callable[[Machine], Machine] | None = None
    apply: Callable[["Node", Options], None] = lambda _node, _options: None
    undo: Callable[["Node"], None] = lambda _node: None
    options: tuple[str, ...] = ()
    gone_with_reboot: bool = False


def inject(lab: "Lab", fault: str, host: str, **options: str) -> None:
    """Break `host` by `fault`; options may also stand in the name, as in `link-cut:after=2s`.

    A fault that the host already has changes nothing (but `rebooted` reboots again). Raises UsageError for an unknown
    fault, host or option, and for a fault that this node cannot have.
    """
    name, given = _parse(fault)
    options |= given
    known = FAULTS[name]
    if wrong := sorted(set(options) - set(known.options)):
        raise UsageError(f"the fault {name} has no option {wrong[0]!r}", hint=f"it has: {_or_none(known.options)}")
    node = lab.node(host)
    with _record(lab) as record:
        before = tuple(record.get(host, ()))
        if name in before and name != "rebooted":
            return
        after = (*(other for other in before if other != name), name)
        if known.hardware:
            _hardware(node, after)  # refuses what this node cannot have, before anything is recorded
        record[host] = list(after)
        _write(lab, record)
        _show_hardware(node, before, after)
        try:
            known.apply(node, options)
        except UsageError:  # refused, nothing was touched
            record[host] = list(before)
            raise
        except OSError as error:
            hint = f"invoke lab.mend {host} --lab {lab.name}"
            raise FleetError(f"lab node {host}: breaking it by {name} failed half-way: {error}", hint=hint) from error
        if name == "rebooted":
            record[host] = list(_reapply(node, after))


def mend(lab: "Lab", host: str) -> None:
    """Undo every recorded fault of `host`; nothing for a host that has none. Starts the node if it is down."""
    node = lab.node(host)
    with _record(lab) as record:
        broken = tuple(record.get(host, ()))
        if not broken:
            return
        if not node.running:
            node.start()
        for name in reversed(broken):
            FAULTS[name].undo(node)
        _show_hardware(node, broken, ())
        del record[host]


def recorded(lab: "Lab") -> dict[str, tuple[str, ...]]:
    """The faults of every broken host, oldest first."""
    return {host: tuple(names) for host, names in _read(lab).items()}


def _reapply(node: "Node", broken: tuple[str, ...]) -> tuple[str, ...]:
    """After a boot: break the node again in every way that a boot does not heal, and tidy up after the rest."""
    left = tuple(name for name in broken if not FAULTS[name].gone_with_reboot)
    for name in broken:
        if name not in left:
            FAULTS[name].undo(node)
    _show_hardware(node, broken, left)
    for name in left:
        if name != "rebooted":
            FAULTS[name].apply(node, {})
    return left


def _parse(fault: str) -> tuple[str, Options]:
    name, _, rest = fault.partition(":")
    if name not in FAULTS:
        raise UsageError(f"there is no fault {name!r}", hint=f"known: {', '.join(sorted(FAULTS))}")
    pairs = (option.partition("=") for option in rest.split(",") if option)
    return name, {key: value for key, _, value in pairs}


def _or_none(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


# The record


def _file(lab: "Lab") -> Path:
    return lab.paths.data / "faults.json"


def _read(lab: "Lab") -> dict[str, list[str]]:
    try:
        found: dict[str, list[str]] = json.loads(_file(lab).read_text())
    except FileNotFoundError:
        return {}
    return found


def _write(lab: "Lab", record: dict[str, list[str]]) -> None:
    new = _file(lab).with_suffix(".new")
    new.write_text(json.dumps(record, indent=1))
    new.replace(_file(lab))


@contextmanager
def _record(lab: "Lab") -> Iterator[dict[str, list[str]]]:
    """The record, for one writer at a time; what was changed in it is written at the end."""
    with _file(lab).with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = _read(lab)
        try:
            yield record
        finally:
            _write(lab, {host: names for host, names in record.items() if names})


# Hardware


def _hardware(node: "Node", broken: tuple[str, ...]) -> Machine:
    """The node's machine with all these faults. Raises UsageError for a node without GPUs."""
    if not node.spec.profile:
        raise UsageError(f"{node.name} has no GPUs to break")
    machine = gpu_model.machine(node.spec.profile, node.name)
    for name in broken:
        change = FAULTS[name].hardware
        machine = change(machine) if change else machine
    return machine


def _show_hardware(node: "Node", before: tuple[str, ...], after: tuple[str, ...]) -> None:
    if not any(FAULTS[name].hardware for name in (*before, *after)):
        return
    whole = gpus.render(_hardware(node, ()))
    old, new = gpus.render(_hardware(node, before)), gpus.render(_hardware(node, after))
    # What stands on the node is one of the two: a fault may have been half applied, or healed by a boot.
    gpus.apply(gpus.Tree(whole.files | old.files, (*whole.devices, *old.devices)), new, node.root)
    archive = node.root / gpu_host.UNLOADED.lstrip("/")
    if "amdgpu-absent" in after:
        loaded = gpus.render(_hardware(node, tuple(name for name in after if name != "amdgpu-absent")))
        archive.write_bytes(gpus.driver_archive(loaded, new))
    else:
        archive.unlink(missing_ok=True)


FAULTS: dict[str, Fault] = {
    "kfd-missing": Fault("no /dev/kfd", hardware=lambda machine: replace(machine, kfd_mode=None)),
    "kfd-0600": Fault(
        "/dev/kfd is for root only",
        hardware=lambda machine: replace(machine, kfd_mode=0o600),
        gone_with_reboot=True,
    ),
    "amdgpu-absent": Fault(
        "the driver is not loaded; `modprobe amdgpu` on the node loads it",
        hardware=gpu_model.without_driver,
        gone_with_reboot=True,
    ),
    "driver-in-tree": Fault("the kernel's own driver, without a version", hardware=gpu_model.with_driver_in_tree),
    "driver-pending-reboot": Fault(
        "another driver on disk than in the kernel",
        hardware=gpu_model.with_newer_driver_on_disk,
        gone_with_reboot=True,
    ),
    "gpu-missing": Fault("one GPU fewer than promised", hardware=gpu_model.without_one_gpu),
    "gfx-wrong": Fault("GPUs of another generation than promised", hardware=gpu_model.with_other_gpus),
    "partition-changed": Fault(
        "CPX where SPX was, or the other way round",
        hardware=gpu_model.with_other_partition,
        gone_with_reboot=True,
    ),
    "ras-ue": Fault(
        "uncorrectable memory errors on the first GPU",
        hardware=lambda machine: replace(machine, uncorrectable=3),
    ),
    "numa-balancing-on": Fault(
        "kernel.numa_balancing is 1",
        hardware=lambda machine: replace(machine, numa_balancing=True),
        gone_with_reboot=True,
    ),
    "gpu-busy": Fault(
        "a foreign process holds the first GPU", apply=effects.hold_gpu, undo=effects.free_gpu, gone_with_reboot=True
    ),
    "vram-leak": Fault(
        "processes that end leave the GPUs' memory taken; share=0.2 leaves less",
        apply=effects.leak_vram,
        undo=effects.regain_vram,
        options=("share",),
        gone_with_reboot=True,
    ),
    "docker-stopped": Fault(
        "dockerd does not run", apply=effects.stop_docker, undo=effects.start_docker, gone_with_reboot=True
    ),
    "docker-disk-full": Fault("no room under Docker's root", apply=effects.fill_disk, undo=effects.empty_disk),
    "hostkey-changed": Fault("other ssh host keys", apply=effects.change_host_keys, undo=effects.restore_host_keys),
    "sshd-down": Fault(
        "nobody listens on port 22", apply=effects.stop_sshd, undo=effects.start_sshd, gone_with_reboot=True
    ),
    "link-cut": Fault(
        "the network cable is out; after=2s or after=20MB pulls it later",
        apply=effects.cut_links,
        undo=effects.plug_links,
        options=("after",),
        gone_with_reboot=True,
    ),
    "rebooted": Fault("the node was rebooted", apply=effects.reboot),
    "clock-off": Fault("the clock is an hour fast", apply=effects.set_clock_off, undo=effects.set_clock_right),
}
