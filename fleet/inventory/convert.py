"""A valid, merged `fleet:` mapping to the dataclasses of settings.py."""

import os
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from fleet.errors import Problem
from fleet.inventory.nodes import Node, plain
from fleet.inventory.settings import (
    Collecting,
    Drain,
    Expect,
    Gpus,
    Image,
    Known,
    Nightly,
    OwnBase,
    Registry,
    Relay,
    Retention,
    Service,
    Settings,
    Sideload,
    Source,
    Verify,
)
from fleet.secret import Secret

T = TypeVar("T")
SECRET_FIELDS = frozenset({"username", "password", "git_username", "git_password"})
SECRET_HINT = "write {env: NAME}, {file: PATH} or {command: [PROGRAM, ARGUMENT]}"  # noqa: S105  words about secrets
_SCP = re.compile(r"^[^/]+:")  # git@host:path, which is no path of ours


def path_of(node: Node) -> str:
    """A path as the file that set it means it; ~ is the user's home."""
    text = os.path.expanduser(str(node.value))  # noqa: PTH111  pathlib raises for an unknown user
    return os.path.abspath(os.path.join(os.path.dirname(node.place.file), text))  # noqa: PTH100, PTH118, PTH120


def secret_of(node: Node, label: str) -> tuple[Secret | None, list[Problem]]:
    """A secret's reference; never its value."""
    given = {key: inner for key, inner in node.value.items() if inner.value is not None}
    if len(given) != 1 or not set(given) <= {"env", "file", "command"}:
        return None, [node.place.problem(label, "a secret is exactly one of env, file and command", SECRET_HINT)]
    kind, inner = next(iter(given.items()))
    if kind == "command":
        words = plain(inner)
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            return None, [inner.place.problem(label, "command must be a list of strings", SECRET_HINT)]
        return Secret(label, command=tuple(words)), []
    if not isinstance(inner.value, str) or not inner.value:
        return None, [inner.place.problem(label, f"{kind} must be a string", SECRET_HINT)]
    return (Secret(label, env=inner.value) if kind == "env" else Secret(label, file=path_of(inner))), []


def settings_of(node: Node) -> Settings:
    """`node` has passed validation and holds no nulls."""
    image = _image(node.value["image"], "fleet.image", None) if "image" in node.value else None
    special: dict[str, Any] = {"image": image}
    if "gpus" in node.value:
        special["gpus"] = _simple(Gpus, node.value["gpus"])
    if "sideload" in node.value:
        special["sideload"] = _simple(Sideload, node.value["sideload"])
    if "nightly" in node.value:
        special["nightly"] = _simple(Nightly, node.value["nightly"])
    if "retention" in node.value:
        special["retention"] = _simple(Retention, node.value["retention"])
    if "relay" in node.value:
        special["relay"] = _relay(node.value["relay"])
    known = {
        host: _registry(inner, f"fleet.registries.{host}", {"host": host})
        for host, inner in (node.value["registries"].value if "registries" in node.value else {}).items()
    }
    special["registries"] = known
    if "registry" in node.value:
        special["registry"] = _registry(
            node.value["registry"], "fleet.registry", _access(node.value["registry"], known)
        )
    if "drain" in node.value:
        special["drain"] = _simple(Drain, node.value["drain"])
    services = node.value.get("services", Node({}, node.place))
    special["services"] = {name: _service(name, inner, image, known) for name, inner in services.value.items()}
    return _simple(Settings, node, special)


def _simple(kind: type[T], node: Node, special: Mapping[str, Any] | None = None) -> T:
    """Fields of the same names; `special` are those that were made already."""
    made = dict(special or {})
    for item in fields(kind):  # type: ignore[arg-type]
        if item.name in node.value and item.name not in made:
            made[item.name] = _value(node.value[item.name], str(item.type))
    return kind(**made)


def _value(node: Node, kind: str) -> Any:
    value = plain(node)
    if "Mapping[str, str]" in kind:
        return {key: str(inner) for key, inner in value.items()}
    if kind.endswith("'float'>") or kind == "float":
        return float(value)
    if isinstance(value, float) and "int" in kind:
        return int(value)
    return tuple(value) if isinstance(value, list) else value


def _secrets(node: Node, label: str) -> dict[str, Secret | None]:
    return {key: secret_of(node.value[key], f"{label}.{key}")[0] for key in SECRET_FIELDS if key in node.value}


def _source(node: Node, label: str) -> Source:
    special: dict[str, Any] = dict(_secrets(node, label))
    if "ca_file" in node.value:
        special["ca_file"] = path_of(node.value["ca_file"])
    if "base" in node.value:
        special["base"] = _simple(OwnBase, node.value["base"])
    if "patches" in node.value:
        special["patches"] = tuple(path_of(inner) for inner in node.value["patches"].value)
    if "repository" in node.value:
        repository = node.value["repository"]
        remote = "://" in repository.value or _SCP.match(repository.value)
        special["repository"] = repository.value if remote else path_of(repository)
    return _simple(Source, node, special)


def _image(node: Node, label: str, default: Image | None) -> Image:
    special: dict[str, Any] = {}
    if "name" not in node.value and default:
        special["name"] = default.name
    if "source" in node.value:
        special["source"] = _source(node.value["source"], f"{label}.source")
    if "archive" in node.value:
        special["archive"] = path_of(node.value["archive"])
    return _simple(Image, node, special)


def _relay(node: Node) -> Relay:
    """A text is the host alone."""
    if isinstance(node.value, str):
        return Relay(node.value)
    image = node.value.get("image")
    special: dict[str, Any] = {"image": _image(image, "fleet.relay.image", Relay().image)} if image else {}
    return _simple(Relay, node, special)


def _access(node: Node, known: Mapping[str, Registry]) -> dict[str, Any]:
    """What is said once of a registry, for those who name it by its host."""
    found = known.get(str(node.value["host"].value))
    if found is None:
        return {}
    return {
        key: getattr(found, key) for key in ("ca_file", "username", "password", "insecure") if key not in node.value
    }


def _registry(node: Node, label: str, inherited: Mapping[str, Any]) -> Registry:
    special: dict[str, Any] = {**inherited, **_secrets(node, label)}
    if "ca_file" in node.value:
        special["ca_file"] = path_of(node.value["ca_file"])
    if "collect" in node.value:
        special["collect"] = _simple(Collecting, node.value["collect"])
    return _simple(Registry, node, special)


def _verify(node: Node) -> Verify:
    special: dict[str, Any] = {}
    if "known" in node.value:
        special["known"] = tuple(
            _simple(Known, inner, {"expect": expect_of(plain(inner.value["expect"]))})
            for inner in node.value["known"].value
        )
    if "pass" in node.value:
        special["pass_"] = str(node.value["pass"].value)
    return _simple(Verify, node, special)


def expect_of(value: str | Mapping[str, Any]) -> Expect:
    """A text is what the answer begins with; otherwise the mapping names the kind."""
    if isinstance(value, str):
        return Expect(begins=(value,))
    return Expect(tuple(value.get("one_of", ())), value.get("contains", ""), value.get("regex", ""))


def _service(name: str, node: Node, image: Image | None, known: Mapping[str, Registry]) -> Service:
    label = f"fleet.services.{name}"
    special: dict[str, Any] = {"name": name}
    if "image" in node.value:
        special["image"] = _image(node.value["image"], f"{label}.image", image)
    if "registry" in node.value:
        registry = node.value["registry"]
        special["registry"] = _registry(registry, f"{label}.registry", _access(registry, known))
    if "verify" in node.value:
        special["verify"] = _verify(node.value["verify"])
    if "drain" in node.value:
        special["drain"] = _simple(Drain, node.value["drain"])
    if "secrets" in node.value:
        secrets = node.value["secrets"].value.items()
        special["secrets"] = {key: secret_of(inner, f"{label}.secrets.{key}")[0] for key, inner in secrets}
    return _simple(Service, node, special)
