"""The tool itself as wheels for the site's Python, with a script that installs it without a network."""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from fleet.errors import FleetError, UsageError
from fleet.image import watch
from fleet.image.scratch import temporary

SOURCE = Path(__file__).parents[2]
PACKAGES = ("openssh-client", "python3", "python3-venv", "skopeo")
_EPOCH = "1577836800"  # 2020-01-01; a wheel of the same source has the same bytes
# manylinux tags that Debian 12 and later run: glibc 2.36 (PEP 600).
_PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

INSTALL = """#!/bin/sh
# Installs fleet from this directory alone: no network, every wheel by its checksum.
# usage: sh install.sh [DIRECTORY]     (default ~/fleet-venv)
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
target=${1:-$HOME/fleet-venv}
python=${PYTHON:-python3}
wanted=@PYTHON@
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$found" != "$wanted" ]; then
    echo "install.sh: these wheels are for Python $wanted, and $python is $found" >&2
    echo "install.sh: name another with PYTHON=..., or create the bundle with --python $found" >&2
    exit 1
fi
"$python" -m venv "$target"
"$target/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --find-links "$here/wheels" \\
    --require-hashes -r "$here/requirements.txt"
echo "installed: $target/bin/fleet"
"""


@contextmanager
def tool_files(python: str, on_line: Callable[[str], None]) -> Iterator[dict[str, Path | bytes]]:
    """Paths in the bundle and their files, which last as long as the context. `python` is the site's, such as 3.11.

    Wheels come from the package index that pip is configured for, at the versions of requirements.lock, and each must
    have a checksum of that file. Raises FleetError.
    """
    if not re.fullmatch(r"3\.\d+", python):
        raise UsageError(f"--python {python!r} is no version", hint="for example 3.11")
    lock = SOURCE / "requirements.lock"
    if not lock.is_file() or not (SOURCE / "pyproject.toml").is_file():
        raise FleetError(
            f"the tool's source and requirements.lock are not in {SOURCE}", hint="--without-tool, or run in a checkout"
        )
    pins = locked(lock.read_text(encoding="utf-8"))
    with temporary("fleet-tool-") as folder:
        wheels = folder / "wheels"
        own = _own_wheel(folder, wheels)
        constraints = folder / "constraints.txt"
        constraints.write_text("".join(f"{pin}=={pins[pin][0]}\n" for pin in pins), encoding="utf-8")
        platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
        on_line(f"download wheels for Python {python}")
        _pip(
            "download", "--quiet", "--only-binary=:all:", "--python-version", python, "--implementation", "cp",
            *platforms, "-c", str(constraints), "-d", str(wheels), str(own),
        )  # fmt: skip
        files = sorted(wheels.iterdir())
        yield {
            "tool/install.sh": INSTALL.replace("@PYTHON@", python).encode(),
            "tool/requirements.txt": requirements(files, own, pins).encode(),
            "tool/debian-packages.txt": "".join(f"{package}\n" for package in PACKAGES).encode(),
            **{f"tool/wheels/{path.name}": path for path in files},
        }


def locked(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and SHA-256 checksums by name, of a requirements file with hashes. Where markers give a name several
    versions, the first one counts.
    """
    pins: dict[str, tuple[str, frozenset[str]]] = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", block)
        if match:
            pins.setdefault(normal(match[1]), (match[2], frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))))
    return pins


def requirements(wheels: Sequence[Path], own: Path, pins: dict[str, tuple[str, frozenset[str]]]) -> str:
    """A requirements file with the hash of each wheel. Raises FleetError for one that the lock does not know."""
    lines = []
    for wheel in wheels:
        name, number = wheel.name.split("-")[:2]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if wheel != own and digest not in pins.get(normal(name), ("", frozenset()))[1]:
            raise FleetError(f"{wheel.name} as it was downloaded has no checksum of requirements.lock")
        lines.append(f"{normal(name)}=={number} --hash=sha256:{digest}\n")
    return "".join(lines)


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _own_wheel(folder: Path, wheels: Path) -> Path:
    """Our wheel, built from a copy: setuptools leaves its own directories beside what it builds."""
    copy = folder / "source"
    shutil.copytree(SOURCE / "fleet", copy / "fleet", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(SOURCE / name, copy / name)
    _pip("wheel", "--quiet", "--no-deps", "-w", str(wheels), str(copy))
    found = sorted(wheels.glob(f"amd_fleet-{version('amd-fleet')}-*.whl")) or sorted(wheels.glob("*.whl"))
    return found[0]


def _pip(*arguments: str) -> None:
    command = (sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments)
    done = watch.run(command, environment={**os.environ, "SOURCE_DATE_EPOCH": _EPOCH})
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise FleetError(
            f"pip {arguments[0]} failed: {lines[-1] if lines else 'without a word'}",
            hint="--without-tool leaves it out",
        )
