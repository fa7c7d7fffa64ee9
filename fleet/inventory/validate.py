"""Is a merged `fleet:` what the schema says? Every problem with the place that set the value. Pure but for reading the schema."""

import difflib
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from fleet.errors import Problem
from fleet.inventory.document import Entry, Value, problem
from fleet.inventory.model import Origin

JINJA = re.compile(r"\{\{|\{%|\{#")
SECRET_FORMS = "write {env: NAME}, {file: path} or {command: [..]}"  # noqa: S105  words about secrets


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of `fleet:`."""
    text = files("fleet.inventory").joinpath("schema.yaml").read_text("utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


def without_nulls(value: Value) -> Value:
    """Null unsets: entries without a value are left out, at every depth."""
    if value.is_mapping:
        kept = {
            key: Entry(entry.key, without_nulls(entry.value))
            for key, entry in value.data.items()
            if entry.value.data is not None
        }
        return Value(kept, value.origin)
    return value


def check(fleet: Value) -> list[Problem]:
    """All problems of one merged `fleet:`, the schema's, templates and tags."""
    found = [*templates(fleet, "fleet")]
    if not fleet.is_mapping:
        return [problem(fleet.origin, "fleet", "must be a mapping")]
    for error in _validator().iter_errors(fleet.plain()):
        found += _told(error, fleet)
    return [*found, *_images(fleet)]


def templates(value: Value, path: str) -> Iterator[Problem]:
    """Jinja and vault tags: nothing here renders or decrypts them."""
    if value.tag:
        hint = SECRET_FORMS if "vault" in value.tag else "write the value itself"
        yield problem(value.origin, path, f"{value.tag} is not read here", hint)
    elif value.is_mapping:
        for key, entry in value.data.items():
            yield from templates(entry.value, f"{path}.{key}")
    elif isinstance(value.data, tuple):
        for index, item in enumerate(value.data):
            yield from templates(item, f"{path}[{index}]")
    elif isinstance(value.data, str) and JINJA.search(value.data):
        yield problem(
            value.origin, path, "Jinja is not rendered here", "write the value itself, or set it per group or host"
        )


def _told(error: ValidationError, fleet: Value) -> Iterator[Problem]:
    path = ["fleet", *error.absolute_path]
    value, key = _at(fleet, list(error.absolute_path))
    words = _dotted(path)
    rule, got = error.validator, error.instance
    wanted: Any = error.validator_value
    schema_here: Any = error.schema
    if rule == "additionalProperties":
        known = list(schema_here.get("properties", ()))
        for name in got:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
                yield problem(value.data[name].key, f"{words}.{name}", "unknown key", hint)
    elif schema_here.get("title") == "secret":
        message = "a secret does not stand in the inventory" if isinstance(got, str) else "is no secret's source"
        yield problem(value.origin, words, message, SECRET_FORMS)
    elif rule == "required":
        for name in wanted:
            if name not in got:
                yield problem(key, words, f"{name!r} is missing")
    elif rule == "type":
        hint = "put it in quotes" if wanted == "string" and isinstance(got, (int, float)) else ""
        yield problem(value.origin, words, f"must be {_kinds(wanted)}, not {_brief(got)}", hint)
    elif rule == "enum":
        choices = [str(choice) for choice in wanted if choice is not False]
        near = difflib.get_close_matches(str(got).upper(), choices, 1) or difflib.get_close_matches(
            str(got), choices, 1
        )
        hint = f"did you mean {near[0]!r}?" if near else ""
        yield problem(value.origin, words, f"must be one of {', '.join(choices)}, not {_brief(got)}", hint)
    elif rule == "pattern":
        yield problem(value.origin, words, f"{_brief(got)} does not have the form {wanted}")
    elif rule == "anyOf":
        yield problem(value.origin, words, f"must be a number above 0 or auto, not {_brief(got)}")
    else:
        yield problem(value.origin, words, error.message[:200])


def _images(fleet: Value) -> Iterator[Problem]:
    """Exactly one kind of image wherever one is set."""
    services = _entry(fleet, "services")
    places = [("fleet", fleet)]
    if services and services.value.is_mapping:
        places += [(f"fleet.services.{name}", one.value) for name, one in services.value.data.items()]
    for path, holder in places:
        image = _entry(holder, "image")
        if not image or not image.value.is_mapping:
            continue
        kinds = {kind: image.value.data[kind] for kind in ("source", "prebuilt", "archive") if kind in image.value.data}
        if len(kinds) > 1:
            where = ", ".join(f"{kind} at {entry.key}" for kind, entry in kinds.items())
            unset = next(iter(kinds))
            yield problem(
                list(kinds.values())[-1].key, f"{path}.image", f"sets more than one kind of image: {where}",
                f"unset what a parent group set with `{unset}: null`",
            )  # fmt: skip
        elif not kinds:
            yield problem(image.key, f"{path}.image", "sets no kind of image", "one of source, prebuilt, archive")
        elif path == "fleet" and "name" not in image.value.data:
            yield problem(image.key, f"{path}.image", "'name' is missing", "as in name: vllm-rocm")


def _entry(value: Value, key: str) -> Entry | None:
    return value.data.get(key) if value.is_mapping else None


def _at(value: Value, path: list[str | int]) -> tuple[Value, Origin]:
    """The value at a path, and where its key stands."""
    key = value.origin
    for step in path:
        if isinstance(step, int):
            value = value.data[step]
            key = value.origin
        else:
            entry = value.data[step]
            value, key = entry.value, entry.key
    return value, key


def _dotted(path: list[Any]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _kinds(wanted: Any) -> str:
    names = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
             "object": "a mapping", "array": "a list"}  # fmt: skip
    return " or ".join(names[kind] for kind in ([wanted] if isinstance(wanted, str) else wanted))


def _brief(got: Any) -> str:
    if isinstance(got, dict):
        return "a mapping"
    return "a list" if isinstance(got, list) else f"{got!r:.60}"
