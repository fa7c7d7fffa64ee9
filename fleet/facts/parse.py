"""The probe's text -> Facts. Pure: what the probe did not say stays None, and is never guessed."""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fleet.facts import dockerd
from fleet.facts.frames import Frames, split
from fleet.facts.gpus import topology
from fleet.facts.model import (
    DeviceNode,
    Devices,
    Driver,
    Facts,
    KernelLog,
    Listener,
    Model,
    Process,
    Space,
    System,
    Tuning,
    Unread,
    User,
)
from fleet.facts.words import integer, redact

UNLIMITED = -1


def parse(text: str) -> Facts:
    """Facts from the probe's output. Raises FleetError when the text is not the probe's, or is cut short."""
    frames = split(text)
    source = "live" if (frames.lines("start") or ("",))[0] == "1" else "tree"
    commands = _commands(frames)
    engine = dockerd.docker(frames)
    first = {container.pid: container.id for container in engine.containers or () if container.pid}
    containers_of = {**first, **_containers_of(frames)}
    devices = _devices(frames, source)
    extra = [Unread("/proc/listeners", "ss is missing or failed")] if _blind_to_sockets(frames, source) else []
    return Facts(
        source=source,
        system=_system(frames),
        tuning=_tuning(frames),
        devices=devices,
        driver=_driver(frames),
        topology=replace(topology(frames), processes=_processes(frames, commands, containers_of)),
        docker=engine,
        space=_space(frames),
        models=_models(frames),
        listeners=_listeners(frames, commands, containers_of),
        kernel_log=_kernel_log(frames),
        user=_user(frames),
        unread=(*frames.unread, *extra),
    )


def _system(frames: Frames) -> System:
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', frames.text("etc/os-release") or "", re.MULTILINE))
    memory = {
        key: int(value) * 1024
        for key, value in re.findall(r"(\w+):\s+(\d+) kB", "\n".join(frames.lines("memory") or ()))
    }
    uptime = (frames.text("proc/uptime") or "").split(" ")[0]
    clock = (frames.lines("time") or ("",))[0] if frames.lines("time") else ""
    return System(
        hostname=frames.text("proc/sys/kernel/hostname"),
        os=release.get("ID"),
        os_version=release.get("VERSION_ID"),
        os_name=release.get("PRETTY_NAME"),
        kernel=frames.text("proc/sys/kernel/osrelease"),
        boot_id=frames.text("proc/sys/kernel/random/boot_id"),
        cmdline=frames.text("proc/cmdline"),
        uptime_s=float(uptime) if re.fullmatch(r"\d+(\.\d+)?", uptime) else None,
        cpus=_cpus(frames.text("sys/devices/system/cpu/online")),
        memory_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        rocm_version=frames.text("opt/rocm/.info/version"),
        epoch_s=float(clock) if clock.isdigit() else None,
    )


def _cpus(text: str | None) -> int | None:
    """`0-63,128-191` -> 128."""
    if not text or not re.fullmatch(r"[\d,-]+", text):
        return None
    count = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count


def _tuning(frames: Frames) -> Tuning:
    present = frames.lines("present") or ()
    limits = dict(line.split(" ", 1) for line in frames.lines("limits") or () if " " in line)
    pages = re.search(r"\[(\w+)\]", frames.text("sys/kernel/mm/transparent_hugepage/enabled") or "")
    engine = next((text for path, text in frames.files("files").items() if path.endswith("/limits")), "")
    shm = _space(frames).get("shm")
    apparmor = frames.text("sys/module/apparmor/parameters/enabled")
    return Tuning(
        numa_balancing=integer(frames.text("proc/sys/kernel/numa_balancing")),
        governor=frames.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        transparent_hugepage=pages[1] if pages else None,
        iommu_present=any(path.startswith("sys/class/iommu/") for path in present) if "sys/module" in present else None,
        memlock_kib=_limit(limits.get("memlock")),
        nofile=_limit(limits.get("nofile")),
        nofile_hard=_limit(limits.get("nofile_hard")),
        engine_memlock_bytes=_hard(engine, "Max locked memory"),
        engine_nofile=_hard(engine, "Max open files"),
        shm_bytes=shm.total_bytes if shm else None,
        cgroup=_cgroup(frames, present),
        selinux=_selinux(frames, present),
        apparmor=None if apparmor is None else apparmor == "Y",
    )


def _limit(text: str | None) -> int | None:
    return UNLIMITED if text == "unlimited" else integer(text)


def _hard(limits: str, name: str) -> int | None:
    """The hard limit of a line of /proc/PID/limits: name, soft, hard, unit."""
    match = re.search(rf"^{name}\s+(\S+)\s+(\S+)", limits, re.MULTILINE)
    return _limit(match[2]) if match else None


def _cgroup(frames: Frames, present: tuple[str, ...]) -> int | None:
    if frames.text("sys/fs/cgroup/cgroup.controllers") is not None:
        return 2
    return 1 if "sys/fs/cgroup" in present else None


def _selinux(frames: Frames, present: tuple[str, ...]) -> str | None:
    enforce = frames.text("sys/fs/selinux/enforce")
    if enforce is not None:
        return "enforcing" if enforce == "1" else "permissive"
    if "sys/fs/selinux" in present:
        return None
    return "disabled" if "sys/module" in present else None


def _driver(frames: Frames) -> Driver:
    present = frames.lines("present") or ()
    state = frames.text("sys/module/amdgpu/initstate")
    if state is None:
        if "sys/module/amdgpu" in present:
            state = "builtin"
        elif "sys/module" in present:
            state = "absent"
    if state is not None and any(entry.path.endswith("amdgpu/initstate") for entry in _denied(frames)):
        state = None
    disk = dict(re.findall(r"^(\w+):\s*(.*)$", "\n".join(frames.lines("modinfo") or ()), re.MULTILINE))
    return Driver(
        state=state,
        version=frames.text("sys/module/amdgpu/version"),
        srcversion=frames.text("sys/module/amdgpu/srcversion"),
        disk_version=disk.get("version"),
        disk_srcversion=disk.get("srcversion"),
        dkms=tuple(
            name
            for path in present
            if path.startswith("var/lib/dkms/amdgpu/") and (name := path.rpartition("/")[2])[0].isdigit()
        ),
    )


def _denied(frames: Frames) -> tuple[Unread, ...]:
    return tuple(entry for entry in frames.unread if entry.error != "ENOENT")


def _devices(frames: Frames, source: str) -> Devices:
    present = frames.lines("present") or ()
    if source == "tree" and "dev/kfd" not in present and "dev/dri" not in present:
        return Devices()
    nodes = [node for line in frames.lines("devices") or () if (node := _device(line)) is not None]
    return Devices(
        kfd_present="dev/kfd" in present,
        kfd=next((node for node in nodes if node.path == "/dev/kfd"), None),
        kfd_usable="dev/kfd:usable" in present if source == "live" else None,
        render=tuple(node for node in nodes if node.path != "/dev/kfd") if source == "live" else None,
    )


def _device(line: str) -> DeviceNode | None:
    match = re.match(r"([0-7]+) (\d+) (\d+) (\S+) (\S+) (/\S+) (.*)$", line)
    if match is None:
        return None
    mode, uid, gid, owner, group, path, kind = match.groups()
    return DeviceNode(path, kind == "character special file", int(mode, 8), int(uid), int(gid), owner, group)


def _commands(frames: Frames) -> Mapping[int, str]:
    found = {}
    for line in frames.lines("commands") or ():
        pid, _, raw = line.partition(" ")
        if pid.isdigit():
            found[int(pid)] = redact(raw.strip("\x1f ").split("\x1f"))
    return found


def _containers_of(frames: Frames) -> Mapping[int, str]:
    """Pid -> container id, from the control group's path in either cgroup version."""
    found = {}
    for path, text in frames.files("cgroups").items():
        match = re.search(r"[0-9a-f]{64}", text)
        if match:
            found[int(path.split("/")[1])] = match[0]
    return found


def _processes(
    frames: Frames, commands: Mapping[int, str], containers: Mapping[int, str]
) -> tuple[Process, ...] | None:
    if "sys/class/kfd/kfd/proc" not in (frames.lines("present") or ()):
        return None
    vram: dict[int, dict[int, int]] = {}
    for path, text in frames.files("process").items():
        pid, _, name = path.partition("/")
        size = integer(text)
        if pid.isdigit() and name[5:].isdigit() and size is not None:
            vram.setdefault(int(pid), {})[int(name[5:])] = size
    pids = {int(line) for line in " ".join(frames.lines("pids") or ()).split() if line.isdigit()} | set(vram)
    return tuple(Process(pid, commands.get(pid), vram.get(pid, {}), containers.get(pid, "")) for pid in sorted(pids))


def _space(frames: Frames) -> Mapping[str, Space]:
    """Lines: `key there|absent AT<tab>PATH`, then `fs …` and `dev …` for every AT that was measured."""
    rows, rooms, devices = [], {}, {}
    for line in frames.lines("space") or ():
        if match := re.match(r"fs (\d+) (\d+) (\d+) (\d+) (\d+) (.*)$", line):
            rooms[match[6]] = tuple(map(int, match.groups()[:5]))
        elif match := re.match(r"dev (\d+) (.*)$", line):
            devices[match[2]] = int(match[1])
        elif match := re.match(r"(\w+) (there|absent) (.*)\t(.*)$", line):
            rows.append(match.groups())
    found = {}
    for key, there, at, path in rows:
        if at in rooms:
            free, block, total, free_nodes, all_nodes = rooms[at]
            nodes = free_nodes if all_nodes else None  # btrfs and others count no inodes
            found[key] = Space(path, there == "there", free * block, total * block, nodes, devices.get(at))
    return found


def _models(frames: Frames) -> tuple[Model, ...] | None:
    lines = frames.lines("models")
    if lines is None:
        return None
    configs = {path.removesuffix("/config.json"): text for path, text in frames.files("configs").items()}
    found = []
    for line in lines:
        match = re.match(r"(?:config|-) (weights|-) (.+)$", line)
        if match is None:
            continue  # a directory with a newline in its name
        weights, name = match.groups()
        config = _json(configs.get(name, ""))
        inner: dict[str, Any] = next(
            (config[key] for key in ("text_config", "llm_config") if isinstance(config.get(key), dict)), {}
        )
        both = {**inner, **config}
        architectures = config.get("architectures")
        found.append(
            Model(
                name,
                weights == "weights",
                attention_heads=_whole(both, "num_attention_heads", "n_head", "n_heads"),
                kv_heads=_whole(both, "num_key_value_heads"),
                model_type=str(config["model_type"]) if "model_type" in config else None,
                architectures=tuple(map(str, architectures)) if isinstance(architectures, list) else (),
                max_positions=_whole(both, "max_position_embeddings"),
            )
        )
    return tuple(found)


def _whole(values: Mapping[str, Any], *names: str) -> int | None:
    return next((values[name] for name in names if isinstance(values.get(name), int)), None)


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _listeners(
    frames: Frames, commands: Mapping[int, str], containers: Mapping[int, str]
) -> tuple[Listener, ...] | None:
    """Listening ports from /proc/net, which needs no tool; their owners from `ss` where it may see them."""
    if "proc/net/tcp" not in (frames.lines("present") or ()):
        return None
    owners: dict[int, int] = {}
    for line in frames.lines("sockets") or ():
        match = re.search(r":(\d+)\s+\S+:\*.*?pid=(\d+)", line)
        if match:
            owners.setdefault(int(match[1]), int(match[2]))
    found = set()
    for line in frames.lines("listeners") or ():
        match = re.match(r"\S+?:\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) ", line)
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


def _blind_to_sockets(frames: Frames, source: str) -> bool:
    return source == "live" and bool(frames.lines("listeners")) and not frames.lines("sockets")


def _kernel_log(frames: Frames) -> KernelLog:
    lines = frames.lines("kernel_log")
    return KernelLog(lines[1:] if lines and lines[0] == "readable" else None)


def _user(frames: Frames) -> User:
    lines = frames.lines("user") or ()
    text = lines[0] if lines else ""
    name = re.match(r"uid=(\d+)(?:\(([^)]*)\))?", text)
    groups = re.search(r"groups=(\S+)", text)
    sudo = next((line[5:] for line in lines if line.startswith("sudo=")), "")
    return User(
        name=(name[2] or "") if name else "",
        uid=int(name[1]) if name else None,
        groups=tuple(re.findall(r"\(([^)]*)\)", groups[1])) if groups else (),
        sudo_user=sudo,
    )
