"""A container image of a megabyte, made of the machine's own static busybox: nothing comes from outside."""

import io
import tarfile
from pathlib import Path

from fleet.lab import Node

COMMANDS = ("sh", "echo", "ip", "sleep", "cat")


def busybox_tar() -> bytes:
    """A root filesystem with busybox and a few of its names, as a tar."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        program = Path("/bin/busybox").read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
        for name in COMMANDS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return made.getvalue()


def import_busybox(node: Node) -> None:
    """Give the node's engine the image `box`."""
    (node.root / "tmp/box.tar").write_bytes(busybox_tar())
    node.exec(("docker", "import", "/tmp/box.tar", "box"))
