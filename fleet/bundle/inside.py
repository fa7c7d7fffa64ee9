"""Looking into the layers of a bundle that nobody vouches for: whether they unpack, to how much, and where they would write.

Whoever signed a bundle answers for what is in it, and reading inside takes longer than the checksums; so it is done where no
signature was asked for, or when it is.
"""

import threading
from collections.abc import Callable

from fleet.bundle.check import Bundle
from fleet.bundle.contents import distinct, records
from fleet.bundle.manifest import Entry, blob_entry_path
from fleet.bundle.write import opened
from fleet.errors import FleetError
from fleet.image.unpacked import CHUNK, PROBLEMS, Unpacked, members, most


class Looking:
    """Reads while the checksums are made; `on_bytes` hears of packed bytes, from another thread."""

    def __init__(self, bundle: Bundle, on_bytes: Callable[[int], None]) -> None:
        self._bundle, self._on_bytes = bundle, on_bytes
        try:
            self.layers = layers(bundle)
        except FleetError:
            self.layers = ()  # what is wrong with the records is told elsewhere, and nothing is used then
        self.size = sum(one.size for one in self.layers)
        self._found: list[str] = []
        self._thread = threading.Thread(target=self._look, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def problems(self) -> tuple[str, ...]:
        """By name; waits for the end."""
        self._thread.join()
        return tuple(self._found)

    def _look(self) -> None:
        for entry in self.layers:
            if problem := _problem(self._bundle, entry):
                self._found.append(problem)
            self._on_bytes(entry.size)


def layers(bundle: Bundle) -> tuple[Entry, ...]:
    """The layers that a bundle carries, by its records. Raises FleetError."""
    digests = (digest for release in distinct(records(bundle)) for digest in release.layer_digests)
    entries = (bundle.manifest.entry(blob_entry_path(digest)) for digest in dict.fromkeys(digests))
    return tuple(entry for entry in entries if entry is not None)


def _problem(bundle: Bundle, entry: Entry) -> str:
    path = bundle.file(entry)
    try:
        with opened(path) as file:
            content = Unpacked(file, most(entry.size))
            for _, member in members(content):
                target = member.linkname if member.islnk() else ""
                if ".." in (*member.name.split("/"), *target.split("/")):
                    leads = f", a link to {target!r}," if target else ""
                    return f"{path} is no sound layer: its member {member.name!r}{leads} leaves the image"
            while content.read(CHUNK):
                pass  # what is packed has its checksum at the end
    except (OSError, *PROBLEMS) as error:
        return f"{path} is no sound layer: {error}"
    return ""
