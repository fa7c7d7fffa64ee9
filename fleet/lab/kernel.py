"""The few system calls that Python 3.11 has no function for. x86-64 and arm64 Linux."""

import ctypes
import os
import platform
from pathlib import Path

NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID, NEWNET = (
    0x00020000,
    0x02000000,
    0x04000000,
    0x08000000,
    0x20000000,
    0x40000000,
)
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x8, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, doing: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{doing}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the machine's namespaces named by `flags`. Raises OSError."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: Path | str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount `source` of filesystem type `kind` at `target`. Raises OSError that names both."""
    result = _libc.mount(
        source.encode(), str(target).encode(), kind.encode(), ctypes.c_ulong(flags), options.encode() or None
    )
    _check(result, f"mount {kind or source} on {target}")


def bind(source: Path, target: Path) -> None:
    """Show the file or directory `source` at `target` too."""
    mount(str(source), target, flags=MS_BIND)


def pivot_root(new_root: Path) -> None:
    """Make `new_root` (a mount) the root of this mount namespace and let go of the old one."""
    os.chdir(new_root)
    _check(_libc.syscall(PIVOT_ROOT[platform.machine()], b".", b"."), f"pivot_root {new_root}")
    _check(_libc.umount2(b".", MNT_DETACH), "umount the old root")
    os.chdir("/")
