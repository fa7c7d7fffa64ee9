"""The pretended GPUs of a lab node, as files and devices: `tree(profile, node)` is all that the lab needs to know."""

import io
import os
import shutil
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from fleet.lab import gpu_drm, gpu_host, gpu_kfd
from fleet.lab.gpu_drm import Device
from fleet.lab.gpu_model import PROFILES, Machine, machine

__all__ = ["PROFILES", "Device", "Tree", "apply", "machine", "render", "tree", "write"]

COMMANDS = ("/usr/local/bin/", "/usr/local/sbin/")
KEEP_VALUE = ("/mem_info_vram_used", "/mem_info_vis_vram_used")  # the accountant writes these while the node lives


@dataclass(frozen=True)
class Tree:
    """Absolute path on the node -> content. A path that ends in "/" is an empty directory; /usr/local/*bin/* run."""

    files: dict[str, str] = field(default_factory=dict)
    devices: tuple[Device, ...] = ()

    def under(self, prefix: str) -> dict[str, str]:
        """The files below one directory, with their absolute paths."""
        return {path: text for path, text in self.files.items() if path.startswith(prefix.rstrip("/") + "/")}


def tree(profile: str, node: str) -> Tree:
    """The files and devices of a node called `node` with this profile's GPUs. Raises UsageError: unknown profile."""
    return render(machine(profile, node))


def render(hardware: Machine) -> Tree:
    """The files and devices that show this hardware."""
    files = gpu_kfd.files(hardware) | gpu_drm.files(hardware) | gpu_host.files(hardware)
    return Tree(files, gpu_drm.devices(hardware))


def write(files: dict[str, str], root: Path) -> None:
    """Write `files` below `root`: parents are made, commands are made to run, existing files are overwritten in place."""
    for path, text in files.items():
        target = root / path.lstrip("/")
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        # In place and never by rename: some of these files are bind mounts.
        target.write_text(text)
        if path.startswith(COMMANDS):
            target.chmod(0o755)


def make_devices(devices: tuple[Device, ...], root: Path) -> None:
    """Make the device nodes below `root` with their owner and mode, replacing what stands there. Needs root."""
    for device in devices:
        target = root / device.path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        os.mknod(target, stat.S_IFCHR | device.mode, os.makedev(device.major, device.minor))
        os.chown(target, device.uid, device.gid)
        target.chmod(device.mode)


def apply(before: Tree, after: Tree, root: Path) -> None:
    """Turn a running node's files and devices from `before` into `after`; `root` is the node's / seen from outside.

    Only differences are touched, and counters that the accountant keeps are left alone where they stay.
    """
    needed = {str(parent) for path in after.files for parent in Path(path).parents}
    for path in sorted(before.files.keys() - after.files.keys(), reverse=True):
        _remove(root, path, needed)
    write({path: text for path, text in after.files.items() if _differs(path, before, after, root)}, root)
    gone = {device.path for device in before.devices} - {device.path for device in after.devices}
    for path in gone:
        (root / path.lstrip("/")).unlink(missing_ok=True)
    make_devices(tuple(device for device in after.devices if not _stands(device, root)), root)


def driver_archive(loaded: Tree, unloaded: Tree) -> bytes:
    """A tar of everything that loading the driver brings back; the node's modprobe unpacks it over its root."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, text in loaded.files.items():
            if path not in unloaded.files:
                _pack(tar, path, text)
        for device in loaded.devices:
            if device not in unloaded.devices:
                entry = tarfile.TarInfo(device.path.lstrip("/"))
                entry.type, entry.mode, entry.gid = tarfile.CHRTYPE, device.mode, device.gid
                entry.devmajor, entry.devminor = device.major, device.minor
                tar.addfile(entry)
    return packed.getvalue()


def _pack(tar: tarfile.TarFile, path: str, text: str) -> None:
    entry = tarfile.TarInfo(path.strip("/"))
    if path.endswith("/"):
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)
        return
    data = text.encode()
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _differs(path: str, before: Tree, after: Tree, root: Path) -> bool:
    target = root / path.lstrip("/")
    if path.endswith("/"):
        return not target.is_dir()
    if not target.exists():
        return True
    return not path.endswith(KEEP_VALUE) and (
        before.files.get(path) != after.files[path] or target.read_text() != after.files[path]
    )


def _remove(root: Path, path: str, needed: set[str]) -> None:
    """Remove one entry, and its parent directories up to the first that is still needed."""
    target = root / path.strip("/")
    if path.endswith("/"):
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)
    for parent in Path(path).parents:
        if len(parent.parts) < 4 or str(parent) in needed:
            return
        try:
            (root / str(parent).lstrip("/")).rmdir()
        except OSError:
            return


def _stands(device: Device, root: Path) -> bool:
    try:
        found = (root / device.path.lstrip("/")).stat()
    except FileNotFoundError:
        return False
    return (
        stat.S_ISCHR(found.st_mode)
        and stat.S_IMODE(found.st_mode) == device.mode
        and (found.st_uid, found.st_gid) == (device.uid, device.gid)
        and found.st_rdev == os.makedev(device.major, device.minor)
    )
