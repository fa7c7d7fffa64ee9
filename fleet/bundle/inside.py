"""Looking into the layers of a bundle that nobody vouches for: whether they unpack, to how much and to what, and where they
would write.

Whoever signed a bundle answers for what is in it, and reading inside takes longer than the checksums; so it is done where no
signature was asked for, or when it is.
"""

import hashlib
import threading
from collections.abc import Callable

from fleet.bundle.check import Bundle
from fleet.bundle.contents import distinct, records
from fleet.bundle.manifest import Entry, blob_entry_path
from fleet.bundle.write import opened
from fleet.errors import FleetError
from fleet.image.unpacked import CHUNK, PROBLEMS, Unpacked, members, most

# A whiteout of `..` or `.` removes the directory that the image is unpacked in.
_OUT = frozenset({"..", ".wh..", ".wh..."})


class Looking:
    """Reads while the checksums are made; `on_bytes` hears of packed bytes, from another thread."""

    def __init__(self, bundle: Bundle, on_bytes: Callable[[int], None]) -> None:
        self._bundle, self._on_bytes = bundle, on_bytes
        try:
            self.layers = layers(bundle)
        except FleetError:
            self.layers = ()  # what is wrong with the records is told elsewhere, and nothing is used then
        self.size = sum(entry.size for entry, _ in self.layers)
        self._found: list[str] = []
        self._thread = threading.Thread(target=self._look, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def problems(self) -> tuple[str, ...]:
        """By name; waits for the end."""
        self._thread.join()
        return tuple(self._found)

    def _look(self) -> None:
        for entry, diff_id in self.layers:
            if problem := _problem(self._bundle, entry, diff_id):
                self._found.append(problem)
            self._on_bytes(entry.size)


def layers(bundle: Bundle) -> tuple[tuple[Entry, str], ...]:
    """The layers that a bundle carries, by its records, each with its diffID. Raises FleetError."""
    pairs = {
        pair: bundle.manifest.entry(blob_entry_path(pair[0]))
        for release in distinct(records(bundle))
        for pair in zip(release.layer_digests, release.diff_ids, strict=True)
    }
    return tuple((entry, diff_id) for (_, diff_id), entry in pairs.items() if entry is not None)


class _Hashed:
    """What a tar's reader takes, hashed."""

    def __init__(self, content: Unpacked) -> None:
        self._content, self.sum = content, hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._content.read(size)
        self.sum.update(data)
        return data


def _problem(bundle: Bundle, entry: Entry, diff_id: str) -> str:
    path = bundle.file(entry)
    try:
        with opened(path) as file:
            content = _Hashed(Unpacked(file, most(entry.size)))
            for _, member in members(content):
                target = member.linkname if member.islnk() else ""
                if not _OUT.isdisjoint((*member.name.split("/"), *target.split("/"))):
                    leads = f", a link to {target!r}," if target else ""
                    return f"{path} is no sound layer: its member {member.name!r}{leads} leaves the image"
            while content.read(CHUNK):
                pass  # what is packed has its checksum at the end
    except (OSError, *PROBLEMS) as error:
        return f"{path} is no sound layer: {error}"
    same = f"sha256:{content.sum.hexdigest()}" == diff_id
    return "" if same else f"{path} is no sound layer: it does not unpack to {diff_id}"
