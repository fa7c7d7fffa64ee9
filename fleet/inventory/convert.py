"""A valid, merged `fleet:` to frozen settings. Relative paths count from the file that set them."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from fleet.inventory.document import Value
from fleet.inventory.settings import Gpus, Image, Registry, Service, Settings, Source, Verify
from fleet.secret import Secret


def settings(fleet: Value) -> Settings:
    found = _take(
        fleet, Settings, "fleet", image=_image, registry=_registry, gpus=_gpus, services=_services, accept=_words
    )
    return Settings(**found)


def _gpus(value: Value, path: str) -> Gpus:
    return Gpus(**_take(value, Gpus, path))


def _image(value: Value, path: str) -> Image:
    found = _take(value, Image, path, source=_source, archive=_file, gfx=_list)
    return Image(**{"name": "", **found})


def _source(value: Value, path: str) -> Source:
    found = _take(
        value, Source, path, repository=_repository, args=_words, patches=_files, gfx=_list, proxy=_words, ca_file=_file,
        git_username=secret, git_password=secret,
    )  # fmt: skip
    return Source(**found)


def _registry(value: Value, path: str) -> Registry:
    return Registry(**_take(value, Registry, path, ca_file=_file, username=secret, password=secret))


def _services(value: Value, path: str) -> Mapping[str, Service]:
    return {name: _service(name, entry.value, f"{path}.{name}") for name, entry in value.data.items()}


def _service(name: str, value: Value, path: str) -> Service:
    found = _take(
        value, Service, path, image=_image, registry=_registry, verify=_verify, secrets=_secrets, env=_words, volumes=_list,
        restart=lambda one, _path: one.data or "no",  # YAML reads a bare `no` as false
    )  # fmt: skip
    return Service(**{**found, "name": name})


def _verify(value: Value, path: str) -> Verify:
    return Verify(**_take(value, Verify, path, prompts=_list))


def _secrets(value: Value, path: str) -> Mapping[str, Secret]:
    return {name: secret(entry.value, f"{path}.{name}") for name, entry in value.data.items()}


def secret(value: Value, path: str) -> Secret:
    (kind, entry) = next(iter(value.data.items()))
    if kind == "command":
        return Secret(path, command=tuple(item.data for item in entry.value.data))
    return Secret(path, file=_file(entry.value, path)) if kind == "file" else Secret(path, env=entry.value.data)


def _take(value: Value, kind: type[Any], path: str, **ways: Callable[[Value, str], Any]) -> dict[str, Any]:
    """The fields of `kind` that are set, each by its way; what has no way is taken plain."""
    known = {field.name for field in fields(kind)}
    return {
        name: ways[name](entry.value, f"{path}.{name}") if name in ways else entry.value.plain()
        for name, entry in value.data.items()
        if name in known
    }


def _words(value: Value, _path: str) -> Mapping[str, str]:
    return {name: _text(entry.value.data) for name, entry in value.data.items()}


def _text(data: Any) -> str:
    return str(data).lower() if isinstance(data, bool) else str(data)


def _list(value: Value, _path: str) -> tuple[str, ...]:
    return tuple(item.data for item in value.data)


def _file(value: Value, _path: str) -> str:
    path = Path(value.data).expanduser()
    return str(path if path.is_absolute() else (Path(value.origin.file).parent / path).resolve())


def _files(value: Value, path: str) -> tuple[str, ...]:
    return tuple(_file(item, path) for item in value.data)


def _repository(value: Value, path: str) -> str:
    """URLs and scp-like words stay; anything else is a path."""
    text: str = value.data
    if "://" in text or (":" in text.partition("/")[0]):
        return text
    return _file(value, path)
