"""What runs on this machine now; processes that end while we look are left out."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def command_lines() -> Iterator[tuple[int, bytes]]:
    """Pid and command line of every process; words end with a NUL."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes()


def working_in(directory: Path) -> list[str]:
    """Command lines of the processes whose working directory this is."""
    found = []
    for pid, words in command_lines():
        with suppress(OSError):
            if Path(f"/proc/{pid}/cwd").readlink() == directory:
                found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def living_in(temporary: str) -> list[str]:
    """Command lines of the processes that were started with this $TMPDIR."""
    found = []
    for pid, words in command_lines():
        with suppress(OSError):
            if f"TMPDIR={temporary}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found
