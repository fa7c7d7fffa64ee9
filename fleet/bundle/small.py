"""The small files of a bundle: records, manifests, configs, the lock. A long one is an error, for nothing of ours is long."""

import hashlib

from fleet.bundle.check import Bundle
from fleet.bundle.manifest import Entry
from fleet.bundle.write import opened
from fleet.errors import FleetError
from fleet.report.units import size

MOST = 8 << 20  # bytes


def content(bundle: Bundle, entry: Entry) -> bytes:
    """A small file of a checked bundle. Raises FleetError for one that is not small, or not what it was when it was checked."""
    path = bundle.file(entry)
    if entry.size > MOST:
        raise FleetError(
            f"{path} has {size(entry.size)}, and no record, manifest or config is longer than {size(MOST)}"
        )
    try:
        with opened(path) as file:
            found = file.read(entry.size + 1)
    except OSError as error:
        raise FleetError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(found).hexdigest() != entry.sha256:
        raise FleetError(f"{path} is damaged or changed")
    return found
