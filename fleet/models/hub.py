"""A model of Hugging Face, or of a mirror of it: which commit a revision is, and its files with their checksums.

Hosts ask, each with the token that lies on it and its own proxies; the first answer counts for all of them. The checksums
of large files are Git LFS's, which the API tells; small files are read once and compared with their names in Git.
Source: huggingface_hub's HfApi.model_info(files_metadata=True), GET /api/models/ORG/NAME/revision/REV?blobs=true.
"""

import hashlib
import json
import re
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from fleet.delivery.download import Address, Runner, fetch
from fleet.delivery.send import LinkError
from fleet.errors import HostError, UsageError
from fleet.models.content import Content, File
from fleet.models.names import path_problem

ENDPOINT = "https://huggingface.co"
MAIN = "main"
SMALL = 64 << 20  # bytes of a file that is no LFS file; Hugging Face takes 10 MB at most
ASKED = 3  # hosts that could not tell, after which no other is asked
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,127}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TWINS = re.compile(r"(pytorch_model.*\.bin(\.index\.json)?|tf_model.*\.h5|flax_model.*\.msgpack(\.index\.json)?)")


@dataclass(frozen=True)
class Repository:
    """`name` is ORG/NAME; `token_file` a path on the host."""

    name: str
    revision: str = MAIN
    endpoint: str = ENDPOINT
    token_file: str = ""

    @property
    def key(self) -> str:
        """As the lock calls it."""
        return f"{self.endpoint} {self.name} {self.revision}"

    def at(self, path: str) -> Address:
        return Address(f"{self.endpoint}/{path}", self.token_file, refused=self._refused)

    def _refused(self, status: int) -> str:
        page = f"{self.endpoint}/{self.name}"
        if status in (401, 403) and not self.token_file:
            return f"it asks who you are: token_file names a file on the host with a token that may read {page}"
        if status == 401:
            return f"is the token in {self.token_file} on the host one of {self.endpoint} that still holds?"
        if status == 403:
            return f"has the account of the token in {self.token_file} been let in, and accepted the terms of {page}?"
        if status == 404:
            return f"is there a {page}, and in it a revision {self.revision}?"
        return "" if status else f"does the host reach {self.endpoint}? A proxy may stand in its /etc/environment"


@dataclass(frozen=True)
class Remote:
    """A model at a commit of a repository. `folder` is where this controller gets files, where it has to."""

    content: Content
    repository: Repository
    commit: str
    folder: Path

    @property
    def way(self) -> str:
        return f"from {self.repository.endpoint}"

    def address(self, file: File) -> Address:
        return self.repository.at(f"{self.repository.name}/resolve/{self.commit}/{quote(file.path)}")


@dataclass(frozen=True)
class Entry:
    """A file as the API tells it: `sha256` of a large file, `oid` Git's name of any other."""

    path: str
    size: int
    sha256: str
    oid: str


@dataclass
class Hub:
    """A repository as a source. `pinned` is the commit that the lock names; what it came to is remembered in `memory`."""

    repository: Repository
    pinned: str
    memory: Path
    commit: str = ""
    _known: tuple[File, ...] = ()
    _failed: list[HostError] = field(default_factory=list)
    _instead: HostError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def fixed(self) -> bool:
        """Is the revision a commit itself?"""
        return bool(_COMMIT.fullmatch(self.repository.revision))

    def read(self, by: Runner, name: str, instead: Runner | None = None) -> Remote:
        """The model under this name; `instead` is asked once where `by` cannot tell. Raises HostError, LinkError."""
        with self._lock:
            try:
                if not self._known:
                    self._resolve(by)
            except LinkError:
                raise
            except HostError as error:
                if instead is None:
                    raise
                self._otherwise(instead, error)
            return Remote(Content.of(name, self._known), self.repository, self.commit, self.memory / "blobs")

    def _otherwise(self, instead: Runner, error: HostError) -> None:
        if self._instead is None:
            try:
                self._learn(instead)
            except HostError as worse:
                self._instead = worse
            else:
                return
        message = f"{error.message}; nor could {instead.host} tell: {self._instead.message}"
        raise HostError(error.host, message, hint=error.hint)

    def _resolve(self, by: Runner) -> None:
        if len(self._failed) >= ASKED:
            raise HostError(by.host, self._failed[-1].message, hint=self._failed[-1].hint)
        try:
            self._learn(by)
        except HostError as error:
            self._failed.append(error)
            raise

    def _learn(self, by: Runner) -> None:
        commit = self.pinned or (self.repository.revision if self.fixed else "")
        known = self._remembered(commit) if commit else ()
        if not known:
            commit, known = self._ask(by, commit)
            self._remember(commit, known)
        self.commit, self._known = commit, known

    def _ask(self, by: Runner, commit: str) -> tuple[str, tuple[File, ...]]:
        one = self.repository
        revision = quote(commit or one.revision, safe="")
        address = one.at(f"api/models/{one.name}/revision/{revision}?blobs=true")
        found, entries = parse(fetch(by, address), by.host, address.url)
        if commit and found != commit:
            raise HostError(by.host, f"{address.url} tells of commit {found}, and {commit} was asked for")
        files = []
        for entry in entries:
            sha256 = entry.sha256
            if not sha256:
                path = one.at(f"{one.name}/resolve/{found}/{quote(entry.path)}")
                content = fetch(by, path)
                if _oid(content) != entry.oid or len(content) != entry.size:
                    raise HostError(by.host, f"{path.url} has other bytes than its commit says")
                sha256 = hashlib.sha256(content).hexdigest()
            files.append(File(entry.path, entry.size, sha256))
        return found, tuple(files)

    def _file(self, commit: str) -> Path:
        return self.memory / self.repository.name.replace("/", "--") / f"{commit}.json"

    def _remembered(self, commit: str) -> tuple[File, ...]:
        """A commit never changes. What cannot be understood counts as unknown."""
        try:
            return tuple(File(str(path), int(size), str(sha)) for path, size, sha in _loaded(self._file(commit)))
        except (OSError, ValueError, TypeError):
            return ()

    def _remember(self, commit: str, files: Iterable[File]) -> None:
        path = self._file(commit)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps([[one.path, one.size, one.sha256] for one in files], indent=0), "utf-8")
        part.replace(path)


def repository(name: str, revision: str, endpoint: str, token_file: str) -> Repository:
    """What was asked for, checked. Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no repository of Hugging Face", hint="hf: ORG/NAME")
    if revision and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise UsageError(f"{revision!r} is no revision", hint="a branch, a tag or a commit")
    address = urlsplit(endpoint or ENDPOINT)
    if address.scheme not in ("https", "http") or not address.hostname or address.query or address.username:
        raise UsageError(f"{endpoint!r} is no endpoint", hint=f"such as {ENDPOINT}")
    if token_file and not token_file.startswith("/"):
        raise UsageError(f"token_file {token_file!r} has to be an absolute path, on the host")
    if token_file and address.scheme == "http":
        raise UsageError(f"a token would go to {endpoint} for everybody to read", hint="an endpoint with https")
    return Repository(name, revision or MAIN, (endpoint or ENDPOINT).rstrip("/"), token_file)


def parse(text: bytes, host: str, url: str) -> tuple[str, tuple[Entry, ...]]:
    """The commit and its files, without those that serve nothing. Raises HostError."""
    try:
        told: Any = json.loads(text)
        commit, siblings = str(told["sha"]), told["siblings"]
        found = tuple(_entry(one) for one in siblings)
    except (ValueError, TypeError, KeyError) as error:
        message = f"{url} does not answer as Hugging Face does"
        raise HostError(host, message, hint="is it the endpoint, without /api?") from error
    entries = tuple(one for one in found if not _stays(one.path, whole={one.path for one in found}))
    problems = [problem for one in entries if (problem := path_problem(one.path))]
    problems += [f"{one.path} has no checksum" for one in entries if not one.sha256 and one.size > SMALL]
    if problems or not entries or not _COMMIT.fullmatch(commit):
        raise HostError(host, f"{url} cannot be brought: {'; '.join(problems) or 'it tells of no files'}")
    return commit, entries


def _stays(path: str, *, whole: Collection[str]) -> bool:
    """Is the file none that serves? Hidden ones, and the same weights once more: vLLM too reads nothing below `original/`
    (LoadConfig.ignore_patterns), and of several formats safetensors alone.
    """
    if any(part.startswith(".") for part in path.split("/")) or path.startswith("original/"):
        return True
    return any(one.endswith(".safetensors") for one in whole) and bool(_TWINS.fullmatch(path))


def _entry(told: Any) -> Entry:
    large = told.get("lfs") or {}
    sha256 = str(large.get("sha256", ""))
    if large and not _SHA256.fullmatch(sha256):
        raise ValueError(sha256)
    return Entry(str(told["rfilename"]), int(large.get("size", told["size"])), sha256, str(told.get("blobId", "")))


def _oid(content: bytes) -> str:
    """Git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _loaded(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))
