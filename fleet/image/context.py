"""What a Dockerfile takes out of its build context. Pure.

A base is expensive, and most of vLLM's tree has no part in it: only what it really takes counts for its content key.
"""

import json
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from fleet.image import dockerfile_syntax
from fleet.image.dockerfile_syntax import Instruction

_REMOTE = re.compile(r"[a-z]+://|git@")


def context_paths(text: str) -> tuple[str, ...] | None:
    """The files and directories of the context that a Dockerfile copies or mounts, sorted.

    None: all of it, or what only a build could tell (variables, wildcards). Every stage counts, needed or not.
    """
    found: set[str] = set()
    for instruction in dockerfile_syntax.read(text).instructions:
        for source in _sources(instruction):
            if re.search(r"[$*?\[\\]", source) or ".." in PurePosixPath(source).parts:
                return None
            path = str(PurePosixPath(source)).lstrip("/")
            if path in {"", "."}:
                return None
            found.add(path)
    return tuple(sorted(found))


def _sources(instruction: Instruction) -> Iterable[str]:
    if instruction.keyword == "ONBUILD":
        inner = dockerfile_syntax.read(instruction.rest).instructions
        instruction = inner[0] if inner else instruction
    flags = dict(instruction.flags)
    if instruction.keyword in {"COPY", "ADD"} and "from" not in flags:
        yield from (word for word in _words(instruction.rest)[:-1] if not _foreign(instruction.keyword, word))
    for name, value in instruction.flags:
        if name == "mount":
            options = dict(part.partition("=")[::2] for part in value.split(","))
            if options.get("type", "bind") == "bind" and "from" not in options:
                yield options.get("source") or options.get("src") or "."


def _foreign(keyword: str, word: str) -> bool:
    """A here-document, or something that ADD fetches: both stand in the Dockerfile's text."""
    return word.startswith("<<") or (keyword == "ADD" and bool(_REMOTE.match(word)))


def _words(rest: str) -> list[str]:
    """Words, also in JSON's form; quotes are left out."""
    if rest.startswith("["):
        try:
            return [str(word) for word in json.loads(rest)]
        except ValueError:
            return rest.split()
    return [word.strip("\"'") for word in rest.split()]
