"""The GPU accountant: VRAM and KFD process entries of a lab's nodes follow whoever holds /dev/kfd there.

`python -m fleet.lab.accountant PID_FILE... [--config FILE]`: the files hold the init pids of one or more nodes. It reads
the host's /proc a few times a second and writes below /proc/PID/root. It ends when none of its nodes has lived for a few
seconds. Little is imported, so that it stays small.
"""

import argparse
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fleet.lab import processes

INTERVAL = 0.2  # seconds between two looks
PATIENCE = 5.0  # seconds without any node before the accountant goes
IDLE_VRAM = 299_892_736  # bytes, as in gpu_drm
NS_GET_PARENT = 0xB702  # ioctl_ns(2)
KFD = "sys/class/kfd/kfd"
DRM = "sys/class/drm"
COUNTERS = ("mem_info_vram_used", "mem_info_vis_vram_used")
QUIET = frozenset(("dockerd", "containerd", "docker-proxy", "registry"))  # never hold a GPU, and have many files open


@dataclass(frozen=True)
class Settings:
    """`share` of a GPU node's VRAM that a holder takes; `release_seconds` that it stays taken after the holder's end."""

    share: float = 0.9
    release_seconds: float = 0.0


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


def usage(holders: Iterable[Holder], parts: Iterable[Part], share: float) -> dict[int, int]:
    """Bytes of VRAM used on each card: amdgpu's own, and a share of every part for each who holds it, up to all of it."""
    used: dict[int, int] = {}
    for part in parts:
        wanted = sum(int(part.vram * share) for holder in holders if part.minor in holder.minors)
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
class Node:
    """One node as the accountant sees it: its init's pid outside, its PID namespace, what was last written there."""

    init: int
    namespace: int
    depth: int
    holders: frozenset[Holder] = frozenset()
    fading: dict[Holder, float] = field(default_factory=dict)
    written: tuple[object, ...] = ()  # what the files show

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self.init}/root")

    def settle(self, holders: frozenset[Holder], settings: Settings, now: float) -> None:
        """Write what changed since the last look."""
        for gone in self.holders - holders:
            self.fading[gone] = now + settings.release_seconds
        self.fading = {holder: until for holder, until in self.fading.items() if until > now and holder not in holders}
        self.holders = holders
        shown = (holders, frozenset(self.fading), settings, _mtime(self.root / KFD / "topology/nodes"))
        if shown != self.written:
            parts = tuple(read_parts(self.root))
            self._write_usage(usage((*holders, *self.fading), parts, settings.share))
            self._write_processes(holders, parts, settings.share)
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
    """All nodes of a lab; `look` is one round."""

    def __init__(self, pid_files: Iterable[Path], config: Path | None) -> None:
        self.pid_files = tuple(pid_files)
        self.config = config
        self.nodes: dict[int, Node] = {}
        self.places: dict[int, Node | None] = {}  # pid outside -> its node
        self.own = _inode("/proc/self/ns/pid")

    def run(self) -> None:
        """Look until no node is left for PATIENCE seconds."""
        alive = time.monotonic()
        while time.monotonic() - alive < PATIENCE:
            if self.look(time.monotonic()):
                alive = time.monotonic()
            time.sleep(INTERVAL)

    def look(self, now: float) -> bool:
        """Bring every node's files up to date; says whether there is any node."""
        self._find_nodes()
        settings = self._settings()
        found: dict[int, set[Holder]] = {init: set() for init in self.nodes}
        for pid, node in self._processes():
            if holder := read_holder(pid, node.depth):
                found[node.init].add(holder)
        for init, node in list(self.nodes.items()):
            try:
                node.settle(frozenset(found[init]), settings, now)
            except OSError:
                if processes.start_time(
                    init
                ):  # a fault or the lab is changing the same files: the next look will find them whole
                    continue
                del self.nodes[init]
        return bool(self.nodes)

    def _find_nodes(self) -> None:
        inits = {init for file in self.pid_files if (init := processes.recall(file))}
        for init in self.nodes.keys() - inits:
            del self.nodes[init]
        for init in inits - self.nodes.keys():
            try:
                namespace = _inode(f"/proc/{init}/ns/pid")
                depth = len(_status(init, "NSpid"))
            except OSError:
                continue
            if namespace != self.own:
                self.nodes[init] = Node(init, namespace, depth)
                self.places.clear()

    def _processes(self) -> Iterator[tuple[int, Node]]:
        """Every process inside a node, its containers included."""
        pids = {int(name) for name in _names("/proc") if name.isdigit()}
        self.places = {pid: node for pid, node in self.places.items() if pid in pids}
        for pid in pids:
            if pid not in self.places:
                self.places[pid] = self._place(pid)
            node = self.places[pid]
            if node is not None and node.init in self.nodes:
                yield pid, node

    def _place(self, pid: int) -> Node | None:
        """The node whose PID namespace is the process's own or one above it."""
        spaces = {node.namespace: node for node in self.nodes.values()}
        try:
            if _read(Path(f"/proc/{pid}/comm")).strip() in QUIET:
                return None
            here = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY)
        except OSError:
            return None
        while True:
            try:
                inode = os.fstat(here).st_ino
                if inode in spaces or inode == self.own:
                    return spaces.get(inode)
                above = fcntl.ioctl(here, NS_GET_PARENT)
            except OSError:
                return None
            finally:
                os.close(here)
            here = above

    def _settings(self) -> Settings:
        if self.config is None or not (text := _read(self.config)):
            return Settings()
        try:
            return Settings(**json.loads(text))
        except (ValueError, TypeError):  # half written: the next look reads it whole
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
    parser.add_argument("pid_file", type=Path, nargs="+", help="holds a node's init pid, as the machine counts")
    parser.add_argument("--config", type=Path, help="JSON: share, release_seconds; read again at every look")
    arguments = parser.parse_args()
    Accountant(arguments.pid_file, arguments.config).run()


if __name__ == "__main__":
    main()
