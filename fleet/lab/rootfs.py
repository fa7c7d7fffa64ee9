"""Root filesystems by debootstrap. The second generation's, Debian 13, is made once (a minute) and kept."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from fleet.lab import host
from fleet.lab.cache import cached
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
    """The cached Debian 13 root for PACKAGES, built now if it is not there; a second caller waits for the first."""

    def make(building: Path) -> None:
        say("fetching Debian 13 with debootstrap, once (about a minute)")
        debootstrap("trixie", PACKAGES, building)
        shutil.rmtree(building / "var/cache/apt/archives", ignore_errors=True)

    return cached("trixie", PACKAGES, make, cache=cache)


def debootstrap(suite: str, packages: Sequence[str], root: Path) -> None:
    """Make a small Debian with these packages at `root`. Raises FleetError."""
    command = ("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, str(root), MIRROR)
    # In a mount namespace of its own: killed half-way, it leaves no /proc mounted where rmtree would walk into it.
    host.run(("unshare", "--mount", "--propagation", "private", *command))
