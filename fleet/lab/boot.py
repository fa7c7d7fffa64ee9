"""The first moments of a lab node: `python -m fleet.lab.boot PLAN` makes its namespaces, mounts and first process.

Every mount is made inside the node's own mount namespace and every link inside its network namespace, so the kernel
takes them all down with the last process. Prints nothing; exits 1 with one line on stderr when the node cannot start.
"""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from fleet.lab import cgroups, gpus, kernel, processes

NAMESPACES = kernel.NEWNS | kernel.NEWUTS | kernel.NEWIPC | kernel.NEWNET | kernel.NEWCGROUP
PLAIN = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
INIT = ("/usr/bin/tini", "--", "/usr/bin/sleep", "infinity")
BOOT_ID = "/proc/sys/kernel/random/boot_id"
DEVICES = {
    "null": (1, 3, 0o666),
    "zero": (1, 5, 0o666),
    "full": (1, 7, 0o666),
    "random": (1, 8, 0o666),
    "urandom": (1, 9, 0o666),
    "kmsg": (1, 11, 0o600),
    "tty": (5, 0, 0o666),
    "fuse": (10, 229, 0o666),
}


@dataclass(frozen=True)
class Plan:
    """What a node is booted from. Paths are the machine's; `disk` empty means a node without a Docker engine."""

    name: str
    lower: str
    upper: str
    work: str
    kernel: str
    mountpoint: str
    disk: str
    cgroup: str
    profile: str
    boot_id: str
    process: str
    log: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def boot(plan: Plan) -> str:
    """Start the node; returns when it stands, with an error's text or an empty string."""
    kernel.unshare(kernel.NEWPID)  # for the child; all else it leaves by itself, and this process stays outside
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        _become_init(plan, tell)
    processes.remember(Path(plan.process), child)
    os.close(tell)
    with os.fdopen(ready) as answer:
        said = answer.read()
    if said == "ready":
        return ""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return said or "the first process died"


def _become_init(plan: Plan, tell: int) -> None:
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        log = os.open(plan.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for old, new in ((null, 0), (log, 1), (log, 2)):
            os.dup2(old, new)
        found = cgroups.hierarchies()
        cgroups.join(plan.cgroup)
        kernel.unshare(NAMESPACES)  # after joining: the node's own group becomes the root that it sees
        _assemble(plan, found)
        os.write(tell, b"ready")
        os.execve(INIT[0], INIT, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})  # noqa: S606  we become the init
    except BaseException as error:  # noqa: BLE001  a forked child must never return into its parent's code
        os.write(tell, f"{plan.name}: {error}".encode())
    os._exit(1)


def _assemble(plan: Plan, found: tuple[tuple[Path, str, str], ...]) -> None:
    root = Path(plan.mountpoint)
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    layers = f"lowerdir={plan.lower},upperdir={plan.upper},workdir={plan.work}"
    kernel.mount("overlay", root, "overlay", 0, layers)
    for directory, mode in (("run", 0o755), ("tmp", 0o1777)):
        (root / directory).mkdir(exist_ok=True)
        kernel.mount("tmpfs", root / directory, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode={mode:o}")
    for directory in ("run/sshd", "run/lock"):
        (root / directory).mkdir()
    _devices(root / "dev")
    for directory in ("proc", "sys"):
        (root / directory).mkdir(exist_ok=True)
    kernel.mount("proc", root / "proc", "proc", PLAIN)
    kernel.mount("sysfs", root / "sys", "sysfs", PLAIN)
    _cgroups(root / "sys/fs/cgroup", found)
    if plan.disk:
        # mount(8) finds a free loop device and has it let go with the last mount.
        target = root / "var/lib/docker"
        target.mkdir(parents=True, exist_ok=True)
        command = ("mount", "-n", "-o", "loop,noatime,noinit_itable", plan.disk, str(target))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr.strip())
    _pretend(plan, root)
    socket.sethostname(plan.name)
    kernel.pivot_root(root)


def _devices(dev: Path) -> None:
    dev.mkdir(exist_ok=True)
    kernel.mount("tmpfs", dev, "tmpfs", kernel.MS_NOSUID, "mode=755")
    for name, (major, minor, mode) in DEVICES.items():
        os.mknod(dev / name, stat.S_IFCHR | mode, os.makedev(major, minor))
        (dev / name).chmod(mode)
    for name in ("pts", "shm", "mqueue"):
        (dev / name).mkdir()
    kernel.mount("devpts", dev / "pts", "devpts", kernel.MS_NOSUID, "newinstance,ptmxmode=0666,mode=620,gid=5")
    # As much as a real node shows; it is a limit, and takes no memory.
    kernel.mount("tmpfs", dev / "shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777,size=512g")
    kernel.mount("mqueue", dev / "mqueue", "mqueue", PLAIN)
    links = {
        "fd": "/proc/self/fd",
        "stdin": "/proc/self/fd/0",
        "stdout": "/proc/self/fd/1",
        "stderr": "/proc/self/fd/2",
    }
    for name, target in (links | {"ptmx": "pts/ptmx"}).items():
        (dev / name).symlink_to(target)


def _cgroups(target: Path, found: tuple[tuple[Path, str, str], ...]) -> None:
    """Mount the machine's hierarchies again; the node's cgroup namespace makes its own group their root."""
    unified = [kind for root, kind, _ in found if str(root) == "/sys/fs/cgroup" and kind == "cgroup2"]
    if unified:
        kernel.mount("cgroup2", target, "cgroup2", PLAIN)
        # A v2 group either holds processes or hands controllers down: the node's own live one level deeper.
        (target / "init").mkdir()
        (target / "init/cgroup.procs").write_text("0")
        cgroups.hand_down(target)
        return
    kernel.mount("tmpfs", target, "tmpfs", PLAIN, "mode=755")
    for root, kind, options in found:
        if kind == "cgroup":  # a v2 tree beside v1 has no controllers, and engines take its presence for more
            (target / root.name).mkdir()
            kept = ",".join(option for option in options.split(",") if option not in ("rw", "ro"))
            kernel.mount("cgroup", target / root.name, "cgroup", PLAIN, kept)


def _pretend(plan: Plan, root: Path) -> None:
    """Lay the GPU profile's files over /sys and /proc, and make its devices."""
    tree = gpus.tree(plan.profile, plan.name) if plan.profile else gpus.Tree()
    store = Path(plan.kernel)
    # In memory: 64 partitions are eleven thousand files, and none outlives the boot.
    kernel.mount("tmpfs", store, "tmpfs", PLAIN, "mode=755")
    for top in sorted({path.split("/")[2] for path in tree.under("/sys")}):
        upper, work = store / top / "upper", store / top / "work"
        for directory in (upper, work):
            directory.mkdir(parents=True)
        prefix = f"/sys/{top}"
        gpus.write({path.removeprefix(prefix): text for path, text in tree.under(prefix).items()}, upper)
        where = root / prefix.lstrip("/")
        kernel.mount("overlay", where, "overlay", 0, f"lowerdir={where},upperdir={upper},workdir={work}")
    files = {path: text for path, text in tree.files.items() if not path.startswith("/sys/")}
    files[BOOT_ID] = plan.boot_id + "\n"
    for path in files:
        if path.startswith("/proc/"):
            _writable(root, path, store / "proc")
    gpus.write(files, root)
    gpus.make_devices(tree.devices, root)


def _writable(root: Path, path: str, store: Path) -> None:
    """Put a plain file in the place of one in /proc. What this kernel lacks is added to a copy of its directory."""
    target = root / path.lstrip("/")
    if not target.exists():
        above = next(parent for parent in target.parents if parent.is_dir())
        texts = {}
        for file in above.iterdir():
            with contextlib.suppress(OSError):  # write-only and guarded entries stay out of the copy
                texts[file.name] = file.read_bytes()
        kernel.mount("tmpfs", above, "tmpfs", PLAIN, "mode=755")
        for name, text in texts.items():
            (above / name).write_bytes(text)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        return
    source = store / path.lstrip("/")
    source.parent.mkdir(parents=True, exist_ok=True)
    source.touch()
    kernel.bind(source, target)


def main() -> int:
    """Read the plan, boot; 1 and the reason on stderr if it failed."""
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text()))
    Path(plan.kernel).mkdir(exist_ok=True)
    try:
        problem = boot(plan)
    except OSError as error:
        problem = str(error)
    if problem:
        sys.stderr.write(problem + "\n")
    return int(bool(problem))


if __name__ == "__main__":
    sys.exit(main())
