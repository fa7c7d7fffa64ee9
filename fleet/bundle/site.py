"""Which files of the connected side travel beside the images: inventory, lock, CA files, playbooks, models."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from fleet.bundle.manifest import model_entry_path
from fleet.errors import FleetError, UsageError
from fleet.inventory.model import Host, Inventory
from fleet.models.names import of_service
from fleet.models.source import find, measure

PLAYBOOKS = Path("playbooks")
_SUFFIXES = {".yaml", ".yml", ".json", ""}


def site_files(inventory: Inventory) -> dict[str, Path]:
    """By path in the bundle. What a host is in maintenance for stays here: it is about today.

    Raises FleetError when the inventory is a list of names, or two files would have one name.
    """
    found: dict[str, Path] = {}
    for source in inventory.sources:
        if not source.exists():
            raise FleetError(f"inventory {source} is no file", hint="a bundle carries a file or a directory")
        base = source.parent
        inside = _tree(source) if source.is_dir() else [source]
        for path in [*inside, *_tree(base / "group_vars"), *_tree(base / "host_vars"), *_certificates(inventory, base)]:
            if path != inventory.maintenance_path:
                _add(found, f"site/inventory/{path.relative_to(base).as_posix()}", path)
    if inventory.lock_path.is_file():
        _add(found, f"site/inventory/{inventory.lock_path.name}", inventory.lock_path)
    for path in _tree(PLAYBOOKS):
        if path.suffix in _SUFFIXES:
            _add(found, f"site/playbooks/{path.relative_to(PLAYBOOKS).as_posix()}", path)
    return found


def models_of(hosts: Iterable[Host]) -> tuple[str, ...]:
    """The models that the hosts serve, as they are called below models_dir; a path elsewhere as it stands."""
    services = (service for host in hosts for service in host.settings.services.values())
    return tuple(sorted({of_service(one.model) or one.model for one in services}))


def model_files(folder: Path, models: Iterable[str]) -> dict[str, Path]:
    """Every file of each model below `folder`, which is searched as models.push searches its source.

    Raises UsageError naming what is not there or cannot travel.
    """
    found: dict[str, Path] = {}
    for model in models:
        root = find(folder, model)
        if root is None:
            hint = f"its files belong into {folder / model}, or into models--ORG--NAME of Hugging Face's cache"
            raise UsageError(f"--models {folder}: model {model} is not there", hint=hint)
        for inner, path in measure(root).items():
            _add(found, model_entry_path(model, inner), path)
    return found


def _certificates(inventory: Inventory, base: Path) -> Iterator[Path]:
    for host in inventory.hosts.values():
        services = host.settings.services.values()
        for registry in (host.settings.registry, *(service.registry for service in services)):
            path = Path(registry.ca_file).expanduser() if registry and registry.ca_file else None
            if path is not None and path.is_file() and path.absolute().is_relative_to(base.absolute()):
                yield base / path.absolute().relative_to(base.absolute())


def _tree(root: Path) -> Iterator[Path]:
    """Files below a directory, hidden ones and caches left out; links are read for what they lead to."""
    for path in sorted(root.rglob("*")) if root.is_dir() else ():
        inner = path.relative_to(root).parts
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in inner):
            yield path


def _add(found: dict[str, Path], name: str, path: Path) -> None:
    real = path.resolve()
    if found.setdefault(name, real) != real:
        raise FleetError(f"{path} and {found[name]} would both be {name} in the bundle", hint="rename one of them")
