"""Run skopeo with a registry's credentials and CA. (skopeo 1.9 of Debian 12 and 1.18 of Debian 13.)

Credentials travel by a 0600 file that is gone afterwards; argv and environment never hold them.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import FleetError
from fleet.image import proxy
from fleet.image.again import TransientError, again, is_transient
from fleet.image.scratch import temporary
from fleet.image.watch import waiting, watched
from fleet.inventory.settings import Registry

PAUSE = 1.0  # seconds before a second try, doubled each time
NOT_FOUND = 127  # POSIX sh
AMD64 = ("--override-os", "linux", "--override-arch", "amd64")


def output(*args: str) -> bytes:
    """What a skopeo command prints. Raises FleetError with skopeo's reason."""

    def once() -> bytes:
        try:
            done = subprocess.run(("skopeo", *AMD64, *args), capture_output=True, check=False)
        except FileNotFoundError as error:
            raise _missing() from error
        if done.returncode:
            raise failure(reason(done.stderr.decode(errors="replace").splitlines()), *args)
        return done.stdout

    return again(once, pause=PAUSE)


def copy(source: str, target: str, *flags: str, on_line: Callable[[str], None], most: int = 0) -> None:
    """`skopeo copy`, its lines handed on as they come. Raises FleetError with skopeo's reason.

    Tried again where a registry or the line to it failed; what arrived in a layout is kept for that. No file that it writes
    gets longer than `most` bytes, where that is not 0.
    """
    limit = ("prlimit", f"--fsize={most}") if most else ()
    command = (*limit, "skopeo", *AMD64, "copy", *flags, source, target)

    def once() -> None:
        lines: list[str] = []
        with (
            waiting() as stdin,
            subprocess.Popen(
                watched(command, 0),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process,
        ):
            try:
                for line in process.stdout or ():
                    lines.append(line.rstrip())
                    on_line(lines[-1])
            except BaseException:
                process.terminate()
                raise
        if process.returncode == NOT_FOUND:
            raise _missing()
        if process.returncode:
            raise failure(reason(lines), source, target)

    again(once, say=on_line, pause=PAUSE)


def failure(said: str, *args: str) -> FleetError:
    """A reason of skopeo as an error; one that may pass where a registry is among its arguments."""
    remote = next((word.removeprefix("docker://") for word in args if word.startswith("docker://")), "")
    if not remote or not is_transient(said):
        return FleetError(said)
    return TransientError(said, hint=proxy.hint(f"https://{remote}"))


@contextmanager
def access(registry: Registry | None, side: str = "src") -> Iterator[tuple[str, ...]]:
    """Flags for a registry as the `src` or `dest` of a copy; with side "" those of inspect."""
    prefix = f"--{side}-" if side else "--"
    if registry is None:
        yield ()
        return
    flags: list[str] = []
    with temporary("fleet-skopeo-") as folder:
        if registry.username and registry.password:
            authfile = folder / "auth.json"
            authfile.touch(mode=0o600)
            authfile.write_text(auth_json(registry), encoding="utf-8")
            flags += [f"{prefix}authfile", str(authfile)]
        if registry.ca_file:
            certificates = folder / "certs"
            certificates.mkdir()
            try:
                shutil.copy(Path(registry.ca_file).expanduser(), certificates / "ca.crt")
            except OSError as error:
                raise FleetError(f"registry.ca_file {registry.ca_file} cannot be read: {error.strerror}") from error
            flags += [f"{prefix}cert-dir", str(certificates)]
        if registry.insecure:
            flags.append(f"{prefix}tls-verify=false")
        yield tuple(flags)


def auth_json(*registries: Registry) -> str:
    """Their credentials as docker's config.json and skopeo's authfile hold them; "" where there are none."""
    auths: dict[str, dict[str, str]] = {}
    for registry in registries:
        if registry.username and registry.password:
            word = f"{registry.username.reveal()}:{registry.password.reveal()}".encode()
            # Docker Hub has another name in there for docker's CLI, for reasons of its age.
            names = ("docker.io", "https://index.docker.io/v1/") if registry.host == "docker.io" else (registry.host,)
            auths |= {name: {"auth": base64.b64encode(word).decode()} for name in names}
    return json.dumps({"auths": auths}) if auths else ""


def reason(lines: Sequence[str]) -> str:
    """The words of skopeo's last fatal line without its clothing: `time="…" level=fatal msg="…"`."""
    for line in reversed(lines):
        if "level=fatal" in line and ' msg="' in line:
            return line.split(' msg="', 1)[1].removesuffix('"').replace('\\"', '"')
    return lines[-1] if lines else "skopeo failed without a word"


def _missing() -> FleetError:
    return FleetError("skopeo is not installed here", hint="apt-get install skopeo")
