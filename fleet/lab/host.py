"""What the machine must have before a lab can stand on it, and how its tools are called."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence

from fleet.errors import FleetError

# Program -> the Debian package that brings it.
PROGRAMS = {
    "dockerd": "docker.io",
    "docker-registry": "docker-registry",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "skopeo": "skopeo",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "iptables": "iptables",
    "busybox": "busybox-static",
    "htpasswd": "apache2-utils",
    "openssl": "openssl",
    "tini": "tini",
    "sudo": "sudo",
    "git": "git",
    "mkfs.ext4": "e2fsprogs",
    "nsenter": "util-linux",
    "mount": "mount",
    "pkill": "procps",
    "curl": "curl",
}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def require() -> None:
    """Raise FleetError in one sentence unless this is Linux, we are root and every package is there."""
    if platform.system() != "Linux":
        raise FleetError(f"the lab needs Linux namespaces, and this is {platform.system()}", hint="use a Linux machine")
    if platform.machine() != "x86_64":
        raise FleetError(f"the lab pretends x86-64 nodes, and this machine is {platform.machine()}")
    if os.geteuid() != 0:
        raise FleetError("the lab makes namespaces and mounts, which only root may", hint="run it with sudo")
    missing = sorted({package for program, package in PROGRAMS.items() if not shutil.which(program, path=PATH)})
    if missing:
        raise FleetError(
            f"the lab needs {len(missing)} more Debian packages", hint=f"apt-get install -y {' '.join(missing)}"
        )


def run(argv: Sequence[str], *, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of the machine's tools. Raises FleetError with its last words when it fails."""
    environment = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, env=environment)
    if check and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}").splitlines()[-1]
        raise FleetError(f"the lab's `{' '.join(argv[:4])}` failed: {said}")
    return done
