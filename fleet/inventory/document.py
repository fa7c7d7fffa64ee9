"""YAML with positions: values that know their file, line and column; duplicate keys and hostile files are problems.

Built from parser events, so that depth, size and aliases are bounded before anything large exists.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fleet.errors import InputError, Problem
from fleet.inventory.model import Origin

MAX_DEPTH = 64
MAX_NODES = 500_000
MAX_BYTES = 16 << 20
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_resolver: Any = yaml.resolver.Resolver()  # yaml's stubs leave its methods untyped


@dataclass(frozen=True)
class Value:
    """One YAML node. `data` is a plain scalar, a tuple of Values, or a dict of str to Entry; `tag` an own tag like !vault."""

    data: Any
    origin: Origin
    tag: str = ""

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.data, dict)

    def plain(self) -> Any:
        """The value without positions; a tagged scalar as its text."""
        if isinstance(self.data, dict):
            return {key: entry.value.plain() for key, entry in self.data.items()}
        if isinstance(self.data, tuple):
            return [item.plain() for item in self.data]
        return self.data


@dataclass(frozen=True)
class Entry:
    """A mapping's entry: where its key stands, and its value."""

    key: Origin
    value: Value


def problem(origin: Origin, path: str, message: str, hint: str = "") -> Problem:
    return Problem(origin.file, origin.line, origin.col, path, message, hint)


def read(path: Path, problems: list[Problem]) -> Value | None:
    """The one document of a file; None when it is empty or broken (then `problems` says why)."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        problems.append(Problem(str(path), 0, 0, "", f"cannot be read: {error.strerror}"))
        return None
    if len(raw) > MAX_BYTES:
        problems.append(Problem(str(path), 0, 0, "", f"is larger than {MAX_BYTES >> 20} MiB", "is this an inventory?"))
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        problems.append(Problem(str(path), line, 1, "", "is not UTF-8 text", "is this an inventory?"))
        return None
    return _Composer(str(path), problems).compose(text)


@dataclass
class _Composer:
    file: str
    problems: list[Problem]
    anchors: dict[str, tuple[Value, int]] = field(default_factory=dict)  # with the values that it expands to
    count: int = 0

    def compose(self, text: str) -> Value | None:
        try:
            events = yaml.parse(text, Loader=_Loader)
            return self._document(events)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, col = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            words = " ".join(filter(None, (error.context, error.problem)))
            self.problems.append(Problem(self.file, line, col, "", f"YAML syntax: {words}"))
        except yaml.YAMLError as error:
            line = text[: getattr(error, "position", 0)].count("\n") + 1
            self.problems.append(Problem(self.file, line, 1, "", f"YAML syntax: {str(error).splitlines()[0]}"))
        except InputError as error:
            self.problems.extend(error.problems)
        except (ValueError, OverflowError) as error:
            self.problems.append(Problem(self.file, 0, 0, "", f"YAML value out of range: {error}"))
        return None

    def _document(self, events: Iterator[Any]) -> Value | None:
        found: Value | None = None
        for event in events:
            if isinstance(
                event, (yaml.StreamStartEvent, yaml.DocumentStartEvent, yaml.DocumentEndEvent, yaml.StreamEndEvent)
            ):
                continue
            if found is not None:
                raise InputError(
                    problem(self._origin(event), "", "holds more than one YAML document", "one document a file")
                )
            found = self._node(event, events, 0)
        return found

    def _origin(self, event: Any) -> Origin:
        return Origin(self.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Value:
        origin = self._origin(event)
        before = self.count
        self.count += 1
        if depth > MAX_DEPTH:
            raise InputError(problem(origin, "", f"is nested deeper than {MAX_DEPTH} levels"))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, origin)
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, origin)
        elif isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := next(events), yaml.SequenceEndEvent):
                items.append(self._node(inner, events, depth + 1))
            value = Value(tuple(items), origin)
        else:
            value = Value(self._mapping(events, depth), origin)
        if event.anchor:
            self.anchors[event.anchor] = (value, self.count - before)
        return value

    def _alias(self, event: Any, origin: Origin) -> Value:
        if event.anchor not in self.anchors:
            raise InputError(problem(origin, "", f"*{event.anchor} refers to an anchor that is not defined before it"))
        value, weight = self.anchors[event.anchor]
        self.count += weight
        if self.count > MAX_NODES:
            raise InputError(problem(origin, "", "its aliases expand to more than half a million values"))
        return value

    def _mapping(self, events: Iterator[Any], depth: int) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if isinstance(key.data, (dict, tuple)):
                self.problems.append(problem(key.origin, "", "a mapping's key must be a plain word"))
                continue
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                self._merge(value, merged)
                continue
            name = event.value if isinstance(event, yaml.ScalarEvent) else str(key.data)
            if name in found:
                first = found[name].key
                self.problems.append(
                    problem(key.origin, name, "this key stands twice in one mapping", f"first in line {first.line}")
                )
            found[name] = Entry(key.origin, value)
        return {**merged, **found}

    def _merge(self, value: Value, into: dict[str, Entry]) -> None:
        sources = value.data if isinstance(value.data, tuple) else (value,)
        for source in sources:
            if not source.is_mapping:
                self.problems.append(problem(source.origin, "<<", "only mappings can be merged"))
                continue
            for name, entry in source.data.items():
                into.setdefault(name, entry)

    def _scalar(self, event: Any, origin: Origin) -> Value:
        tag = event.tag or ""
        if tag and not tag.startswith("tag:yaml.org,2002:") and tag != "!":
            return Value(event.value, origin, tag)
        tag = tag if tag and tag != "!" else _resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        try:
            return Value(yaml.constructor.SafeConstructor().construct_object(node), origin)
        except (ValueError, OverflowError, KeyError):
            return Value(event.value, origin)


def keys(value: Value) -> Mapping[str, Entry]:
    """A mapping's entries; none for anything else."""
    return value.data if value.is_mapping else {}
