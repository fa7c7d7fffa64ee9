"""Find a few small files of an image in the layers of its layout, from the top, without unpacking anything to disk."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from fleet.errors import FleetError
from fleet.image.layout import LayoutImage, open_layer
from fleet.image.unpacked import PROBLEMS, members

_LIMIT = 1 << 20  # bytes of a file that are read
_COVERS = 500_000
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"  # OCI image-spec, layer.md


@dataclass(frozen=True)
class Found:
    """A file as the image shows it: its path without a leading slash, and at most 1 MiB of its bytes."""

    path: str
    content: bytes


def find(image: LayoutImage, wanted: Mapping[str, re.Pattern[str]]) -> dict[str, Found]:
    """For each key of `wanted` the topmost regular file whose whole path matches; keys without a file are left out.

    Reading stops as soon as all are found. Whiteouts of upper layers hide what lies below them.
    """
    found: dict[str, Found] = {}
    hidden: set[str] = set()
    for layer in reversed(image.layers):
        if len(found) == len(wanted):
            break
        open_keys = {key: pattern for key, pattern in wanted.items() if key not in found}
        covers: set[str] = set()
        try:
            with open_layer(image, layer) as stream:
                for tar, member in members(stream):
                    path = str(PurePosixPath(member.name.lstrip("/")))
                    covers |= _covered(path)
                    if len(covers) > _COVERS:
                        raise FleetError(f"{image.path}: layer {layer.digest} hides more than {_COVERS} files")
                    key = next((key for key, pattern in open_keys.items() if pattern.fullmatch(path)), None)
                    if key and member.isfile() and not _is_hidden(path, hidden):
                        file = tar.extractfile(member)
                        found[key] = Found(path, file.read(_LIMIT) if file else b"")
        except (OSError, *PROBLEMS) as error:
            raise FleetError(f"{image.path}: layer {layer.digest} is damaged: {error}") from error
        hidden |= covers
    return found


def _covered(path: str) -> set[str]:
    """What a whiteout entry hides in the layers below: one path, or all that is in a directory (marked by a slash)."""
    folder, name = str(PurePosixPath(path).parent), PurePosixPath(path).name
    if name == _OPAQUE:
        return {f"{folder}/"}
    if name.startswith(_WHITEOUT):
        return {str(PurePosixPath(folder, name.removeprefix(_WHITEOUT)))}
    return set()


def _is_hidden(path: str, hidden: set[str]) -> bool:
    parents = [str(parent) for parent in PurePosixPath(path).parents]
    return path in hidden or any(parent in hidden or f"{parent}/" in hidden for parent in parents)
