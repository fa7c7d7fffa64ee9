"""Faults of the lab's nodes: break one in a named way, mend it whole again.

What is broken is recorded before it is broken, in the lab's data directory, and every undo works from what it finds: so
mending works after a crash, twice, and from another process. Faults of the hardware are changes of a Machine value
(gpu_model); the node's files are brought to whatever all recorded changes together give.
"""

import errno
import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import FleetError, UsageError
from fleet.lab import gpu_host, gpu_model, gpus, processes
from fleet.lab.gpu_model import Machine

if TYPE_CHECKING:
    from fleet.lab.lab import Lab
    from fleet.lab.node import Node

KEPT_KEYS = "etc/ssh/before"
FILLER = "var/lib/docker/filler"
ROOM_LEFT = 8 << 20  # bytes: enough for the engine to answer, too little for a layer
CLOCK_OFFSET = 3600  # seconds
CHUNK = 1 << 30  # bytes at once: the filesystem needs blocks of its own for each, which no single request leaves it
BUSY_PID = "run/finetune.pid"
BUSY_COMMAND = "finetune"  # what sleep calls itself there
UNITS = {"": 1, "s": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}

Options = dict[str, str]


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


# Effects, each with its undo


def _hold_gpu(node: "Node", _options: Options) -> None:
    """Somebody's training run on the first GPU."""
    parts = _hardware(node, ()).parts
    open_files = f"exec 5</dev/kfd 6</dev/dri/renderD{parts[0].minor}" if parts else "exec 5</dev/kfd"
    script = f"echo $$ >/{BUSY_PID}; {open_files}; exec -a '{BUSY_COMMAND}' sleep infinity"
    node.exec(("setsid", "--fork", "sh", "-c", 'exec bash -c "$1" >/dev/null 2>&1 </dev/null', "sh", script))


def _free_gpu(node: "Node") -> None:
    script = f'pid=$(cat /{BUSY_PID}) && kill "$pid" && rm -f /{BUSY_PID}'
    node.exec(("sh", "-c", script), check=False)


def _stop_docker(node: "Node", _options: Options) -> None:
    _needs_engine(node)
    node.stop_engine()


def _start_docker(node: "Node") -> None:
    node.start_engine()


def _fill_disk(node: "Node", _options: Options) -> None:
    """A file as large as all that is free: the next layer meets a real ENOSPC."""
    _needs_engine(node)
    target = node.root / FILLER
    with target.open("wb") as file:
        while (chunk := min(_free_bytes(target.parent) - ROOM_LEFT, CHUNK)) > 0:
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), chunk)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return


def _free_bytes(directory: Path) -> int:
    disk = os.statvfs(directory)
    return disk.f_bfree * disk.f_frsize


def _empty_disk(node: "Node") -> None:
    (node.root / FILLER).unlink(missing_ok=True)


def _change_host_keys(node: "Node", _options: Options) -> None:
    kept = node.root / KEPT_KEYS
    if not kept.exists():
        kept.mkdir(mode=0o700)
        for file in sorted(kept.parent.glob("ssh_host_*")):
            file.rename(kept / file.name)
    node.new_host_keys()


def _restore_host_keys(node: "Node") -> None:
    kept = node.root / KEPT_KEYS
    if kept.exists():
        for file in kept.iterdir():
            file.rename(kept.parent / file.name)
        kept.rmdir()
        node.stop_sshd()
        node.start_sshd()


def _stop_sshd(node: "Node", _options: Options) -> None:
    node.stop_sshd()


def _start_sshd(node: "Node") -> None:
    node.start_sshd()


def _cut_links(node: "Node", options: Options) -> None:
    """At once, or `after` so many seconds (2s) or bytes over the link (20MB)."""
    after = options.get("after", "")
    if not after:
        node.link_down()
        return
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|B|kB|MB|GB|)", after)
    if not found:
        raise UsageError(f"after={after} is neither seconds nor bytes", hint="for example after=2s or after=20MB")
    amount = float(found[1]) * UNITS[found[2]]
    limit = ("--seconds", str(amount)) if found[2] in {"", "s"} else ("--bytes", str(int(amount)))
    started = subprocess.Popen(
        (sys.executable, "-m", "fleet.lab.fault_cut", *limit, *(link.outside for link in node.links)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).resolve().parents[2],
        start_new_session=True,
    )
    processes.remember(_cutter(node), started.pid)


def _plug_links(node: "Node") -> None:
    processes.end(_cutter(node))
    node.link_up()


def _cutter(node: "Node") -> Path:
    return node.paths.run / f"{node.name}.cut.pid"


def _reboot(node: "Node", _options: Options) -> None:
    node.reboot()


def _set_clock_off(node: "Node", _options: Options) -> None:
    node.set_clock(CLOCK_OFFSET)


def _set_clock_right(node: "Node") -> None:
    node.set_clock(0)


def _needs_engine(node: "Node") -> None:
    if not node.spec.engine:
        raise UsageError(f"{node.name} has no Docker engine to break")


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
    "gpu-busy": Fault("a foreign process holds the first GPU", apply=_hold_gpu, undo=_free_gpu, gone_with_reboot=True),
    "docker-stopped": Fault("dockerd does not run", apply=_stop_docker, undo=_start_docker, gone_with_reboot=True),
    "docker-disk-full": Fault("no room under Docker's root", apply=_fill_disk, undo=_empty_disk),
    "hostkey-changed": Fault("other ssh host keys", apply=_change_host_keys, undo=_restore_host_keys),
    "sshd-down": Fault("nobody listens on port 22", apply=_stop_sshd, undo=_start_sshd, gone_with_reboot=True),
    "link-cut": Fault(
        "the network cable is out; after=2s or after=20MB pulls it later",
        apply=_cut_links,
        undo=_plug_links,
        options=("after",),
        gone_with_reboot=True,
    ),
    "rebooted": Fault("the node was rebooted", apply=_reboot),
    "clock-off": Fault("the clock is an hour fast", apply=_set_clock_off, undo=_set_clock_right),
}
