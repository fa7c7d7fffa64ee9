"""A service's secrets on a host: one 0600 file, sourced by a small wrapper in front of the command. Pure.

Environment and --env-file both end in `docker inspect`, so neither carries a secret. No digest of a secret is kept in
labels or paths either: a weak one could be guessed from it offline. Whether a value changed is told by comparing the
file on the host itself. Two file names take turns, so a kept old container still finds the old values.
"""

import base64
import hashlib
import json
import re
import shlex
import urllib.parse
from collections.abc import Iterable, Mapping

from fleet.errors import FleetError

INSIDE = "/run/fleet/secrets"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def content(values: Mapping[str, str]) -> bytes:
    """The file: one `export NAME='value'` a secret, in the common subset of dash, bash and busybox.

    Raises FleetError for a name that no shell exports or a value with a NUL byte; never shows a value.
    """
    lines = []
    for name, value in sorted(values.items()):
        if not NAME.fullmatch(name):
            raise FleetError(f"secret {name!r} cannot be an environment variable's name")
        if "\0" in value:
            raise FleetError(f"secret {name} contains a NUL byte, which no environment can carry")
        lines.append(f"export {name}={shlex.quote(value)}\n")
    return "".join(lines).encode()


def digest(text: bytes) -> str:
    """sha256 in hex, to be compared with what `sha256sum` on the host says about its file. Never stored."""
    return hashlib.sha256(text).hexdigest()


def wrap(command: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(entrypoint, arguments) that export the secrets, then become `command`."""
    return ("/bin/sh", "-c", '. "$0" && exec "$@"', INSIDE), command


def slots(base: str) -> tuple[str, str]:
    """The two file names that take turns."""
    return f"{base}.a", f"{base}.b"


def choose_slot(base: str, in_use: str, on_host: Mapping[str, str], wanted: str) -> str:
    """The file to mount: the one `in_use` by the serving container if its digest is the `wanted` one, else the other.

    `on_host` maps the files that exist to their sha256.
    """
    first, second = slots(base)
    if in_use not in (first, second):
        return first
    if on_host.get(in_use) == wanted:
        return in_use
    return second if in_use == first else first


class Redactor:
    """Replaces every known secret in text by ***, also as JSON, shell, URL and base64 would write it."""

    def __init__(self, values: Iterable[str]) -> None:
        forms: set[str] = set()
        for value in values:
            for part in {value, *(line for line in value.splitlines() if len(line) >= 8)}:
                if part.strip():
                    forms |= {part, json.dumps(part)[1:-1], shlex.quote(part), urllib.parse.quote(part, safe="")}
                    forms |= {repr(part)[1:-1], base64.b64encode(part.encode()).decode()}
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(re.escape(form) for form in ordered)) if ordered else None

    def __call__(self, text: str) -> str:
        return self._pattern.sub("***", text) if self._pattern else text
