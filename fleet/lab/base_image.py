"""The stand-in's base image: a small Debian 12 with Python and git, and the marks by which ROCm images are known.

Made once by debootstrap (about a minute) and kept as an OCI layout.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleet.errors import FleetError
from fleet.lab import host
from fleet.lab.paths import CACHE
from fleet.lab.rootfs import MIRROR

NAME = "rocm/vllm-dev:base"
ROCM = "6.4.3"
PACKAGES = ("python3", "git", "ca-certificates")
NEEDLESS = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "var/log",
    "dev",
)
EPOCH = "2025-01-01T00:00:00Z"
ENVIRONMENT = {
    "PATH": host.PATH + ":/opt/rocm/bin",
    "ROCM_PATH": "/opt/rocm",
    "PYTORCH_ROCM_ARCH": "gfx90a;gfx942",
    "AITER_ROCM_ARCH": "gfx942",
    "HSA_NO_SCRATCH_RECLAIM": "1",
}
FILES = {
    "opt/rocm/.info/version": f"{ROCM}-128\n",
    "app/versions.txt": f"BASE_IMAGE: rocm/dev-ubuntu-22.04:{ROCM}-complete\nPYTORCH_BRANCH: f717b2af\nAITER_BRANCH: v0.1.5\n",
    "etc/resolv.conf": "",
    "etc/hostname": "standin\n",
}
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def base_layout(cache: Path = CACHE, *, say: Callable[[str], None] = lambda _: None) -> Path:
    """The cached OCI layout (tag `base`), made now if it is not there; a second caller waits for the first."""
    cache.mkdir(parents=True, exist_ok=True)
    ready = cache / "vllm-base"
    with (cache / "vllm-base.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ready.is_dir():
            return ready
        for left_over in cache.glob("vllm-base.new.*"):
            shutil.rmtree(left_over)
        say("making the stand-in's base image with debootstrap, once (about a minute)")
        building = cache / f"vllm-base.new.{os.getpid()}"
        building.mkdir()
        root = building / "root"
        command = ("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", str(root), MIRROR)
        # In a mount namespace of its own: killed half-way, it leaves no /proc mounted where rmtree would walk into it.
        host.run(("unshare", "--mount", "--propagation", "private", *command))
        _finish(root)
        write_layout(root, building / "layout", "base")
        (building / "layout").replace(ready)
        shutil.rmtree(building)
    return ready


def _finish(root: Path) -> None:
    for name in NEEDLESS:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def write_layout(root: Path, layout: Path, tag: str) -> None:
    """A root filesystem as an OCI layout of one image with one layer."""
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    diff_id, layer = _layer(root, blobs)
    config = {
        "created": EPOCH,
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [f"{name}={value}" for name, value in ENVIRONMENT.items()], "Cmd": ["/bin/bash"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": EPOCH, "created_by": "debootstrap bookworm"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _blob(blobs, config, CONFIG),
        "layers": [layer],
    }
    entry = _blob(blobs, manifest, MANIFEST) | {"annotations": {"org.opencontainers.image.ref.name": tag}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def _layer(root: Path, blobs: Path) -> tuple[str, dict[str, Any]]:
    """Write the layer; returns its diffID and its descriptor."""
    command = ("tar", "--sort=name", "--numeric-owner", f"--mtime={EPOCH}", "-C", str(root), "-cf", "-", ".")
    plain, packed, size = hashlib.sha256(), hashlib.sha256(), 0
    packer = zlib.compressobj(3, zlib.DEFLATED, 31)  # 31: a gzip header, without a time in it
    new = blobs / "layer.new"
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tar, new.open("wb") as out:
        if tar.stdout is None:
            raise FleetError("tar has no output")
        for piece in iter(lambda: tar.stdout.read(1 << 20) if tar.stdout else b"", b""):
            plain.update(piece)
            data = packer.compress(piece)
            packed.update(data)
            size += out.write(data)
        data = packer.flush()
        packed.update(data)
        size += out.write(data)
    if tar.returncode:
        raise FleetError(f"packing the base image failed: tar ended with {tar.returncode}")
    new.rename(blobs / packed.hexdigest())
    return f"sha256:{plain.hexdigest()}", _descriptor(LAYER, packed.hexdigest(), size)


def _blob(blobs: Path, value: object, kind: str) -> dict[str, Any]:
    data = json.dumps(value, separators=(",", ":")).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return _descriptor(kind, digest, len(data))


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}


def push_base(layout: Path, registry: str, ca: Path, user: str, password: str, *, name: str = NAME) -> str:
    """Copy the image to REGISTRY/NAME and return that reference. The password never stands on a command line."""
    reference = f"{registry}/{name}"
    with tempfile.TemporaryDirectory(prefix="fleet-base-") as folder:
        certificates = Path(folder, "certs")
        certificates.mkdir()
        shutil.copy(ca, certificates / "ca.crt")
        auth = Path(folder, "auth.json")
        login = ("skopeo", "login", "--authfile", str(auth), "--cert-dir", str(certificates), "--username", user)
        host.run((*login, "--password-stdin", registry), stdin=password)
        flags = ("--dest-authfile", str(auth), "--dest-cert-dir", str(certificates))
        host.run(("skopeo", "copy", "--quiet", *flags, f"oci:{layout}:base", f"docker://{reference}"))
    return reference


def docker_archive(layout: Path, target: Path, *, name: str = NAME) -> Path:
    """The image as `docker load` takes it on every engine, under `name`."""
    target.unlink(missing_ok=True)
    host.run(("skopeo", "copy", "--quiet", f"oci:{layout}:base", f"docker-archive:{target}:{name}"))
    return target
