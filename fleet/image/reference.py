"""Image references, read and written as the CNCF Distribution `reference` package does it."""

import re
from dataclasses import dataclass, replace

from fleet.errors import UsageError

DEFAULT_DOMAIN = "docker.io"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
_NAME_LIMIT = 255


@dataclass(frozen=True)
class Reference:
    """One image: `domain/path[:tag][@digest]`. Without tag and digest it means the tag `latest`."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def familiar(self) -> str:
        """As the docker CLI shows it: `docker.io/library/` and `docker.io/` are left out."""
        path = self.path
        if self.domain == DEFAULT_DOMAIN:
            return self._with_suffix(path.removeprefix("library/") if path.count("/") == 1 else path)
        return str(self)

    @property
    def tag_or_latest(self) -> str:
        return self.tag or "latest"

    def pinned(self, digest: str) -> "Reference":
        """The same name by digest alone; a tag beside a digest would only mislead."""
        return replace(self, tag="", digest=digest)

    def _with_suffix(self, name: str) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{name}{tag}{digest}"

    def __str__(self) -> str:
        return self._with_suffix(self.name)


def parse(text: str) -> Reference:
    """Read a reference. Raises UsageError that says which part is wrong."""
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise UsageError(f"image reference {text!r}: {digest!r} is no digest", hint="sha256: and 64 hexadecimal digits")
    name, tag = _split_tag(rest)
    if tag is not None and not _TAG.fullmatch(tag):
        raise UsageError(
            f"image reference {text!r}: {tag!r} is no tag", hint="letters, digits, `_`, `.` and `-`, at most 128"
        )
    domain, path = _split_domain(name)
    if not _DOMAIN.fullmatch(domain):
        raise UsageError(f"image reference {text!r}: {domain!r} is no registry host")
    if not _PATH.fullmatch(path):
        hint = (
            "names of images are lower case" if path != path.lower() else "for example registry.corp:5000/team/vllm:v1"
        )
        raise UsageError(f"image reference {text!r}: {path!r} is no image name", hint=hint)
    if len(domain) + 1 + len(path) > _NAME_LIMIT:
        raise UsageError(f"image reference {text[:40]!r}…: the name is longer than {_NAME_LIMIT} characters")
    if not tag and not digest and re.fullmatch(r"[a-f0-9]{64}", text):
        raise UsageError(f"image reference {text!r} is an image ID", hint="name the image by NAME:TAG or NAME@sha256:…")
    return Reference(domain, path, tag or "", digest)


def _split_tag(text: str) -> tuple[str, str | None]:
    """The tag is what follows the last colon, unless a slash follows it too (then it is a port)."""
    head, colon, tail = text.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (text, None)


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = slash and ("." in first or ":" in first or first == "localhost" or first != first.lower())
    if not is_domain:
        first, rest = DEFAULT_DOMAIN, name
    if first == "index.docker.io":
        first = DEFAULT_DOMAIN
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = f"library/{rest}"
    return first, rest
