"""The probe's text -> Facts. Pure: what the probe did not say stays None, and is never guessed."""

import re
from dataclasses import replace

from fleet.facts import activity, dockerd, storage
from fleet.facts.firewall import firewall
from fleet.facts.frames import Frames, split
from fleet.facts.gpus import topology
from fleet.facts.model import (
    DeviceNode,
    Devices,
    Driver,
    Facts,
    KernelLog,
    System,
    Tuning,
    Unread,
    User,
)
from fleet.facts.models import models
from fleet.facts.words import decimal, integer, natural

UNLIMITED = -1
SYSCTLS = (
    "vm.compaction_proactiveness", "vm.compact_unevictable_allowed", "vm.max_map_count", "vm.nr_hugepages",
    "vm.overcommit_memory", "vm.swappiness", "vm.zone_reclaim_mode",
    "net.core.rmem_max", "net.core.wmem_max", "net.core.somaxconn",
)  # fmt: skip


def parse(text: str) -> Facts:
    """Facts from the probe's output. Raises FleetError when the text is not the probe's, or is cut short."""
    frames = split(text)
    source = "live" if (frames.lines("start") or ("",))[0] == "1" else "tree"
    commands = activity.commands(frames)
    engine = dockerd.docker(frames)
    first = {container.pid: container.id for container in engine.containers or () if container.pid}
    containers_of = {**first, **activity.containers_of(frames)}
    devices = _devices(frames, source)
    gpus, damaged = topology(frames)
    blind = [Unread("/proc/listeners", "ss is missing or failed")] if activity.blind_to_sockets(frames, source) else []
    return Facts(
        source=source,
        system=_system(frames),
        tuning=_tuning(frames),
        devices=devices,
        driver=_driver(frames),
        topology=replace(gpus, processes=activity.processes(frames, commands, containers_of)),
        docker=engine,
        space=storage.space(frames),
        models=models(frames),
        listeners=activity.listeners(frames, commands, containers_of),
        firewall=firewall(frames),
        kernel_log=_kernel_log(frames),
        user=_user(frames),
        unread=(*frames.unread, *damaged, *blind),
    )


def _system(frames: Frames) -> System:
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', frames.text("etc/os-release") or "", re.MULTILINE))
    memory = {
        key: kib * 1024
        for key, value in re.findall(r"(\w+):\s+(\d+) kB", "\n".join(frames.lines("memory") or ()))
        if (kib := natural(value)) is not None
    }
    uptime = (frames.text("proc/uptime") or "").split(" ")[0]
    clock = natural((frames.lines("time") or ("",))[0])
    tools = frames.lines("tools")
    return System(
        hostname=frames.text("proc/sys/kernel/hostname"),
        os=release.get("ID"),
        os_version=release.get("VERSION_ID"),
        os_name=release.get("PRETTY_NAME"),
        kernel=frames.text("proc/sys/kernel/osrelease"),
        boot_id=frames.text("proc/sys/kernel/random/boot_id"),
        cmdline=frames.text("proc/cmdline"),
        uptime_s=decimal(uptime),
        cpus=_cpus(frames.text("sys/devices/system/cpu/online")),
        memory_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        rocm_version=frames.text("opt/rocm/.info/version"),
        epoch_s=None if clock is None else float(clock),
        flock=None if tools is None else "flock" in tools,
    )


def _cpus(text: str | None) -> int | None:
    """`0-63,128-191` -> 128."""
    if not text or not re.fullmatch(r"[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*", text):
        return None
    count = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count if count > 0 else None


def _tuning(frames: Frames) -> Tuning:
    present = frames.lines("present") or ()
    limits = dict(line.split(" ", 1) for line in frames.lines("limits") or () if " " in line)
    pages = re.search(r"\[(\w+)\]", frames.text("sys/kernel/mm/transparent_hugepage/enabled") or "")
    engine = next((text for path, text in frames.files("files").items() if path.endswith("/limits")), "")
    shm = storage.space(frames).get("shm")
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
        sysctls={name: frames.text(f"proc/sys/{name.replace('.', '/')}") for name in SYSCTLS},
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
            if path.startswith("var/lib/dkms/amdgpu/") and (name := path.rpartition("/")[2])[:1].isdigit()
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
    match = re.match(r"([0-7]{1,6}) ([0-9]{1,10}) ([0-9]{1,10}) (\S+) (\S+) (/\S+) (.*)$", line)
    if match is None:
        return None
    mode, uid, gid, owner, group, path, kind = match.groups()
    return DeviceNode(path, kind == "character special file", int(mode, 8), int(uid), int(gid), owner, group)


def _kernel_log(frames: Frames) -> KernelLog:
    lines = frames.lines("kernel_log")
    return KernelLog(lines[1:] if lines and lines[0] == "readable" else None)


def _user(frames: Frames) -> User:
    lines = frames.lines("user") or ()
    text = lines[0] if lines else ""
    name = re.match(r"uid=(\d+)(?:\(([^)]*)\))?", text)
    groups = re.search(r"groups=(\S+)", text)
    login = [line[6:] for line in lines if line.startswith("login=")]
    sudo = next((line[5:] for line in lines if line.startswith("sudo=")), "")
    return User(
        name=(name[2] or "") if name else "",
        uid=natural(name[1]) if name else None,
        groups=tuple(re.findall(r"\(([^)]*)\)", groups[1])) if groups else (),
        sudo_user=sudo,
        login_groups=tuple(login[0].split()) if login and login[0].strip() else None,
    )
