"""known_hosts as OpenSSH reads it: plain, hashed and wildcard names, [host]:port, @revoked. Strict by default."""

import base64
import fcntl
import fnmatch
import hashlib
import hmac
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path

_append_lock = threading.Lock()
RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")  # one ssh-rsa key, two signature algorithms (RFC 8332)
_SPECIAL = frozenset("*?!|")  # in patterns, negations and hashed names


class Verdict(Enum):
    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"
    AUTHORITY = "certificate authority"  # only a @cert-authority line speaks for the host


@dataclass(frozen=True)
class Entry:
    """One line. `marker` is empty, `@revoked` or `@cert-authority`; lines count from 1."""

    file: str
    line: int
    marker: str
    names: tuple[str, ...]
    kind: str
    blob: bytes

    def speaks_for(self, name: str) -> bool:
        """Whether the line names the host; a matching `!pattern` denies it."""
        found = False
        for pattern in self.names:
            if pattern.startswith("|1|"):
                found = found or _hashed(pattern, name)
            elif pattern.startswith("!"):
                if _matches(pattern[1:], name):
                    return False
            else:
                found = found or _matches(pattern, name)
        return found

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    entry: Entry | None = None


def read(files: Sequence[str], names: Sequence[str]) -> tuple[Entry, ...]:
    """The lines of the files that exist which speak for one of the names. What cannot be parsed is passed over, as in OpenSSH.

    A file is parsed once for all hosts of a run, and again after each change.
    """
    found: list[Entry] = []
    for file in files:
        try:
            state = Path(file).stat()
            lines = _lines(file, (state.st_ino, state.st_size, state.st_mtime_ns))
        except OSError:
            continue
        found += lines.about(names)
    return tuple(found)


@dataclass(frozen=True)
class _Lines:
    """A file's lines: by name where all names of a line are plain ones, else in the order of the file."""

    plain: Mapping[str, Sequence[Entry]]
    others: Sequence[Entry]

    def about(self, names: Sequence[str]) -> list[Entry]:
        plain = (entry for name in {name.lower() for name in names} for entry in self.plain.get(name, ()))
        others = (entry for entry in self.others if any(entry.speaks_for(name) for name in names))
        by_line = {entry.line: entry for entry in (*plain, *others)}
        return [by_line[line] for line in sorted(by_line)]


@lru_cache(maxsize=16)
def _lines(file: str, _state: tuple[int, ...]) -> _Lines:
    plain: dict[str, list[Entry]] = {}
    others: list[Entry] = []
    for number, line in enumerate(Path(file).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        if len(words) < 3:
            continue
        try:
            blob = base64.b64decode(words[2], validate=True)
        except ValueError:
            continue
        entry = Entry(file, number, marker, tuple(words[0].split(",")), words[1], blob)
        if _SPECIAL.isdisjoint(words[0]):
            for name in entry.names:
                plain.setdefault(name.lower(), []).append(entry)
        else:
            others.append(entry)
    return _Lines(plain, others)


def judge(entries: Sequence[Entry], name: str, bare_name: str, kind: str, blob: bytes) -> Judgement:
    """Judge a server's key. `name` may be [host]:port; a key known for `bare_name` alone is accepted then, as in OpenSSH.

    A host known by other types of keys only counts as changed: whoever sits in between could offer any type.
    """
    about = [entry for entry in entries if entry.speaks_for(name)]
    bare = [entry for entry in entries if entry.speaks_for(bare_name)] if bare_name != name else []
    for entry in (*about, *bare):
        if entry.marker == "@revoked" and entry.blob == blob:
            return Judgement(Verdict.REVOKED, entry)
    plain = [entry for entry in about if not entry.marker]
    for entry in (*plain, *(entry for entry in bare if not entry.marker)):
        if entry.blob == blob:
            return Judgement(Verdict.KNOWN, entry)
    if plain:
        same_kind = [entry for entry in plain if entry.kind == kind]
        return Judgement(Verdict.CHANGED, (same_kind or plain)[0])
    authority = next((entry for entry in about if entry.marker == "@cert-authority"), None)
    return Judgement(Verdict.AUTHORITY, authority) if authority else Judgement(Verdict.UNKNOWN)


def preferred_algorithms(entries: Sequence[Entry], offered: Sequence[str]) -> tuple[str, ...]:
    """`offered` with the types of a host's entries in front, so that a known key is the one that is shown."""
    known: list[str] = []
    for entry in entries:
        if not entry.marker:
            known += RSA_SIGNATURES if entry.kind == "ssh-rsa" else (entry.kind,)
    front = [algorithm for algorithm in dict.fromkeys(known) if algorithm in offered]
    return (*front, *(algorithm for algorithm in offered if algorithm not in front))


def remember(file: str, name: str, kind: str, blob: bytes, *, hash_name: bool = False) -> bool:
    """Append a key, in one write under a lock. False where the file is /dev/null or the key is there already."""
    path = Path(file)
    if path == Path(os.devnull):
        return False
    with _append_lock:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if judge(read([file], [name]), name, name, kind, blob).verdict is not Verdict.UNKNOWN:
                return False
            size = os.fstat(descriptor).st_size
            broken = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            written_name = hashed_name(name) if hash_name else name
            line = f"{written_name} {kind} {base64.b64encode(blob).decode()}\n"
            os.write(descriptor, (("\n" if broken else "") + line).encode())
        finally:
            os.close(descriptor)
    return True


def fingerprint(blob: bytes) -> str:
    """`SHA256:…`, as ssh-keygen -l prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def hashed_name(name: str) -> str:
    """HashKnownHosts' form: |1|salt|hmac-sha1."""
    salt = os.urandom(20)
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def _hashed(pattern: str, name: str) -> bool:
    try:
        _, _, salt, digest = pattern.split("|")
        expected = base64.b64decode(digest)
        return hmac.compare_digest(hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest(), expected)
    except ValueError:
        return False


def _matches(pattern: str, name: str) -> bool:
    # Only * and ? are special in known_hosts; brackets belong to [host]:port.
    return fnmatch.fnmatchcase(name.lower(), pattern.lower().replace("[", "[[]"))
