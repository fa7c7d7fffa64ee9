"""What runs inside a node, as scripts and command lines, and two looks at it from outside."""

import contextlib
from pathlib import Path

# Whatever the lab runs on a node belongs to the node's own control group, like everything its first process starts.
JOIN = """
if [ -f /sys/fs/cgroup/cgroup.procs ]; then set -- /sys/fs/cgroup/init "$@"; else set -- "" "$@"; fi
for group in ${1:-/sys/fs/cgroup/*}; do { echo 0 > "$group/cgroup.procs"; } 2>/dev/null; done
shift
exec "$@"
"""
DAEMONS = {
    "sshd": ("/usr/sbin/sshd", "-D", "-E", "/var/log/sshd.log"),
    "registry": ("/usr/bin/docker-registry", "serve", "/etc/docker/registry/config.yml"),
    "dockerd": ("/usr/sbin/dockerd",),
}
# Run inside the node: says which process the daemon is, and becomes it. $0 is its name here.
LAUNCH = """
echo $$ > "/run/lab.$0.pid"
exec "$@" >> "/var/log/$0.log" 2>&1 < /dev/null
"""
# What /usr/local/bin/date becomes while the node's clock is wrong: namespaces share CLOCK_REALTIME.
WRONG_CLOCK = """#!/bin/sh
# The lab's wrong clock: {offset} seconds away from the true time.
exec /usr/bin/date -d "@$(($(/usr/bin/date +%s) + {offset}))" "$@"
"""


def attached(disk: Path) -> bool:
    """Whether a loop device still holds a disk image."""
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it went while we looked
            if file.read_text().strip() == str(disk):
                return True
    return False


def listens(pid: int, port: int) -> bool:
    """Whether something listens on a TCP port in the network namespace of `pid` (proc_net_tcp: state 0A)."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        if any(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in map(str.split, lines)):
            return True
    return False
