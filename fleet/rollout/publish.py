"""A release into the registry that hosts pull it from, with its record beside it."""

from dataclasses import dataclass

from fleet.delivery.progress import Moving
from fleet.delivery.push import push
from fleet.image.registry_api import RegistryClient
from fleet.image.registry_words import DeniedError, UnsupportedError
from fleet.image.release import Release
from fleet.image.workshop import Workshop, ensure_layout, lies_in
from fleet.image.workshop import publish as publish_record
from fleet.inventory.settings import Registry
from fleet.report.units import size

CONTROLLER = "controller"  # where a line about bytes names a host


@dataclass(frozen=True)
class Published:
    """`recorded`: the registry has the record, so that another controller finds it there."""

    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    recorded: bool = True


def publish(
    release: Release, key: str, registry: Registry, workshop: Workshop, *, dry: bool, moving: Moving
) -> Published:
    """Push by digest what the registry lacks. A prebuilt image that lies there anyway is left where it is.

    Without the right to write a record beside such an image, it goes without. Raises FleetError.
    """
    place, ours = release.in_registry(registry.host), release.is_ours_in(registry.host)
    with RegistryClient(registry) as client:
        there = lies_in(client, release)
    asks = () if ours or not there else (f"{release.local_name} is pulled as {place}, where it lies anyway",)
    if dry:
        way = f"from this controller to {registry.host}"
        lacks = f"{release.local_name} would be pushed {way}, {size(release.size)} at most"
        return Published(notes=asks if there else (lacks,))
    changes: list[str] = []
    if not there:
        ensure_layout(workshop, release)
        what = f"push {release.local_name} to {registry.host}"
        with moving(CONTROLLER, what, release.size) as at:
            layout = workshop.store.layout_path(release)
            push(layout, registry, place.path, release.id, on_line=workshop.on_line, at=at)
        changes.append(f"pushed {release.local_name} to {registry.host}")
    try:
        if publish_record(release, key, registry) and there:
            changes.append(f"recorded {release.local_name} in {registry.host}")
    except (DeniedError, UnsupportedError) as error:
        if ours:
            raise
        lost = f"no record of it is kept in {registry.host}, hosts keep it: {error.message}"
        return Published(tuple(changes), (*asks, lost), recorded=False)
    return Published(tuple(changes), asks)
