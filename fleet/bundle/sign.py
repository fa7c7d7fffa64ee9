"""Signatures by `ssh-keygen -Y` (OpenSSH 8.1 and later; PROTOCOL.sshsig), in the namespace `fleet-bundle`."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from fleet.bundle.manifest import NAME, SIGNATURE
from fleet.errors import FleetError

NAMESPACE = "fleet-bundle"


def sign(content: bytes, key: str) -> bytes:
    """The signature of `content`. `key` is a private key's file, or a public one whose private half an agent holds."""
    path = Path(key).expanduser()
    if not path.is_file():
        raise FleetError(f"--sign-key {path} is not there", hint="ssh-keygen -t ed25519 -f FILE makes one")
    done = _keygen(("-Y", "sign", "-n", NAMESPACE, "-f", str(path)), content)
    if done.returncode:
        raise FleetError(f"signing with {path} failed: {_words(done)}")
    return done.stdout


def check(folder: Path, content: bytes, allowed: str) -> str:
    """Who signed `content`, as the allowed_signers file names them. Raises FleetError."""
    signers, signature = Path(allowed).expanduser(), folder / SIGNATURE
    if not signers.is_file():
        raise FleetError(f"--allowed-signers {signers} is not there", hint="its lines: NAME ssh-ed25519 AAAA…")
    if signature.is_symlink() or not signature.is_file():
        raise FleetError(f"{folder}: is not signed, {SIGNATURE} is missing")
    found = _keygen(("-Y", "find-principals", "-s", str(signature), "-f", str(signers)), b"")
    names = found.stdout.decode(errors="replace").split()
    if found.returncode or not names:
        raise FleetError(f"{signature}: the key that signed it is not in {signers}")
    name = names[0]
    arguments = ("-Y", "verify", "-n", NAMESPACE, "-f", str(signers), "-I", name, "-s", str(signature))
    done = _keygen(arguments, content)
    if done.returncode:
        raise FleetError(f"{folder / NAME} does not match its signature by {name}: {_words(done)}")
    return name


def _keygen(arguments: Sequence[str], content: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(("ssh-keygen", *arguments), input=content, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise FleetError("ssh-keygen is not installed here", hint="apt-get install openssh-client") from error


def _words(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode(errors="replace").split("\n")
    return " ".join(line.strip() for line in lines if line.strip()) or "ssh-keygen failed without a word"
