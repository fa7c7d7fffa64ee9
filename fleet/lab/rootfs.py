"""The second generation's root filesystem: Debian 13 by debootstrap, made once (a minute) and kept."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from fleet.lab import host
from fleet.lab.paths import CACHE

MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    "docker.io",
    "docker-cli",
    "docker-buildx",
    "skopeo",
    "netavark",  # skopeo needs some container-network-stack, and debootstrap does not choose for virtual packages
    "openssh-server",
    "sudo",
    "iproute2",
    "iptables",
    "busybox-static",
    "tini",
    "procps",
    "git",
    "ca-certificates",
    "curl",
)


def trixie(say: Callable[[str], None] = lambda _: None, *, cache: Path = CACHE) -> Path:
    """The cached Debian 13 root, built now if it is not there; a second caller waits for the first."""
    cache.mkdir(parents=True, exist_ok=True)
    ready = cache / "trixie"
    with (cache / "trixie.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ready.is_dir():
            return ready
        for left_over in cache.glob("trixie.new.*"):
            shutil.rmtree(left_over)
        say("fetching Debian 13 with debootstrap, once (about a minute)")
        building = cache / f"trixie.new.{os.getpid()}"
        # In a mount namespace of its own: killed half-way, it leaves no /proc mounted where rmtree would walk into it.
        include = f"--include={','.join(PACKAGES)}"
        command = ("debootstrap", "--variant=minbase", include, "trixie", str(building), MIRROR)
        host.run(("unshare", "--mount", "--propagation", "private", *command))
        shutil.rmtree(building / "var/cache/apt/archives", ignore_errors=True)
        building.replace(ready)
    return ready
