"""The merged `fleet:` mapping against schema.yaml, each mistake at the place where it was written."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema
import yaml
from jsonschema.exceptions import ValidationError

from fleet.errors import Problem
from fleet.inventory.convert import SECRET_HINT
from fleet.inventory.nodes import Node, kind_of, plain

JINJA_HINT = "fleet does not run Jinja: write the value, or move it to group_vars of the hosts that need it"
VAULT_HINT = "fleet decrypts nothing: use {env: NAME}, {file: PATH} or {command: [..]}"
WORDS = {"object": "a mapping", "array": "a list", "string": "a string", "integer": "a whole number"}
WORDS |= {"number": "a number", "boolean": "true or false"}


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of `fleet:`."""
    loaded: dict[str, Any] = yaml.safe_load(files("fleet.inventory").joinpath("schema.yaml").read_text("utf-8"))
    return loaded


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def check(node: Node) -> tuple[Node, list[Problem]]:
    """`fleet` without its nulls, and everything that is wrong with it."""
    set_ = without_nulls(node)
    foreign = list(_foreign(node, "fleet"))
    if not _has_words_for_keys(set_):
        return set_, foreign  # the schema speaks of words only
    told = {(one.line, one.col, one.file) for one in foreign}
    judged = [problem for error in _validator().iter_errors(plain(set_)) for problem in _problems(set_, error)]
    # A template in the place of a number is one mistake, not two.
    judged = [one for one in judged if (one.line, one.col, one.file) not in told]
    return set_, [*foreign, *judged, *_images(set_)]


def _has_words_for_keys(node: Node) -> bool:
    inner = node.value.values() if isinstance(node.value, dict) else node.value if isinstance(node.value, list) else ()
    words = not isinstance(node.value, dict) or all(isinstance(key, str) for key in node.value)
    return words and all(map(_has_words_for_keys, inner))


def without_nulls(node: Node) -> Node:
    """Null means unset, in mappings of any depth."""
    if not isinstance(node.value, dict):
        return node
    value = {key: without_nulls(inner) for key, inner in node.value.items() if inner.value is not None or inner.tag}
    return Node(value, node.place, node.tag, node.keys)


def _foreign(node: Node, path: str) -> Iterator[Problem]:
    """What only Ansible could read: Jinja and vault; and keys that are no words."""
    if node.tag:
        yield node.place.problem(path, f"{node.tag} is not supported inside fleet", VAULT_HINT)
    elif isinstance(node.value, dict):
        for key, inner in node.value.items():
            if not isinstance(key, str):
                yield node.keys[key].problem(path, f"the key {key!r} must be a string", "quote it")
                continue
            if "{{" in key or "{%" in key:
                yield node.keys[key].problem(path, "Jinja is not supported inside fleet", JINJA_HINT)
            yield from _foreign(inner, f"{path}.{key}")
    elif isinstance(node.value, list):
        for number, inner in enumerate(node.value):
            yield from _foreign(inner, f"{path}[{number}]")
    elif isinstance(node.value, str) and ("{{" in node.value or "{%" in node.value):
        yield node.place.problem(path, "Jinja is not supported inside fleet", JINJA_HINT)


def _images(fleet: Node) -> Iterator[Problem]:
    """What the schema cannot say of images: exactly one kind of source, and a name that may be inherited."""
    whole, services = _mapping(fleet), _mapping(_mapping(fleet).get("services"))
    named = [("fleet.image", whole["image"], False)] if "image" in whole else []
    inherited = "name" in _mapping(whole.get("image"))
    for name, service in services.items():
        if "image" in _mapping(service):
            named.append((f"fleet.services.{name}.image", service.value["image"], inherited))
    for path, image, may_inherit in named:
        if not isinstance(image.value, dict):
            continue  # the schema has said so
        kinds = [kind for kind in ("source", "prebuilt", "archive") if kind in image.value]
        if len(kinds) != 1:
            said = f", not {' and '.join(kinds)}" if kinds else ""
            hint = f"`{kinds[0]}: null` drops an inherited one" if kinds else "for example source: {ref: v0.11.0}"
            yield image.place.problem(path, f"an image is exactly one of source, prebuilt and archive{said}", hint)
        if "name" not in image.value and not may_inherit:
            yield image.place.problem(path, "an image needs a name", "for example name: vllm-rocm")


def _mapping(node: Node | None) -> dict[str, Node]:
    return node.value if node is not None and isinstance(node.value, dict) else {}


def _problems(root: Node, error: ValidationError) -> Iterator[Problem]:
    node, path = _at(root, error.absolute_path)
    rule: Any = error.validator_value
    value: Any = error.instance
    parent: Any = error.schema
    if error.validator == "additionalProperties":
        known = list(parent.get("properties", {}))
        for key in value:
            if key not in known:
                yield node.keys[key].problem(f"{path}.{key}", "unknown key", suggestion(key, known))
        return
    message, hint = _words(error, rule, value, parent)
    yield node.place.problem(path, message, hint)


def _words(error: ValidationError, rule: Any, value: Any, parent: Mapping[str, Any]) -> tuple[str, str]:
    """(message, hint) in the words of somebody who writes YAML."""
    example = parent.get("examples")
    such = f"for example {example[0]}" if example else ""
    match error.validator:
        case "type":
            wanted = [rule] if isinstance(rule, str) else rule
            said = " or ".join(WORDS.get(kind, kind) for kind in wanted)
            if parent.get("title") == "secret":
                return f"a secret is a reference, not {kind_of(value)}", SECRET_HINT
            hint = "quote it" if "string" in wanted and isinstance(value, bool | int | float) else such
            return f"must be {said}, not {kind_of(value)}", hint
        case "enum":
            said = value if isinstance(value, str) else kind_of(value)
            close = difflib.get_close_matches(str(value), [str(one) for one in rule], 1, 0.5)
            hint = f"did you mean {close[0]}?" if close and isinstance(value, str) else ""
            if value is False and "no" in rule:
                hint = 'quote it: "no"'  # YAML 1.1 reads a bare no as false
            return f"must be one of {', '.join(map(str, rule))}, not {said}", hint
        case "required":
            return f"{next(key for key in rule if key not in value)} is missing", such
        case "minimum" | "exclusiveMinimum":
            return f"must be {'more than' if 'ex' in str(error.validator) else 'at least'} {rule}, not {value}", such
        case "maximum":
            return f"must be at most {rule}, not {value}", such
        case "minProperties" | "maxProperties":
            return "a secret is exactly one of env, file and command", f"{SECRET_HINT}; null drops an inherited one"
        case "minLength" | "minItems":
            return "must not be empty", such
        case "pattern":
            return f"{value!r} does not fit {rule}", such
        case "anyOf":
            return f"must be a whole number from 1 or auto, not {value!r}", such
    return f"does not fit the schema's {error.validator}", such


def suggestion(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key.lower().replace("-", "_"), known, 1, 0.6)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"


def _at(root: Node, steps: Iterable[str | int]) -> tuple[Node, str]:
    node, path = root, "fleet"
    for step in steps:
        node = node.value[step]
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return node, path
