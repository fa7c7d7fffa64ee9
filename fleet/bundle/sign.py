"""Signatures by `ssh-keygen -Y` (OpenSSH 8.1 and later; PROTOCOL.sshsig), in the namespace `fleet-bundle`."""

import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from fleet.bundle.manifest import NAME, SIGNATURE
from fleet.bundle.write import opened
from fleet.errors import FleetError

NAMESPACE = "fleet-bundle"
MOST = 64 << 10  # bytes of a signature; one by RSA of 16384 bits has six thousand


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
        what = "is no file" if signers.exists() else "is not there"
        raise FleetError(f"--allowed-signers {signers} {what}", hint="its lines: NAME ssh-ed25519 AAAA…")
    _require_signature(folder, signature)
    named = ("-n", NAMESPACE, "-s", str(signature))
    whole = _keygen(("-Y", "check-novalidate", *named), content)
    if whole.returncode:
        raise FleetError(f"{folder / NAME} does not match its signature: {_words(whole)}")
    found = _keygen(("-Y", "find-principals", "-s", str(signature), "-f", str(signers)), b"")
    names = found.stdout.decode(errors="replace").splitlines()
    if found.returncode or not names:
        key = whole.stdout.decode(errors="replace").split()[-1]
        raise FleetError(
            f"{signature}: no valid line of {signers} names the key that signed it, {key}: {_words(found)}"
        )
    refused = ""
    for name in _principals(signature, signers, names):
        done = _keygen(("-Y", "verify", *named, "-f", str(signers), "-I", name), content)
        if not done.returncode:
            return name
        refused = refused or f"{signature}: {name} of {signers} may not sign it: {_words(done)}"
    raise FleetError(refused)


def _principals(signature: Path, signers: Path, first: Sequence[str]) -> Iterator[str]:
    """Everybody whom a line names for the key. ssh-keygen ends at the first line with it, which may be for another namespace."""
    yield from first
    told = set(first)
    for line in signers.read_text(errors="surrogateescape").splitlines():
        one = line.encode(errors="surrogateescape") + b"\n"
        found = _keygen(("-Y", "find-principals", "-s", str(signature), "-f", "/dev/stdin"), one)
        for name in found.stdout.decode(errors="replace").splitlines() if not found.returncode else ():
            if name not in told:
                told.add(name)
                yield name


def _require_signature(folder: Path, signature: Path) -> None:
    """ssh-keygen would read a file of gigabytes for a quarter of an hour."""
    if not os.path.lexists(signature):
        raise FleetError(f"{folder}: is not signed, {SIGNATURE} is missing")
    try:
        with opened(signature) as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            head = file.read(MOST + 1) if regular else b""
    except OSError as error:
        why = "it is a link" if signature.is_symlink() else error.strerror
        raise FleetError(f"{signature} cannot be read: {why}") from error
    if not head.startswith(b"-----BEGIN SSH SIGNATURE-----") or len(head) > MOST:
        raise FleetError(f"{signature} is damaged: it is no signature of ssh-keygen")


def _keygen(arguments: Sequence[str], content: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(("ssh-keygen", *arguments), input=content, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise FleetError("ssh-keygen is not installed here", hint="apt-get install openssh-client") from error


def _words(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode(errors="replace").split("\n")
    return " ".join(line.strip() for line in lines if line.strip()) or "ssh-keygen failed without a word"
