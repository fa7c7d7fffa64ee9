"""A machine on which systemd is the first process: namespaces of this kernel over this machine's own files.

Needs root, Debian's systemd and a cgroup2 hierarchy. What is written there lies in memory and goes with it; of this machine it
shares the network, the clock, and the folder that it is given.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fleet.lab.cgroups import hierarchies
from tests.lab.rolls import within

REPOSITORY = Path(__file__).parents[2]
# $1 a folder for the mounts, $2 the control group, the others are directories that are the machine's too. The first process
# is told that it is in a container, and starts what any Debian starts before its services.
BOOT = """\
echo $$ >"$2/cgroup.procs"
exec unshare --mount --propagation private --pid --fork --kill-child --uts --ipc --cgroup sh -euc '
umask 022
root=$1/root
shift 2
mount -t tmpfs tmpfs "${root%/root}"
mkdir "${root%/root}/up" "${root%/root}/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=${root%/root}/up,workdir=${root%/root}/work" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
for place in /run /tmp /dev/shm; do mkdir -p "$root$place"; mount -t tmpfs -o mode=755 tmpfs "$root$place"; done
for place in "$@"; do mkdir -p "$root$place"; mount --bind "$place" "$root$place"; done
rm -rf "$root/etc/systemd/system/timers.target.wants" "$root/var/log/journal"
mkdir "$root/mnt/before"
cd "$root"
pivot_root . mnt/before
umount -l /mnt/before
hostname booted
exec env -i container=fleet PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    /lib/systemd/systemd --system --unit=basic.target --show-status=no
' boot "$@"
"""


@dataclass(frozen=True)
class Machine:
    """`pid` is its first process, as this machine counts."""

    pid: int

    def run(self, *words: str, folder: Path = Path("/"), check: bool = True) -> str:
        """What a command says there, which has to end well with `check`."""
        spaces = ("--mount", "--uts", "--ipc", "--pid", "--cgroup")
        argv = ("nsenter", "--target", str(self.pid), *spaces, "sh", "-c", 'cd "$0" && exec "$@"', str(folder), *words)
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return (done.stdout + done.stderr).strip()

    def shows(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--property", name, "--value", unit)


@contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """`folder` is the machine's too, under the same name; all its processes are gone at the end."""
    top = next(place for place, kind, _ in hierarchies() if kind == "cgroup2")
    group = top / f"fleet-booted-{folder.name}"
    group.mkdir()
    mounts = folder / "machine"
    mounts.mkdir()
    shared = [str(one) for one in (folder, REPOSITORY, sys.prefix)]
    with (folder / "boot.log").open("w") as log:
        process = subprocess.Popen(
            ("sh", "-euc", BOOT, "boot", str(mounts), str(group), *shared), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        assert within(20, lambda: bool(children.read_text().split())), (folder / "boot.log").read_text()
        machine = Machine(int(children.read_text().split()[0]))
        up = within(60, lambda: machine.run("systemctl", "is-system-running", check=False) == "running")
        assert up, (folder / "boot.log").read_text()
        yield machine
    finally:
        process.kill()  # and with it, by --kill-child, the first process and all others
        process.wait()
        assert within(20, lambda: _removed(group))


def _removed(group: Path) -> bool:
    for directory in sorted(group.rglob("*"), reverse=True):
        with suppress(OSError):
            directory.rmdir()
    with suppress(OSError):
        group.rmdir()
    return not group.exists()
