"""The stand-in's base image: a small Debian 12 with Python and git, and the marks by which ROCm images are known.

Made once by debootstrap (about a minute) and kept as an OCI layout, and as `docker load` takes it.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from fleet.lab import host
from fleet.lab.cache import cached
from fleet.lab.oci_layout import Runs, write_layout
from fleet.lab.paths import CACHE
from fleet.lab.rootfs import debootstrap

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
ENVIRONMENT = {
    "PATH": host.PATH + ":/opt/rocm/bin",
    "ROCM_PATH": "/opt/rocm",
    "PYTORCH_ROCM_ARCH": "gfx90a;gfx942",
    "AITER_ROCM_ARCH": "gfx942",
    "HSA_NO_SCRATCH_RECLAIM": "1",
}
EMPTY = {"etc/resolv.conf": "", "etc/hostname": "standin\n"}
FILES = EMPTY | {
    "opt/rocm/.info/version": f"{ROCM}-128\n",
    "app/versions.txt": f"BASE_IMAGE: rocm/dev-ubuntu-22.04:{ROCM}-complete\nPYTORCH_BRANCH: f717b2af\nAITER_BRANCH: v0.1.5\n",
}


def recipe() -> tuple[str, ...]:
    """All that the image is made of."""
    return (*PACKAGES, *NEEDLESS, json.dumps([ENVIRONMENT, FILES]))


def base_layout(cache: Path = CACHE, *, say: Callable[[str], None] = lambda _: None) -> Path:
    """The cached OCI layout (tag `base`), made now if it is not there; a second caller waits for the first."""

    def make(building: Path) -> None:
        say("making the stand-in's base image with debootstrap, once (about a minute)")
        root = building / "root"
        building.mkdir()
        debootstrap("bookworm", PACKAGES, root)
        finish(root, FILES)
        write_layout(root, building, "base", Runs(ENVIRONMENT, command=("/bin/bash",)))
        shutil.rmtree(root)

    return cached("vllm-base", recipe(), make, cache=cache)


def base_archive(cache: Path = CACHE) -> Path:
    """The same as `docker load` takes it on every engine; converted once, which takes longer than loading it."""
    return cached("vllm-base-archive", recipe(), lambda new: docker_archive(base_layout(cache), new), cache=cache)


def finish(root: Path, files: Mapping[str, str]) -> None:
    """Empty the directories of a fresh root that an image needs not, and write these files into it."""
    for name in NEEDLESS:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def docker_archive(layout: Path, target: Path, *, name: str = NAME) -> None:
    """Write the image under `name` to `target`."""
    host.run(("skopeo", "copy", "--quiet", f"oci:{layout}:base", f"docker-archive:{target}:{name}"))
