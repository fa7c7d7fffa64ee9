"""What the faults outside the GPUs do to a node, each beside its undo.

An undo works from what it finds on the node: it may run twice, and after a break that was itself cut short.
"""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import UsageError
from fleet.lab import gpu_model, processes
from fleet.lab.accountant import CONFIG as ACCOUNTANT

if TYPE_CHECKING:
    from fleet.lab.node import Node

KEPT_KEYS = "etc/ssh/before"
FILLER = "var/lib/docker/filler"
ROOM_LEFT = 8 << 20  # bytes: enough for the engine to answer, too little for a layer
CLOCK_OFFSET = 3600  # seconds
CHUNK = 1 << 30  # bytes at once: the filesystem needs blocks of its own for each, which no single request leaves it
BUSY_PID = "run/finetune.pid"
BUSY_COMMAND = "finetune"  # what sleep calls itself there
UNITS = {"": 1, "s": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}

Options = dict[str, str]


def hold_gpu(node: "Node", _options: Options) -> None:
    """Somebody's training run on the first GPU."""
    if not node.spec.profile:
        raise UsageError(f"{node.name} has no GPUs to break")
    parts = gpu_model.machine(node.spec.profile, node.name).parts
    open_files = f"exec 5</dev/kfd 6</dev/dri/renderD{parts[0].minor}" if parts else "exec 5</dev/kfd"
    script = f"echo $$ >/{BUSY_PID}; {open_files}; exec -a '{BUSY_COMMAND}' sleep infinity"
    node.exec(("setsid", "--fork", "sh", "-c", 'exec bash -c "$1" >/dev/null 2>&1 </dev/null', "sh", script))


def free_gpu(node: "Node") -> None:
    script = f'pid=$(cat /{BUSY_PID}) && kill "$pid" && rm -f /{BUSY_PID}'
    node.exec(("sh", "-c", script), check=False)


def leak_vram(node: "Node", options: Options) -> None:
    """Whoever lets go of a GPU from now on leaves memory behind, as a process does that is killed in HIP work."""
    if not node.spec.profile:
        raise UsageError(f"{node.name} has no GPUs to break")
    text = options.get("share", "0.9")
    if not re.fullmatch(r"0?\.\d+|1(\.0)?", text):
        raise UsageError(f"share={text} is no share of a GPU's memory", hint="for example share=0.2")
    _account(node, leak=float(text))


def regain_vram(node: "Node") -> None:
    """What a reset of the GPUs does."""
    _account(node, leak=0.0)


def _account(node: "Node", *, leak: float) -> None:
    """Change one of the accountant's settings, and leave no file where nothing is set."""
    file = node.root / ACCOUNTANT
    try:
        settings = json.loads(file.read_text())
    except (OSError, ValueError):
        settings = {}
    settings = {name: value for name, value in settings.items() if name != "leak"} | ({"leak": leak} if leak else {})
    if settings:
        file.write_text(json.dumps(settings))
    else:
        file.unlink(missing_ok=True)


def stop_docker(node: "Node", _options: Options) -> None:
    _needs_engine(node)
    node.stop_engine()


def start_docker(node: "Node") -> None:
    node.start_engine()


def fill_disk(node: "Node", _options: Options) -> None:
    """A file as large as all that is free: the next layer meets a real ENOSPC."""
    _needs_engine(node)
    target = node.root / FILLER
    with target.open("wb") as file:
        while (chunk := min(_free_bytes(target.parent) - ROOM_LEFT, CHUNK)) > 0:
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), chunk)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return


def _free_bytes(directory: Path) -> int:
    disk = os.statvfs(directory)
    return disk.f_bfree * disk.f_frsize


def empty_disk(node: "Node") -> None:
    (node.root / FILLER).unlink(missing_ok=True)


def change_host_keys(node: "Node", _options: Options) -> None:
    kept = node.root / KEPT_KEYS
    if not kept.exists():
        kept.mkdir(mode=0o700)
        for file in sorted(kept.parent.glob("ssh_host_*")):
            file.rename(kept / file.name)
    node.new_host_keys()


def restore_host_keys(node: "Node") -> None:
    kept = node.root / KEPT_KEYS
    if kept.exists():
        for file in kept.iterdir():
            file.rename(kept.parent / file.name)
        kept.rmdir()
        node.stop_sshd()
        node.start_sshd()


def stop_sshd(node: "Node", _options: Options) -> None:
    node.stop_sshd()


def start_sshd(node: "Node") -> None:
    node.start_sshd()


def cut_links(node: "Node", options: Options) -> None:
    """At once, or `after` so many seconds (2s) or bytes over the link (20MB)."""
    after = options.get("after", "")
    if not after:
        node.link_down()
        return
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|B|kB|MB|GB|)", after)
    if not found:
        raise UsageError(f"after={after} is neither seconds nor bytes", hint="for example after=2s or after=20MB")
    amount = float(found[1]) * UNITS[found[2]]
    limit = ("--seconds", str(amount)) if found[2] in {"", "s"} else ("--bytes", str(int(amount)))
    started = subprocess.Popen(
        (sys.executable, "-m", "fleet.lab.fault_cut", *limit, *(link.outside for link in node.links)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).resolve().parents[2],
        start_new_session=True,
    )
    processes.remember(_cutter(node), started.pid)


def plug_links(node: "Node") -> None:
    processes.end(_cutter(node))
    node.link_up()


def _cutter(node: "Node") -> Path:
    return node.paths.run / f"{node.name}.cut.pid"


def reboot(node: "Node", _options: Options) -> None:
    node.reboot()


def set_clock_off(node: "Node", _options: Options) -> None:
    node.set_clock(CLOCK_OFFSET)


def set_clock_right(node: "Node") -> None:
    node.set_clock(0)


def _needs_engine(node: "Node") -> None:
    if not node.spec.engine:
        raise UsageError(f"{node.name} has no Docker engine to break")
