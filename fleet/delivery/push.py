"""Push a release from its OCI layout to a registry, by skopeo: the digest in the registry is the layout's own."""

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import FleetError
from fleet.inventory.settings import Registry


def push(layout: Path, registry: Registry, name: str, tag: str, *, on_line: Callable[[str], None]) -> None:
    """Copy the one image of `layout` to `registry/name:tag`. Raises FleetError with skopeo's last lines."""
    with _trust(registry) as flags:
        target = f"docker://{registry.host}/{name}:{tag}"
        command = ("skopeo", "copy", "--preserve-digests", *flags, f"oci:{layout}", target)
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except FileNotFoundError as error:
            raise FleetError("skopeo is not installed here", hint="apt-get install skopeo") from error
        lines: list[str] = []
        with process:
            for line in process.stdout or ():
                lines.append(line.rstrip())
                on_line(lines[-1])
    if process.returncode:
        last = lines[-1] if lines else f"skopeo exited with {process.returncode}"
        raise FleetError(f"could not push {name}:{tag} to {registry.host}: {last}")


@contextmanager
def _trust(registry: Registry) -> Iterator[tuple[str, ...]]:
    """Flags of skopeo for this registry. Credentials go by a 0600 file that is gone afterwards, never by argv."""
    flags: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fleet-push-") as folder:
        if registry.username and registry.password:
            word = f"{registry.username.reveal()}:{registry.password.reveal()}".encode()
            auths = {"auths": {registry.host: {"auth": base64.b64encode(word).decode()}}}
            authfile = Path(folder, "auth.json")
            authfile.touch(mode=0o600)
            authfile.write_text(json.dumps(auths), encoding="utf-8")
            flags += ["--dest-authfile", str(authfile)]
        if registry.ca_file:
            certificates = Path(folder, "certs")
            certificates.mkdir()
            shutil.copy(registry.ca_file, certificates / "ca.crt")
            flags += ["--dest-cert-dir", str(certificates)]
        if registry.insecure:
            flags.append("--dest-tls-verify=false")
        yield tuple(flags)
