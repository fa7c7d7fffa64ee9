"""The merged `fleet:` mapping against schema.yaml, each mistake at the place where it was written."""

import difflib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema

from fleet.errors import Problem, UsageError
from fleet.facts.cards import families, family, gfx_of_model
from fleet.image import reference
from fleet.inventory.convert import SECRET_HINT
from fleet.inventory.judge import Kind, judge
from fleet.inventory.nodes import Node
from fleet.packaged import table

KIND = Kind(
    "fleet",
    "fleet",
    "fleet does not run Jinja: write the value, or move it to group_vars of the hosts that need it",
    "fleet decrypts nothing: use {env: NAME}, {file: PATH} or {command: [..]}",
    SECRET_HINT,
)


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of `fleet:`."""
    loaded: dict[str, Any] = table("fleet.inventory", "schema.yaml")
    return loaded


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def check(node: Node) -> tuple[Node, list[Problem]]:
    """`fleet` without its nulls, and everything that is wrong with it."""
    set_ = without_nulls(node)
    return set_, [*judge(set_, _validator(), KIND, written=node), *_images(set_), *_cards(set_), *_known(set_)]


def without_nulls(node: Node) -> Node:
    """Null means unset, in mappings of any depth."""
    if not isinstance(node.value, dict):
        return node
    value = {key: without_nulls(inner) for key, inner in node.value.items() if inner.value is not None or inner.tag}
    return Node(value, node.place, node.tag, node.keys)


def _images(fleet: Node) -> Iterator[Problem]:
    """What the schema cannot say of images: exactly one kind of source, and a name that may be inherited."""
    whole, services = _mapping(fleet), _mapping(_mapping(fleet).get("services"))
    named = [("fleet.image", whole["image"], False)] if "image" in whole else []
    inherited = "name" in _mapping(whole.get("image"))
    if "image" in _mapping(whole.get("relay")):
        named.append(("fleet.relay.image", whole["relay"].value["image"], True))
    for name, service in services.items():
        if "image" in _mapping(service):
            named.append((f"fleet.services.{name}.image", service.value["image"], inherited))
    for path, image, may_inherit in named:
        if not isinstance(image.value, dict):
            continue  # the schema has said so
        yield from _kinds(image, path)
        if path == "fleet.relay.image":
            for key in ("source", "strategy", "require_source"):
                if key in image.value:
                    words = "a relay's registry is not built from source"
                    yield image.value[key].place.problem(f"{path}.{key}", words, "for example prebuilt: registry:2")
        source = _mapping(image.value.get("source"))
        named_images = {"prebuilt": image.value.get("prebuilt"), "source.base_image": source.get("base_image")}
        for key, node in named_images.items():
            if node is not None and isinstance(node.value, str) and node.value:
                yield from _reference(node, f"{path}.{key}")
        if "base" in source and "strategy" not in image.value:
            yield from _own_base(source, f"{path}.source")
        if "name" not in image.value and not may_inherit:
            yield image.place.problem(path, "an image needs a name", "for example name: vllm-rocm")


def _reference(node: Node, path: str) -> Iterator[Problem]:
    try:
        reference.parse(node.value)
    except UsageError as error:
        yield node.place.problem(path, error.message.removeprefix("image reference "), error.hint)


def _kinds(image: Node, path: str) -> Iterator[Problem]:
    """Exactly one kind, or what a strategy can choose from; and a policy that can be met."""
    kinds = [kind for kind in ("source", "prebuilt", "archive") if kind in image.value]
    strategy, policy = image.value.get("strategy"), image.value.get("require_source")
    if strategy is None and len(kinds) != 1:
        said = f", not {' and '.join(kinds)}" if kinds else ""
        hint = f"`{kinds[0]}: null` drops an inherited one" if kinds else "for example source: {ref: v0.11.0}"
        hint += "; strategy: auto chooses" if kinds == ["source", "prebuilt"] else ""
        yield image.place.problem(path, f"an image is exactly one of source, prebuilt and archive{said}", hint)
    elif strategy is not None and "archive" in kinds:
        hint = "leave strategy out, or drop the archive by `archive: null`"
        yield strategy.place.problem(f"{path}.strategy", "an archive leaves nothing to choose", hint)
    elif strategy is not None:
        needed = {"prebuilt": "prebuilt", "source": "source", "own_base": "source"}.get(str(strategy.value))
        if needed and needed not in kinds:
            yield strategy.place.problem(f"{path}.strategy", f"{strategy.value} needs {needed}, which is not there")
        elif not kinds:
            hint = "source, prebuilt or both"
            yield strategy.place.problem(f"{path}.strategy", "there is nothing to choose from", hint)
    if policy is not None and policy.value is True:
        barred = strategy is not None and strategy.value == "prebuilt"
        if barred or (kinds and "source" not in kinds):
            words = "asks for a build from source, and the image is " + ("prebuilt" if barred else " and ".join(kinds))
            yield policy.place.problem(f"{path}.require_source", words, "give the image a source")


def _own_base(source: dict[str, Node], path: str) -> Iterator[Problem]:
    """One base only: the one that is built, or one that exists."""
    twice = {"base_image": source.get("base_image"), "args.BASE_IMAGE": _mapping(source.get("args")).get("BASE_IMAGE")}
    for name, node in twice.items():
        if node is not None and node.value != "":
            hint = "what the base is built on goes into base.args.BASE_IMAGE"
            yield node.place.problem(f"{path}.{name}", "there is a base of one's own (source.base) as well", hint)


def _cards(fleet: Node) -> Iterator[Problem]:
    """A card nobody wrote down has no target that a build could take, unless every image here names its own."""
    whole = _mapping(fleet)
    model = _mapping(whole.get("gpus")).get("model")
    if model is None or not isinstance(model.value, str) or not model.value or gfx_of_model(model.value):
        return
    services = map(_mapping, _mapping(whole.get("services")).values())
    images = [_mapping(one["image"]) for one in (whole, *services) if "image" in one]
    if images and all("gfx" in image or "gfx" in _mapping(image.get("source")) for image in images):
        return
    close = difflib.get_close_matches(family(model.value), families(), 1, 0.6)
    known = f"did you mean {close[0]}?" if close else f"known are {', '.join(families())}"
    hint = f"{known}; for another card name its target under image.gfx or image.source.gfx"
    yield model.place.problem("fleet.gpus.model", f"no GPU target is known of a card {model.value!r}", hint)


def _known(fleet: Node) -> Iterator[Problem]:
    """What the schema cannot say of known answers: patterns that mean something, and a rule that can be met."""
    for name, service in _mapping(_mapping(fleet).get("services")).items():
        verify = _mapping(_mapping(service).get("verify"))
        entries = verify["known"].value if "known" in verify else []
        if not isinstance(entries, list):
            continue  # the schema has said so
        path = f"fleet.services.{name}.verify"
        for number, entry in enumerate(entries):
            regex = _mapping(_mapping(entry).get("expect")).get("regex")
            if regex is not None and isinstance(regex.value, str):
                try:
                    re.compile(regex.value)
                except re.error as error:
                    where = f"{path}.known[{number}].expect.regex"
                    yield regex.place.problem(where, f"is no regular expression: {error}")
        rule, task = verify.get("pass"), verify.get("task")
        if rule is not None and isinstance(rule.value, int) and rule.value > len(entries):
            yield rule.place.problem(
                f"{path}.pass", f"asks for {rule.value} right answers of {len(entries)} known ones"
            )
        if entries and task is not None and task.value != "generate":
            yield task.place.problem(f"{path}.task", f"{task.value} has no known answers: they are for generate")


def _mapping(node: Node | None) -> dict[str, Node]:
    return node.value if node is not None and isinstance(node.value, dict) else {}
