"""Who is at work on the host: processes on the GPUs, listening ports, and the containers they live in. Pure."""

import re
import struct
from collections.abc import Mapping

from fleet.facts.frames import Frames
from fleet.facts.model import Listener, Process
from fleet.facts.words import natural, redact


def commands(frames: Frames) -> Mapping[int, str]:
    found = {}
    for line in frames.lines("commands") or ():
        pid, _, raw = line.partition(" ")
        if (number := natural(pid)) is not None:
            found[number] = redact(raw.strip("\x1f ").split("\x1f"))
    return found


def containers_of(frames: Frames) -> Mapping[int, str]:
    """Pid -> container id, from the control group's path in either cgroup version."""
    found = {}
    for path, text in frames.files("cgroups").items():
        match = re.search(r"[0-9a-f]{64}", text)
        pid = natural(path.removeprefix("proc/").removesuffix("/cgroup"))
        if match and pid is not None:
            found[pid] = match[0]
    return found


def processes(frames: Frames, commands: Mapping[int, str], containers: Mapping[int, str]) -> tuple[Process, ...] | None:
    if "sys/class/kfd/kfd/proc" not in (frames.lines("present") or ()):
        return None
    vram: dict[int, dict[int, int]] = {}
    for path, text in frames.files("process").items():
        process, _, name = path.partition("/")
        pid, gpu, size = natural(process), natural(name.removeprefix("vram_")), natural(text)
        if pid is not None and gpu is not None and size is not None:
            vram.setdefault(pid, {})[gpu] = size
    named = map(natural, " ".join(frames.lines("pids") or ()).split())
    pids = {pid for pid in named if pid is not None} | set(vram)
    return tuple(Process(pid, commands.get(pid), vram.get(pid, {}), containers.get(pid, "")) for pid in sorted(pids))


def listeners(
    frames: Frames, commands: Mapping[int, str], containers: Mapping[int, str]
) -> tuple[Listener, ...] | None:
    """Listening ports from /proc/net, which needs no tool; their owners from `ss` where it may see them."""
    if "proc/net/tcp" not in (frames.lines("present") or ()):
        return None
    owners: dict[int, int] = {}
    for line in frames.lines("sockets") or ():
        match = re.search(r":([0-9]{1,5})\s+\S+:\*.*?pid=([0-9]{1,10})", line)
        if match:
            owners.setdefault(int(match[1]), int(match[2]))
    found = set()
    for line in frames.lines("listeners") or ():
        match = re.match(r"\S+?:\s*[0-9]+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) ", line)
        if match:
            found.add((_address(match[1]), int(match[2], 16)))
    return tuple(
        Listener(address, port, pid, commands.get(pid or 0), containers.get(pid or 0, ""))
        for address, port in sorted(found, key=lambda pair: (pair[1], pair[0]))
        for pid in (owners.get(port),)
    )


def _address(raw: str) -> str:
    """The kernel prints 32-bit words in the machine's byte order, which is little-endian wherever these GPUs are."""
    words = [int(raw[at : at + 8], 16) for at in range(0, len(raw), 8)]
    data = b"".join(struct.pack("<I", word) for word in words)
    if len(data) == 4:
        return ".".join(map(str, data))
    if not any(data):
        return "::"
    if data[:12] == b"\0" * 10 + b"\xff\xff":
        return ".".join(map(str, data[12:]))
    return ":".join(f"{data[at] << 8 | data[at + 1]:x}" for at in range(0, 16, 2))


def blind_to_sockets(frames: Frames, source: str) -> bool:
    return source == "live" and bool(frames.lines("listeners")) and not frames.lines("sockets")
