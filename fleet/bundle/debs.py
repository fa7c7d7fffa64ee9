"""The Debian packages that the controller needs, with all that they need, as a repository that apt reads from the disk."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import FleetError
from fleet.image import watch
from fleet.image.scratch import temporary

FOLDER = "tool/debs"

INSTALL = """#!/bin/sh
# Installs @PACKAGES@ and what they need from this directory alone, as root: no network.
# What is installed already in the same or a newer version stays as it is.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
wanted=@CODENAME@
found=$(. /etc/os-release && echo "${VERSION_CODENAME:-${ID:-}}")
if [ "$found" != "$wanted" ]; then
    echo "install-debs.sh: these packages are of Debian $wanted, and this machine runs $found" >&2
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial"
# The bundle's own signature and checksums are what vouches for the repository.
echo "deb [trusted=yes] file:$(printf %s "$here" | sed 's/ /%20/g')/debs ./" > "$work/sources.list"
from_here() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- \\
        -o Dir::State::Lists="$work/lists" -o APT::Sandbox::User=root "$@"
}
from_here update
from_here install -y --no-install-recommends @PACKAGES@
"""


@contextmanager
def deb_files(packages: Sequence[str], on_line: Callable[[str], None]) -> Iterator[dict[str, Path | bytes]]:
    """Paths in the bundle and their files, which last as long as the context.

    The packages are of this machine's Debian, from the archives that its apt is configured for, and apt has checked each by
    the archive's signature. Nothing is taken to be installed at the site. Raises FleetError.
    """
    with temporary("fleet-debs-") as folder:
        (folder / "partial").mkdir()
        on_line(f"download {', '.join(packages)} and what they need, for Debian {_codename()}")
        _run(
            "apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "--download-only",
            "-o", "Dir::State::status=/dev/null", "-o", f"Dir::Cache::archives={folder}/", "-o", "Debug::NoLocking=true",
            "-o", "APT::Sandbox::User=root", *packages, lasting=True,
        )  # fmt: skip
        files = {plain_name(path.name): path for path in sorted(folder.glob("*.deb"))}
        script = INSTALL.replace("@PACKAGES@", " ".join(packages)).replace("@CODENAME@", _codename())
        yield {
            "tool/install-debs.sh": script.encode(),
            f"{FOLDER}/Packages": "\n".join(stanza(path, name) for name, path in files.items()).encode(),
            **{f"{FOLDER}/{name}": path for name, path in files.items()},
        }


def plain_name(name: str) -> str:
    """A package's file name without what some file systems refuse: apt writes an epoch's colon as %3a."""
    return re.sub(r"[^A-Za-z0-9._+~-]", "_", name)


def stanza(path: Path, name: str) -> str:
    """A package's paragraph of a `Packages` index, for the file called `name` beside it."""
    control = _run("dpkg-deb", "--field", str(path)).strip()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{control}\nFilename: ./{name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n"


def _codename() -> str:
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    said = dict(line.partition("=")[::2] for line in lines)
    return (said.get("VERSION_CODENAME") or said.get("ID", "")).strip('"')


def _run(*argv: str, lasting: bool = False) -> str:
    """Its output. What is `lasting` ends with us, also when we are killed. Raises FleetError."""
    hint = "leave out --debs, and bring the packages of tool/debian-packages.txt in another way"
    if shutil.which(argv[0]) is None:
        raise FleetError(f"{argv[0]} is not here, so --debs needs a machine with Debian's apt", hint=hint)
    environment = {**os.environ, "LC_ALL": "C"}
    if lasting:
        done = watch.run(argv, environment=environment)
    else:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = lines[-1].removeprefix("E: ") if lines else "without a word"
        raise FleetError(f"{argv[0]} failed: {said}", hint=f"apt-get update; or {hint}")
    return done.stdout
