"""Prepare a node on disk before its first boot: upper layer, accounts, host keys, and a disk for its Docker engine."""

import os
import shutil
import stat
import uuid
from pathlib import Path

from fleet.lab import host, keys
from fleet.lab.files import (
    EMPTY,
    MODES,
    REGISTRY_CONFIG,
    REGISTRY_DEFAULT,
    USER_ID,
    VISIBLE,
    File,
    accounts,
    home,
    node_files,
)
from fleet.lab.paths import NodePaths, Paths
from fleet.lab.topology import NodeSpec, Topology

DISK_SIZE = 32 << 30  # bytes of a sparse file: what preflight sees as the size of Docker's root
OPAQUE = "trusted.overlay.opaque"  # overlayfs: this directory hides the one below it


def prepare(topology: Topology, paths: Paths, spec: NodeSpec, lower: Path) -> None:
    """Make the files of a node that is not running; whatever a killed `up` left of them is thrown away first."""
    node = paths.node(spec.name)
    shutil.rmtree(node.data, ignore_errors=True)
    node.work.mkdir(parents=True)
    node.upper.mkdir()
    _hide(node.upper, lower)
    _accounts(node.upper, lower, spec)
    keys.host_keys(node.upper, spec.name)
    for file in (
        *node_files(topology, spec, public_key(paths), uuid.uuid4().hex),
        *_registry_files(topology, paths, spec),
    ):
        _write(node.upper, file)
    _own_home(node.upper, spec)
    if spec.engine:
        _disk(node)
    node.prepared.touch()


def public_key(paths: Paths) -> str:
    return paths.client_key.with_suffix(".pub").read_text()


def _hide(upper: Path, lower: Path) -> None:
    """Hide what is the machine's own: unknown things at the top by whiteouts, places full of its data by empty ones."""
    tops = {Path(name).parts[0] for name in EMPTY} | VISIBLE
    for entry in lower.iterdir():
        if entry.name not in tops:
            os.mknod(upper / entry.name, stat.S_IFCHR, os.makedev(0, 0))  # overlayfs: a whiteout
    for name in EMPTY:
        directory = upper / name
        _parents(upper, directory)
        directory.mkdir(exist_ok=True)
        os.setxattr(directory, OPAQUE, b"y")
        directory.chmod(MODES.get(name, 0o755))


def _parents(upper: Path, path: Path) -> None:
    for parent in reversed(path.relative_to(upper).parents):
        directory = upper / parent
        if not directory.is_dir():
            directory.mkdir()
            directory.chmod(0o755)


def _accounts(upper: Path, lower: Path, spec: NodeSpec) -> None:
    names = ("passwd", "group", "shadow")
    passwd, group, shadow = ((lower / "etc" / name).read_text() for name in names)
    texts = accounts(passwd, group, shadow, spec.user)
    for name, text in zip(names, texts, strict=True):
        _write(upper, File(f"/etc/{name}", text.encode(), 0o640 if name == "shadow" else 0o644))


def _registry_files(topology: Topology, paths: Paths, spec: NodeSpec) -> tuple[File, ...]:
    if spec.user == "dev" and topology.registry:
        # Whoever logs in without root depends on an administrator for the registry's CA, and here is what that one did.
        return (File(f"/etc/docker/certs.d/{topology.registry}/ca.crt", paths.ca.read_bytes()),)
    if spec.role != "registry":
        return ()
    directory = "/etc/docker/registry"
    copies = ("registry.pem", "registry.key", "htpasswd")
    return (
        File(f"{directory}/config.yml", REGISTRY_CONFIG.encode()),
        File("/etc/default/docker-registry", REGISTRY_DEFAULT.encode()),
        *(File(f"{directory}/{name}", (paths.keys / name).read_bytes(), 0o600) for name in copies),
    )


def _write(upper: Path, file: File) -> None:
    target = upper / file.path.lstrip("/")
    _parents(upper, target)
    target.write_bytes(file.content)
    target.chmod(file.mode)
    os.chown(target, file.uid, file.gid)


def _own_home(upper: Path, spec: NodeSpec) -> None:
    """Give the login user its home; sshd refuses keys in one that others may write."""
    directory = upper / home(spec.user).lstrip("/")
    owner = 0 if spec.user == "root" else USER_ID
    for path in (directory, directory / ".ssh"):
        os.chown(path, owner, owner)
        path.chmod(0o700)


def _disk(node: NodePaths) -> None:
    with node.disk.open("wb") as image:
        image.truncate(DISK_SIZE)
    # No journal: the node's life is short, and every byte would be written twice.
    host.run(("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "nodiscard", str(node.disk)))
