"""Bring an image into an OCI layout, once. Everything else (registry, sideload, bundle) is filled from that layout.

Measured: converting Docker's schema to OCI changes manifest and config digest and drops HEALTHCHECK, and two tools give
one image two manifest digests; so it happens here and nowhere else. From `oci:` on, skopeo keeps the digests.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.errors import FleetError
from fleet.image import skopeo
from fleet.image.describe import dropped_by_conversion
from fleet.image.layout import PLATFORM, Blob, LayoutImage, read, verify
from fleet.image.registry_words import LOGIN, helps
from fleet.image.scratch import scratch
from fleet.image.unpacked import most
from fleet.inventory.settings import Registry

_PLATFORM_HINT = "MI250 and MI300 hosts run linux/amd64: bring an image for that"


@dataclass(frozen=True)
class Converted:
    """`dropped` names what the OCI config has no word for."""

    image: LayoutImage
    dropped: tuple[str, ...]


def to_layout(
    source: str, layout: Path, *, registry: Registry | None = None, called: str = "", on_line: Callable[[str], None]
) -> Converted:
    """Copy `source` (skopeo's `docker://…`, `docker-archive:…`, `oci:…`, …) into a new, verified layout.

    `called` is its name in errors, where it is another. The layout appears whole or not at all. Raises FleetError; nothing
    is left behind then.
    """
    called = called or f"the image {source}"
    with scratch(layout.parent) as folder:
        fresh = folder / "layout"
        try:
            with skopeo.access(registry, "src") as flags:
                skopeo.copy(source, f"oci:{fresh}:image", *flags, on_line=on_line)
            with skopeo.access(registry, "") as flags:
                before = skopeo.output("inspect", "--config", "--raw", *flags, source)
        except FleetError as error:
            raise FleetError(f"could not read {called}: {error.message}", hint=error.hint or _hint(error)) from error
        image = _read(fresh, called)
        _check_platform(called, image)
        if any("zstd" in layer.media_type for layer in image.layers):
            on_line("the layers are compressed by zstd, which Docker 20.10 does not load: packing them by gzip")
            fresh = _gzipped(fresh, image.layers, folder, on_line)
            image = read(fresh)
        _read(fresh, called, whole=True)
        if layout.exists():
            shutil.rmtree(layout)
        fresh.rename(layout)
    image = read(layout)
    return Converted(image, _dropped(json.loads(before), image))


def _read(layout: Path, called: str, *, whole: bool = False) -> LayoutImage:
    try:
        image = read(layout)
        if whole:
            verify(image)
    except FleetError as error:
        raise FleetError(f"{called} is damaged: {error.message}", hint="bring it again") from error
    return image


def _check_platform(called: str, image: LayoutImage) -> None:
    """A docker-archive has no index that skopeo could choose from, so the image's own word is read."""
    said = (str(image.document.get("os") or PLATFORM[0]), str(image.document.get("architecture") or PLATFORM[1]))
    if said != PLATFORM:
        raise FleetError(f"{called} is for {'/'.join(said)}", hint=_PLATFORM_HINT)


def _gzipped(layout: Path, layers: Sequence[Blob], folder: Path, on_line: Callable[[str], None]) -> Path:
    """Between layouts skopeo leaves a layer's compression alone, but it unpacks into a `dir:` and packs out of it."""
    plain, target = folder / "plain", folder / "gzipped"
    bound = most(max(layer.size for layer in layers))
    skopeo.copy(f"oci:{layout}:image", f"dir:{plain}", "--dest-decompress", on_line=on_line, most=bound)
    shutil.rmtree(layout)
    skopeo.copy(f"dir:{plain}", f"oci:{target}:image", on_line=on_line)
    shutil.rmtree(plain)
    return target


def _dropped(before: Any, image: LayoutImage) -> tuple[str, ...]:
    return dropped_by_conversion(before, image.document) if isinstance(before, Mapping) else ()


def _hint(error: FleetError) -> str:
    words = error.message.lower()
    for sign, hint in (
        ("unauthorized", LOGIN),
        ("authentication required", LOGIN),
        ("manifest unknown", "the registry has no such tag or digest"),
        ("name unknown", "the registry has no such image"),
        ("no image found in", _PLATFORM_HINT),
        ("no space left", "make room where the layouts are kept, and in $TMPDIR"),
    ):
        if sign in words:
            return hint
    return helps(error.message)
