"""A tree of YAML against a JSON Schema: each mistake at the place where it was written, in words for its writer.

Beside JSON Schema's own keywords a schema may say `expects`, the words for what a pattern or an anyOf stands for.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError

from fleet.errors import Problem
from fleet.inventory.nodes import Node, kind_of, plain

WORDS = {"object": "a mapping", "array": "a list", "string": "a string", "integer": "a whole number"}
WORDS |= {"number": "a number", "boolean": "true or false", "null": "nothing"}


@dataclass(frozen=True)
class Kind:
    """A kind of document: its name inside messages, the path of its root, and what to do without templates and vaults."""

    name: str
    root: str
    jinja_hint: str
    vault_hint: str
    secret_hint: str = ""


def judge(
    node: Node, validator: jsonschema.Draft202012Validator, kind: Kind, *, written: Node | None = None
) -> list[Problem]:
    """Everything that the schema has against the tree, and what only Ansible could read in it.

    `written` is the tree as it stood in the file, where `node` was changed since.
    """
    foreign = list(_foreign(written or node, kind.root, kind))
    if not _has_words_for_keys(node):
        return foreign  # a schema speaks of words only
    told = {(one.line, one.col, one.file) for one in foreign}
    judged = [problem for error in validator.iter_errors(plain(node)) for problem in _problems(node, error, kind)]
    # A template in the place of a number is one mistake, not two.
    return [*foreign, *(one for one in judged if (one.line, one.col, one.file) not in told)]


def _has_words_for_keys(node: Node) -> bool:
    inner = node.value.values() if isinstance(node.value, dict) else node.value if isinstance(node.value, list) else ()
    words = not isinstance(node.value, dict) or all(isinstance(key, str) for key in node.value)
    return words and all(map(_has_words_for_keys, inner))


def _foreign(node: Node, path: str, kind: Kind) -> Iterator[Problem]:
    """What only Ansible could read: Jinja and vault; and keys that are no words."""
    if node.tag:
        yield node.place.problem(path, f"{node.tag} is not supported inside {kind.name}", kind.vault_hint)
    elif isinstance(node.value, dict):
        for key, inner in node.value.items():
            if not isinstance(key, str):
                yield node.keys[key].problem(path, f"the key {key!r} must be a string", "quote it")
                continue
            if "{{" in key or "{%" in key:
                yield node.keys[key].problem(path, f"Jinja is not supported inside {kind.name}", kind.jinja_hint)
            yield from _foreign(inner, f"{path}.{key}", kind)
    elif isinstance(node.value, list):
        for number, inner in enumerate(node.value):
            yield from _foreign(inner, f"{path}[{number}]", kind)
    elif isinstance(node.value, str) and ("{{" in node.value or "{%" in node.value):
        yield node.place.problem(path, f"Jinja is not supported inside {kind.name}", kind.jinja_hint)


def _problems(root: Node, error: ValidationError, kind: Kind) -> Iterator[Problem]:
    node, path = _at(root, error.absolute_path, kind)
    rule: Any = error.validator_value
    value: Any = error.instance
    parent: Any = error.schema
    if error.validator == "additionalProperties":
        known = list(parent.get("properties", {}))
        for key in value:
            if key not in known:
                yield node.keys[key].problem(f"{path}.{key}", "unknown key", suggestion(key, known))
        return
    message, hint = _words(error, rule, value, parent, kind)
    if "propertyNames" in error.absolute_schema_path and value in node.keys:
        yield node.keys[value].problem(f"{path}.{value}", f"the key {message}", hint)
        return
    yield node.place.problem(path, message, hint)


def _words(error: ValidationError, rule: Any, value: Any, parent: Mapping[str, Any], kind: Kind) -> tuple[str, str]:
    """(message, hint) in the words of somebody who writes YAML."""
    example = parent.get("examples")
    such = f"for example {example[0]}" if example else ""
    match error.validator:
        case "type":
            wanted = [rule] if isinstance(rule, str) else rule
            said = " or ".join(WORDS.get(one, one) for one in wanted)
            if parent.get("title") == "secret":
                return f"a secret is a reference, not {kind_of(value)}", kind.secret_hint
            if "expects" in parent:
                return f"must be {parent['expects']}, not {kind_of(value)}", such
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
        case "minProperties" | "maxProperties" if parent.get("title") == "secret":
            return (
                "a secret is exactly one of env, file and command",
                f"{kind.secret_hint}; null drops an inherited one",
            )
        case "minLength" | "minItems":
            return "must not be empty", such
        case "pattern" | "anyOf" | "minProperties" | "maxProperties" if "expects" in parent:
            said = repr(value) if isinstance(value, str | int | float) else kind_of(value)
            return f"must be {parent['expects']}, not {said}", such
        case "pattern":
            return f"{value!r} does not fit {rule}", such
    return f"does not fit the schema's {error.validator}", such


def suggestion(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key.lower().replace("-", "_"), known, 1, 0.6)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"


def _at(root: Node, steps: Iterable[str | int], kind: Kind) -> tuple[Node, str]:
    node, path = root, kind.root
    for step in steps:
        node = node.value[step]
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return node, path
