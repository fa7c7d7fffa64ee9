"""`.fleet/` on the controller: a cache of layouts and release records. What is lost here can be had again.

.fleet/layouts/RELEASE/        an OCI layout
.fleet/releases/KEY.json       the release that a content key gave
.fleet/keys/HASH               a content key that was worked out before
.fleet/logs/, .fleet/git/      build logs, mirrors
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet import whole
from fleet.errors import FleetError
from fleet.image.layout import LayoutImage, read
from fleet.image.release import Release, dumps, loads


@dataclass(frozen=True)
class Store:
    root: Path

    def layout(self, release: Release) -> Path | None:
        """The release's layout, if it is here with all its layers, and its manifest and config are whole."""
        image = self._image(release)
        return image.path if image is not None and not image.absent(image.layers) else None

    def partial(self, release: Release) -> Path | None:
        """The same, though layers may be missing: a bundle left them out, because the hosts hold them."""
        image = self._image(release)
        return image.path if image is not None else None

    def layout_path(self, release: Release) -> Path:
        return self.root / "layouts" / release.id

    @contextmanager
    def fresh_layout(self, key: str) -> Iterator[Path]:
        """Where a layout is made before its digest is known. What is not given its place meanwhile goes, as does what a
        killed process left there.
        """
        fresh = self.root / "layouts" / f"new-{key}"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            yield fresh
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def adopt(self, fresh: Path, release: Release) -> Path:
        """Give a new layout its place by its digest."""
        if self.layout(release) is not None:
            shutil.rmtree(fresh)
            return self.layout_path(release)
        return self.put(fresh, release)

    def put(self, fresh: Path, release: Release) -> Path:
        """The same, in the place of one that may be there."""
        path = self.layout_path(release)
        shutil.rmtree(path, ignore_errors=True)
        fresh.rename(path)
        return path

    def release(self, key: str) -> Release | None:
        """The record of a content key. A damaged one counts as none: it is only a cache."""
        path = self._record(key)
        try:
            return loads(path.read_text(encoding="utf-8"), str(path))
        except (OSError, FleetError, UnicodeDecodeError):
            return None

    def keep(self, key: str, release: Release) -> None:
        _write(self._record(key), dumps(release))

    def known_key(self, memo: str) -> str:
        """The content key that was worked out for the same settings before, or ""."""
        path = self.root / "keys" / memo
        try:
            return path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def know_key(self, memo: str, key: str) -> None:
        _write(self.root / "keys" / memo, f"{key}\n")

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def _image(self, release: Release) -> LayoutImage | None:
        try:
            image = read(self.layout_path(release))
        except FleetError:
            return None
        return image if image.manifest.digest == release.manifest_digest else None

    def _record(self, key: str) -> Path:
        return self.root / "releases" / f"{key}.json"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.write(path, text)
