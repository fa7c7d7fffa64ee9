"""YAML and JSON text as a tree in which every value knows its place. Nothing but plain values is ever constructed.

The tree is built from parser events with a stack of our own, so that nesting, aliases and size are bounded here.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from fleet.errors import Problem

MAX_BYTES = 16 << 20
MAX_DEPTH = 64
MAX_VALUES = 400_000  # values of one file after its aliases are followed
CORE = "tag:yaml.org,2002:"
ANSIBLE_TAGS = frozenset({"!vault", "!vault-encrypted", "!unsafe"})
MAPS = frozenset({"map", "set", "omap", "python/dict"})
LISTS = frozenset({"seq", "omap", "pairs"})
SCALARS = frozenset({"str", "int", "float", "bool", "null", "timestamp", "binary", "python/unicode", "merge", "value"})
PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, order=True)
class Place:
    """Lines and columns count from 1; 0 means the whole file."""

    file: str
    line: int = 0
    col: int = 0

    def problem(self, path: str, message: str, hint: str = "") -> Problem:
        return Problem(self.file, self.line, self.col, path, message, hint)


@dataclass(frozen=True, eq=False)
class Node:
    """One value: a scalar, a dict of nodes, or a list of nodes. `tag` is !vault or !unsafe where that was written."""

    value: Any
    place: Place
    tag: str = ""
    keys: dict[Any, Place] = field(default_factory=dict)  # where each key of a mapping stands
    size: int = 1

    @property
    def kind(self) -> str:
        return kind_of(self.value)


class NotReadableError(Exception):
    """The text is no tree of plain values; carries the problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def kind_of(value: object) -> str:
    """A value's type in the words of somebody who writes YAML."""
    names = {dict: "a mapping", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "empty" if value is None else names.get(type(value), f"a {type(value).__name__}")


def plain(node: Node) -> Any:
    """The node as dicts, lists and scalars."""
    if isinstance(node.value, dict):
        return {key: plain(inner) for key, inner in node.value.items()}
    return [plain(inner) for inner in node.value] if isinstance(node.value, list) else node.value


def read(path: Path, kind: str = "inventory") -> tuple[Node | None, list[Problem]]:
    """One file; None for a file that says nothing or cannot be read. `kind` names the document in messages."""
    where = Place(str(path))
    try:
        if not path.is_file():
            return None, [where.problem("", "is not a regular file")]
        if path.stat().st_size > MAX_BYTES:
            return None, [where.problem("", f"is larger than {MAX_BYTES >> 20} MiB, which no {kind} is")]
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        return None, [where.problem("", f"cannot be read: {error.strerror}")]
    except UnicodeDecodeError as error:
        return None, [where.problem("", f"is not UTF-8 text (byte {error.start})", f"write the {kind} as UTF-8")]
    return parse(text, str(path), kind)


def parse(text: str, file: str, kind: str = "inventory") -> tuple[Node | None, list[Problem]]:
    """Like `read`, of text. Duplicate keys are problems, and the tree is given all the same."""
    if text.startswith("$ANSIBLE_VAULT;"):
        return None, [
            Place(file).problem("", "is encrypted with ansible-vault", "fleet does not decrypt: keep it apart")
        ]
    is_json = _is_json(text)
    builder = _Builder(file, kind, is_json=is_json)
    try:
        # Tabs stand between the tokens of JSON, where YAML has no place for them; never inside its strings.
        return builder.build(text.replace("\t", " ") if is_json else text), builder.problems
    except NotReadableError as error:
        return None, [*builder.problems, error.problem]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        words = " ".join(part for part in (error.context, error.problem) if part)
        return None, [*builder.problems, place.problem("", f"YAML syntax: {words}", _syntax_hint(text))]
    except (yaml.YAMLError, ValueError) as error:
        return None, [*builder.problems, Place(file).problem("", f"YAML syntax: {_first_line(error)}")]


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _syntax_hint(text: str) -> str:
    first = next((line.strip() for line in text.splitlines() if line.strip() and line.strip()[0] not in "#;"), "")
    if first.startswith("[") and first.endswith("]"):
        return "it looks like an INI inventory: `ansible-inventory -i FILE --list --yaml` converts it"
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _Open:
    """A mapping or list whose end has not been seen."""

    def __init__(self, event: Any, place: Place) -> None:
        self.event = event
        self.place = place
        self.items: list[Node] = []


class _Builder:
    def __init__(self, file: str, kind: str, *, is_json: bool) -> None:
        self.file = file
        self.kind = kind
        self.is_json = is_json
        self.problems: list[Problem] = []
        self.anchors: dict[str, Node | None] = {}
        self.resolver: Any = yaml.resolver.Resolver()
        self.constructor = yaml.constructor.SafeConstructor()
        self.merges: set[int] = set()
        self.kept: list[Node] = []  # keeps the ids in `merges` alive

    def build(self, text: str) -> Node | None:
        stack: list[_Open] = []
        root: Node | None = None
        documents = 0
        for event in self._events(text):
            place = self._place(event)
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(place, "holds more than one YAML document", f"write every {self.kind} as one document")
            if isinstance(event, MappingStartEvent | SequenceStartEvent):
                if len(stack) >= MAX_DEPTH:
                    self._refuse(place, f"is nested deeper than {MAX_DEPTH} levels")
                if event.anchor:
                    self.anchors[event.anchor] = None
                stack.append(_Open(event, place))
                continue
            node = self._node(event, place, stack)
            if node is None:
                continue
            if stack:
                stack[-1].items.append(node)
            else:
                root = node
        return None if root is None or root.value is None else root

    def _events(self, text: str) -> Iterator[Event]:
        loader = PARSER(text)
        try:
            while loader.check_event():
                yield loader.get_event()
        finally:
            loader.dispose()

    def _node(self, event: Event, place: Place, stack: list[_Open]) -> Node | None:
        if isinstance(event, AliasEvent):
            if event.anchor not in self.anchors:
                self._refuse(place, f"there is no anchor &{event.anchor}")
            known = self.anchors[event.anchor]
            if known is None:
                self._refuse(place, f"the alias *{event.anchor} holds itself")
            return known
        if isinstance(event, ScalarEvent):
            node = self._scalar(event, place)
        elif isinstance(event, MappingEndEvent):
            node = self._mapping(stack.pop())
        elif isinstance(event, SequenceEndEvent):
            node = self._sequence(stack.pop())
        else:
            return None
        started = getattr(event, "anchor", None) or self.anchor_of_closed
        self.anchor_of_closed = None
        if started:
            self.anchors[started] = node
        return node

    anchor_of_closed: str | None = None

    def _scalar(self, event: ScalarEvent, place: Place) -> Node:
        text: str = event.value
        if any("\ud800" <= char <= "\udfff" for char in text):  # JSON writes them as pairs
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        tag: str | None = event.tag
        written = ""
        if tag in ANSIBLE_TAGS:
            tag, written = (None if event.tag == "!unsafe" else f"{CORE}str"), str(event.tag)
        if tag is None or tag == "!":
            implicit = (True, False) if written == "!unsafe" else event.implicit
            tag = self.resolver.resolve(yaml.ScalarNode, text, implicit)
        if self.is_json and event.style is None:
            return Node(json.loads(text), place)
        kind = str(tag).removeprefix(CORE)
        if kind not in SCALARS:
            self._refuse(place, f"the tag {tag} is not known here")
        node = Node(self._construct(kind, text, place), place, written)
        if kind == "merge" and not event.tag:
            self.merges.add(id(node))
            self.kept.append(node)
        return node

    def _construct(self, kind: str, text: str, place: Place) -> Any:
        if kind in ("str", "merge", "value", "python/unicode"):
            return text
        try:
            made = self.constructor.construct_object(yaml.ScalarNode(f"{CORE}{kind}", text))
            if isinstance(made, int):
                str(made)  # a number too long to print is refused here
        except (ValueError, KeyError, AttributeError, IndexError, OverflowError, yaml.YAMLError) as error:
            self._refuse(place, f"is not a valid {kind}: {_first_line(error)}")
        return made

    def _mapping(self, opened: _Open) -> Node:
        written = self._collection_tag(opened, MAPS)
        entries: dict[Any, Node] = {}
        keys: dict[Any, Place] = {}
        merged: list[tuple[Any, Node, Place]] = []
        merge_at: Place | None = None
        for key, value in zip(opened.items[::2], opened.items[1::2], strict=True):
            if id(key) in self.merges:
                if merge_at:
                    self._duplicate("<<", key.place, merge_at)
                merge_at = key.place
                merged += self._merged(value)
                continue
            if isinstance(key.value, dict | list):
                self._refuse(
                    key.place, "a key must be a plain word, not a mapping or list", "quote text that has braces"
                )
            if key.value in entries:
                self._duplicate(key.value, key.place, keys[key.value])
            entries[key.value] = value
            keys[key.value] = key.place
        for name, value, place in merged:
            if name not in entries:
                entries[name] = value
                keys[name] = place
        size = 1 + len(entries) + sum(value.size for value in entries.values())
        return Node(entries, opened.place, written, keys, self._bounded(size, opened.place))

    def _merged(self, value: Node) -> list[tuple[Any, Node, Place]]:
        """What `<<: *anchor` brings; of a list of mappings the earlier wins."""
        sources = value.value if isinstance(value.value, list) else [value]
        for source in sources:
            if not isinstance(source.value, dict):
                self._refuse(source.place, f"`<<` takes a mapping, not {source.kind}")
        return [(key, inner, source.keys[key]) for source in sources for key, inner in source.value.items()]

    def _duplicate(self, key: object, place: Place, first: Place) -> None:
        hint = "write `<<: [*one, *two]`" if key == "<<" else "a plain YAML reader would silently keep the last one"
        self.problems.append(place.problem("", f"duplicate key {key!r}, first on line {first.line}", hint))

    def _sequence(self, opened: _Open) -> Node:
        written = self._collection_tag(opened, LISTS)
        size = 1 + sum(item.size for item in opened.items)
        return Node(opened.items, opened.place, written, size=self._bounded(size, opened.place))

    def _collection_tag(self, opened: _Open, known: frozenset[str]) -> str:
        self.anchor_of_closed = opened.event.anchor
        tag = opened.event.tag
        if tag in ANSIBLE_TAGS:
            return str(tag)
        if tag not in (None, "!") and tag.removeprefix(CORE) not in known:
            self._refuse(opened.place, f"the tag {tag} is not known here")
        return ""

    def _bounded(self, size: int, place: Place) -> int:
        if size > MAX_VALUES:
            self._refuse(place, f"holds more than {MAX_VALUES} values once aliases are followed")
        return size

    def _place(self, event: Event) -> Place:
        mark = event.start_mark
        return Place(self.file, mark.line + 1, mark.column + 1) if mark else Place(self.file)

    def _refuse(self, place: Place, message: str, hint: str = "") -> NoReturn:
        raise NotReadableError(place.problem("", message, hint))
