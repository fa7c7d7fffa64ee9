"""The GPU accountant: a node's VRAM and KFD process entries follow whoever holds /dev/kfd there.

`python -m fleet.lab.accountant --node-pid PID`: one small process a node, PID being the node's first process as the
machine numbers it. It reads /proc every INTERVAL, writes below /proc/PID/root, and ends with the node. Its settings
are a file on the node, CONFIG, which may come, change and go at any time. Little is imported, so that it stays small.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fleet.lab import processes

INTERVAL = 0.4  # seconds between two looks; a dozen nodes share two cores
IDLE_VRAM = 299_892_736  # bytes, as in gpu_drm
NS_GET_PARENT = 0xB702  # ioctl_ns(2)
CONFIG = "usr/local/lib/amdgpu/accountant.json"
KFD = "sys/class/kfd/kfd"
DRM = "sys/class/drm"
COUNTERS = ("mem_info_vram_used", "mem_info_vis_vram_used")


@dataclass(frozen=True)
class Settings:
    """`share` of a GPU node's VRAM that a holder takes; `release_seconds` that it stays taken after the holder's end.

    `leak` is the share that holders ending now leave behind until this is 0 again.
    """

    share: float = 0.9
    release_seconds: float = 0.0
    leak: float = 0.0


@dataclass(frozen=True)
class Part:
    """A GPU node of KFD: its render minor, the card (unique id) it belongs to, its VRAM in bytes."""

    minor: int
    card: int
    gpu_id: int
    vram: int


@dataclass(frozen=True)
class Holder:
    """A process that holds /dev/kfd, by its pid in the node, and the render minors it uses."""

    pid: int
    minors: frozenset[int]


def usage(
    holders: Iterable[Holder],
    parts: Iterable[Part],
    share: float,
    leaked: Iterable[Holder] = (),
    leak: float = 0.0,
) -> dict[int, int]:
    """Bytes of VRAM used on each card: amdgpu's own, and a share of every part for each who holds it, up to all of it.

    Those who `leaked` hold nothing any more, and a share stays taken all the same.
    """
    used: dict[int, int] = {}
    taken = [*((holder, share) for holder in holders), *((holder, leak) for holder in leaked)]
    for part in parts:
        wanted = sum(int(part.vram * its_share) for holder, its_share in taken if part.minor in holder.minors)
        used[part.card] = used.get(part.card, IDLE_VRAM) + min(wanted, part.vram - IDLE_VRAM)
    return used


def masked(minors: Iterable[int], mask: str | None) -> frozenset[int]:
    """The minors that HIP would use out of those it can see; `mask` is HIP_VISIBLE_DEVICES, None when it is not set."""
    ordered = sorted(minors)
    if mask is None:
        return frozenset(ordered)
    wanted = [int(text) for text in mask.split(",") if text.strip().isdigit()]
    return frozenset(ordered[index] for index in wanted if index < len(ordered))


@dataclass
class Ledger:
    """What the node's files show at the moment, and how to change it. `root` is the node's / seen from outside."""

    root: Path
    holders: frozenset[Holder] = frozenset()
    fading: dict[Holder, float] = field(default_factory=dict)
    leaked: frozenset[Holder] = frozenset()
    written: tuple[object, ...] = ()

    def settle(self, holders: frozenset[Holder], settings: Settings, now: float) -> None:
        """Write what changed since the last look."""
        for gone in self.holders - holders:
            self.fading[gone] = now + settings.release_seconds
        self.leaked = self.leaked | (self.holders - holders) if settings.leak else frozenset()
        self.fading = {holder: until for holder, until in self.fading.items() if until > now and holder not in holders}
        self.holders = holders
        shown = (holders, frozenset(self.fading), self.leaked, settings, _mtime(self.root / KFD / "topology/nodes"))
        if shown != self.written:
            parts = tuple(read_parts(self.root))
            # Entries first: who sees VRAM in use can then also see by whom.
            self._write_processes(holders, parts, settings.share)
            used = usage((*holders, *self.fading), parts, settings.share, self.leaked, settings.leak)
            self._write_usage(used)
            self.written = shown

    def _write_usage(self, used: dict[int, int]) -> None:
        for directory in self._card_directories():
            card = int(_read(directory / "unique_id") or "0", 16)
            for name in COUNTERS:
                if card in used and (directory / name).exists():
                    _replace(directory / name, f"{used[card]}\n")

    def _card_directories(self) -> Iterator[Path]:
        yield from (self.root / DRM).glob("*/device")
        yield from (self.root / "sys/module/amdgpu/drivers/pci:amdgpu").glob("*:*")

    def _write_processes(self, holders: frozenset[Holder], parts: tuple[Part, ...], share: float) -> None:
        """/sys/class/kfd/kfd/proc/PID with its VRAM on each GPU, as kfd_process.c shows it."""
        top = self.root / KFD / "proc"
        if not top.is_dir():
            return
        wanted = {str(holder.pid): holder for holder in holders}
        for entry in top.iterdir():
            if entry.name not in wanted:
                shutil.rmtree(entry, ignore_errors=True)
        for pid, holder in wanted.items():
            (top / pid / "queues").mkdir(parents=True, exist_ok=True)
            (top / pid / "pasid").write_text(f"{32768 + holder.pid % 32768}\n")
            for part in parts:
                held = int(part.vram * share) if part.minor in holder.minors else 0
                (top / pid / f"vram_{part.gpu_id}").write_text(f"{held}\n")
                (top / pid / f"sdma_{part.gpu_id}").write_text("0\n")


def read_parts(root: Path) -> Iterator[Part]:
    """The GPU nodes that the node's own KFD topology shows."""
    for directory in (root / KFD / "topology/nodes").glob("*"):
        fields = dict(line.split() for line in _read(directory / "properties").splitlines())
        if fields.get("gfx_target_version", "0") == "0":
            continue
        bank = dict(line.split() for line in _read(directory / "mem_banks/0/properties").splitlines())
        yield Part(
            minor=int(fields["drm_render_minor"]),
            card=int(fields["unique_id"]),
            gpu_id=int(_read(directory / "gpu_id") or "0"),
            vram=int(bank.get("size_in_bytes", "0")),
        )


class Accountant:
    """One node's accountant; `look` is one round."""

    def __init__(self, init: int) -> None:
        self.started = processes.start_time(init)
        self.init = init
        self.ledger = Ledger(Path(f"/proc/{init}/root"))
        self.inside: dict[int, bool] = {}  # pid outside -> whether it belongs to the node
        self.own = _inode("/proc/self/ns/pid")
        self.namespace = _inode(f"/proc/{init}/ns/pid")
        self.depth = len(_status(init, "NSpid"))

    def run(self) -> None:
        """Look until the node is gone."""
        while self.started and processes.start_time(self.init) == self.started:
            # A fault or the lab may be changing the same files: the next look will find them whole.
            with contextlib.suppress(OSError, KeyError, ValueError):
                self.look(time.monotonic())
            time.sleep(INTERVAL)

    def look(self, now: float) -> None:
        """Bring the node's files up to date."""
        found = (read_holder(pid, self.depth) for pid in self._processes())
        self.ledger.settle(frozenset(filter(None, found)), read_settings(self.ledger.root / CONFIG), now)

    def _processes(self) -> Iterator[int]:
        """Every process inside the node, its containers included."""
        pids = {int(name) for name in _names("/proc") if name.isdigit()}
        self.inside = {pid: self.inside[pid] if pid in self.inside else self._belongs(pid) for pid in pids}
        return (pid for pid, inside in self.inside.items() if inside)

    def _belongs(self, pid: int) -> bool:
        """Whether the node's PID namespace is the process's own or one above it."""
        try:
            here = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY)
        except OSError:
            return False
        while True:
            try:
                inode = os.fstat(here).st_ino
                if inode in {self.namespace, self.own}:
                    return inode == self.namespace
                above = fcntl.ioctl(here, NS_GET_PARENT)
            except OSError:
                return False
            finally:
                os.close(here)
            here = above


def read_settings(file: Path) -> Settings:
    """The settings in `file`; the defaults where it is missing or half written."""
    try:
        return Settings(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return Settings()


def read_holder(pid: int, depth: int) -> Holder | None:
    """What this process holds of the GPUs; None when it does not hold /dev/kfd or is gone."""
    try:
        files = {_link(f"/proc/{pid}/fd/{name}") for name in _names(f"/proc/{pid}/fd")}
        if not any(path.endswith("/dev/kfd") for path in files):
            return None
        opened = frozenset(_minors(files))
        if not opened:
            seen = _minors(_names(f"/proc/{pid}/root/dev/dri"))
            opened = masked(seen, _environment(pid).get("HIP_VISIBLE_DEVICES"))
        return Holder(int(_status(pid, "NSpid")[depth - 1]), opened)
    except (OSError, IndexError):
        return None


def _minors(paths: Iterable[str]) -> Iterator[int]:
    for path in paths:
        _, mark, number = path.rpartition("renderD")
        if mark and number.isdigit():
            yield int(number)


def _environment(pid: int) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0"))
    return {name: value for name, _, value in pairs}


def _status(pid: int, key: str) -> list[str]:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return value.split()
    return []


def _names(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry in entries]


def _inode(path: str) -> int:
    return Path(path).stat().st_ino


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - called thousands of times a second
    except OSError:
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _replace(path: Path, text: str) -> None:
    """By rename, so that no reader ever meets half a number."""
    new = path.with_name(f".{path.name}")
    new.write_text(text)
    new.replace(path)


def main() -> None:
    """Parse the command line and run; started by the lab, not by people."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node-pid", type=int, required=True)
    init = parser.parse_args().node_pid
    if processes.start_time(init):
        Accountant(init).run()


if __name__ == "__main__":
    main()
