"""The probe's text, taken apart: sections, files by path, and what could not be read. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.errors import FleetError
from fleet.facts.model import Unread

ERRNO = {
    "No such file or directory": "ENOENT",
    "Permission denied": "EACCES",
    "Operation not permitted": "EPERM",
    "Input/output error": "EIO",
    "Invalid argument": "EINVAL",
    "No such device": "ENODEV",
    "Is a directory": "EISDIR",
    "Device or resource busy": "EBUSY",
    "Too many levels of symbolic links": "ELOOP",
    "binary file matches": "EILSEQ",  # NUL bytes in it
}
_BINARY = re.compile(r"Binary file (.+) matches")
_BASES = {
    "node": "sys/class/kfd/kfd/topology/nodes/",
    "io_links": "sys/class/kfd/kfd/topology/nodes/",
    "p2p_links": "sys/class/kfd/kfd/topology/nodes/",
    "process": "sys/class/kfd/kfd/proc/",
    "drm": "sys/class/drm/",
}


@dataclass(frozen=True)
class Frames:
    """Sections by name. A section that was never begun is missing; an empty one is an empty tuple."""

    sections: Mapping[str, tuple[str, ...]]
    unread: tuple[Unread, ...] = ()
    _files: dict[str, Mapping[str, str]] = field(default_factory=dict, repr=False, compare=False)

    def lines(self, name: str) -> tuple[str, ...] | None:
        """The lines of a section, or None when the probe had none."""
        return self.sections.get(name)

    def files(self, name: str) -> Mapping[str, str]:
        """Path -> text of a file section (its own lines joined by newlines); empty when there is none."""
        if name not in self._files:
            found: dict[str, list[str]] = {}
            for line in self.sections.get(name, ()):
                path, colon, text = line.partition(":")
                if colon:
                    found.setdefault(path, []).append(text)
            self._files[name] = {path: "\n".join(texts) for path, texts in found.items()}
        return self._files[name]

    def text(self, path: str) -> str | None:
        """A file of the section `files`, stripped; None when it was not read."""
        value = self.files("files").get(path)
        return None if value is None else value.strip()


def split(text: str) -> Frames:
    """Take the probe's output apart.

    Whatever a login shell printed before the first line is dropped. Raises FleetError for output that does not begin
    or does not end as the probe's does.
    """
    start = re.search(r"^(\S+) start (1|tree)$", text, re.MULTILINE)
    if start is None:
        raise FleetError("the probe printed nothing that can be read", hint="does the login shell work: ssh HOST true")
    token = start.group(1) + " "
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text[start.start() :].split("\n"):
        if line.startswith(token):
            name = line[len(token) :].strip()
            current = sections.setdefault(name.split(" ")[0], [])
            if name.startswith("start"):
                current.append(name.partition(" ")[2])
        elif line:
            current.append(line.rstrip("\r"))
    if "end" not in sections:
        raise FleetError("the probe ended early", hint="the connection broke, or the host killed the shell")
    frozen = {name: tuple(lines) for name, lines in sections.items()}
    return Frames(frozen, _unread(frozen))


def _unread(sections: Mapping[str, tuple[str, ...]]) -> tuple[Unread, ...]:
    found = []
    for name, lines in sections.items():
        base = _BASES.get(name.removesuffix("!"), "")
        if not name.endswith("!"):
            # What a grep before 3.5 says, among the data, of a file with NUL bytes in it.
            binary = (_BINARY.fullmatch(line) for line in lines if line.startswith("Binary "))
            found += [Unread(base + match[1], "EILSEQ") for match in binary if match]
            continue
        for line in lines:
            match = re.match(r"(?:\S*/)?grep: (?P<path>.*): (?P<error>[^:]+)$", line)
            if match is None:
                found.append(Unread(name[:-1], line))
            elif "*" not in match["path"]:  # a glob without a match is no file
                found.append(Unread(base + match["path"], ERRNO.get(match["error"], match["error"])))
    return tuple(found)
