"""Push a release from its OCI layout to a registry, by skopeo: the digest in the registry is the layout's own."""

from collections.abc import Callable
from pathlib import Path

from fleet.errors import FleetError
from fleet.image import skopeo
from fleet.inventory.settings import Registry


def push(layout: Path, registry: Registry, name: str, tag: str, *, on_line: Callable[[str], None]) -> None:
    """Copy the one image of `layout` to `registry/name:tag`. Raises FleetError with skopeo's reason."""
    target = f"docker://{registry.host}/{name}:{tag}"
    with skopeo.access(registry, "dest") as flags:
        try:
            skopeo.copy(f"oci:{layout}", target, "--preserve-digests", *flags, on_line=on_line)
        except FleetError as error:
            raise FleetError(
                f"could not push {name}:{tag} to {registry.host}: {error.message}", hint=error.hint
            ) from error
