"""The small files of a bundle: records, manifests, configs, the lock. A long one is an error, for nothing of ours is long."""

from fleet.bundle.check import Bundle
from fleet.bundle.manifest import Entry
from fleet.errors import FleetError
from fleet.report.units import size

MOST = 8 << 20  # bytes


def content(bundle: Bundle, entry: Entry) -> bytes:
    """A small file of a checked bundle. Raises FleetError for one that is not small."""
    path = bundle.file(entry)
    if entry.size > MOST:
        raise FleetError(
            f"{path} has {size(entry.size)}, and no record, manifest or config is longer than {size(MOST)}"
        )
    return path.read_bytes()
