"""Inventory files to groups and hosts, as Ansible's `yaml` plugin reads them. No variable is resolved here."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from fleet.errors import Problem
from fleet.inventory.document import Entry, Value, keys, problem
from fleet.inventory.ranges import RangeError, expand

SECTIONS = ("vars", "children", "hosts")
PRIORITY = "ansible_group_priority"  # an order, no variable
Variables = dict[str, Entry]


@dataclass
class Group:
    """A group under construction. `layers` are its `vars:` of each source, in order."""

    name: str
    layers: list[Variables] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)


@dataclass
class Tree:
    """All groups, and each host's own variables in layers."""

    groups: dict[str, Group] = field(default_factory=lambda: {name: Group(name) for name in ("all", "ungrouped")})
    hosts: dict[str, list[Variables]] = field(default_factory=dict)
    priority: dict[str, Entry] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._adopt("all", "ungrouped")

    def add(self, document: Value) -> None:
        """Take one inventory document in."""
        if not document.is_mapping:
            self.problems.append(
                problem(document.origin, "", "an inventory is a mapping of groups", "begin with `all:`")
            )
            return
        if not keys(document):
            self.problems.append(problem(document.origin, "", "the inventory is empty"))
        for name, entry in keys(document).items():
            self._group(name, entry, ())

    def finish(self) -> None:
        """Groups without parents become children of `all`; hosts in no group are `ungrouped`."""
        for name, group in self.groups.items():
            if name != "all" and not group.parents:
                self._adopt("all", name)
        grouped = set(
            chain.from_iterable(g.hosts for name, g in self.groups.items() if name not in ("all", "ungrouped"))
        )
        loose = self.groups["ungrouped"]
        loose.hosts = [host for host in loose.hosts if host not in grouped]
        loose.hosts += [host for host in self.hosts if host not in grouped and host not in loose.hosts]

    def ancestors(self, name: str) -> frozenset[str]:
        """All groups above a group, without itself."""
        found: set[str] = set()
        todo = list(self.groups[name].parents)
        while todo:
            parent = todo.pop()
            if parent not in found:
                found.add(parent)
                todo += self.groups[parent].parents
        return frozenset(found)

    def depth(self, name: str) -> int:
        """The longest way down from `all`, as Ansible orders groups by it."""
        return max((1 + self.depth(parent) for parent in self.groups[name].parents), default=0)

    def descendants(self, name: str) -> list[str]:
        """The group and all below it, level by level; one met again on a later level moves back, as in Ansible."""
        ordered, seen, level = [name], set[str](), {name}
        while level:
            seen |= level
            following: set[str] = set()
            for parent in [one for one in ordered if one in level]:
                for child in self.groups[parent].children:
                    if child not in seen:
                        following.add(child)
                    if child in ordered:
                        if child in level:
                            ordered.remove(child)
                            ordered.append(child)
                    else:
                        ordered.append(child)
            level = following
        return ordered

    def members(self, name: str) -> tuple[str, ...]:
        """Hosts of a group and of those below it."""
        return tuple(dict.fromkeys(chain.from_iterable(self.groups[one].hosts for one in self.descendants(name))))

    def groups_of(self, host: str) -> frozenset[str]:
        """Every group that a host is in, `all` too."""
        direct = [name for name, group in self.groups.items() if host in group.hosts]
        return frozenset({"all", *direct, *chain.from_iterable(self.ancestors(name) for name in direct)})

    def _group(self, name: str, entry: Entry, above: tuple[str, ...]) -> None:
        if name in above:
            circle = " > ".join((*above[above.index(name) :], name))
            self.problems.append(problem(entry.key, name, f"the groups go in a circle: {circle}"))
            return
        group = self.groups.setdefault(name, Group(name))
        if above and not self._adopt(above[-1], name):
            self.problems.append(problem(entry.key, name, f"the groups go in a circle: {name} is above {above[-1]}"))
            return
        value = entry.value
        if value.data is None:
            return
        if not value.is_mapping:
            self.problems.append(
                problem(
                    value.origin, name, f"a group is a mapping, not {_kind(value)}", f"it has {', '.join(SECTIONS)}"
                )
            )
            return
        for section, inside in keys(value).items():
            if section not in SECTIONS:
                self._unknown(section, inside, f"{name}.{section}")
        for section in SECTIONS:  # Ansible's order, whatever the file's: it decides the order of hosts
            if section not in keys(value):
                continue
            path, inside = f"{name}.{section}", keys(value)[section]
            body = inside.value
            if isinstance(body.data, str):  # Ansible reads `hosts: h1` as one host
                body = Value({body.data: Entry(body.origin, Value(None, body.origin))}, body.origin)
            if body.data is None:
                continue
            if not body.is_mapping:
                self.problems.append(problem(body.origin, path, f"must be a mapping, not {_kind(body)}", _dash(body)))
                continue
            if section == "vars":
                layer = dict(keys(body))
                if PRIORITY in layer:
                    self.priority[name] = layer.pop(PRIORITY)
                group.layers.append(layer)
            elif section == "children":
                for child, below in keys(body).items():
                    self._group(child, below, (*above, name))
            else:
                for pattern, host in keys(body).items():
                    self._hosts(group, pattern, host, path)

    def _hosts(self, group: Group, pattern: str, entry: Entry, path: str) -> None:
        try:
            names, port = expand(pattern)
        except RangeError as error:
            self.problems.append(problem(entry.key, f"{path}.{pattern}", f"{pattern} {error}", "as in web[01:16]"))
            return
        value = entry.value
        if value.data is not None and not value.is_mapping:
            self.problems.append(
                problem(value.origin, f"{path}.{pattern}", f"a host's variables are a mapping, not {_kind(value)}")
            )
            return
        own = dict(keys(value))
        if port is not None:
            own.setdefault("ansible_port", Entry(entry.key, Value(port, entry.key)))
        for name in names:
            self.hosts.setdefault(name, []).append(own)
            if name not in group.hosts:
                group.hosts.append(name)

    def _adopt(self, parent: str, child: str) -> bool:
        """False when that would close a circle."""
        if child == parent or child in self.ancestors(parent):
            return False
        if child not in self.groups[parent].children:
            self.groups[parent].children.append(child)
            self.groups[child].parents.append(parent)
        return True

    def _unknown(self, section: str, entry: Entry, path: str) -> None:
        """Ansible passes over what it does not know. A slip of the pen would lose hosts, so that is an error here."""
        if near := difflib.get_close_matches(section, SECTIONS, 1, 0.6):
            self.problems.append(problem(entry.key, path, f"a group has no {section!r}", f"did you mean {near[0]!r}?"))


def sort_groups(tree: Tree, names: Iterable[str], priority: dict[str, int]) -> list[str]:
    """Merge order: by depth, `ansible_group_priority`, name. Later ones win."""
    return sorted(names, key=lambda name: (tree.depth(name), priority.get(name, 1), name))


def priorities(tree: Tree) -> dict[str, int]:
    """`ansible_group_priority` counts only in the inventory itself."""
    found: dict[str, int] = {}
    for name, entry in tree.priority.items():
        try:
            found[name] = int(entry.value.data)
        except (TypeError, ValueError):
            tree.problems.append(problem(entry.value.origin, f"{name}.vars.{PRIORITY}", "must be a whole number"))
    return found


def _kind(value: Value) -> str:
    if isinstance(value.data, tuple):
        return "a list"
    return "a mapping" if value.is_mapping else f"{value.data!r:.40}"


def _dash(value: Value) -> str:
    return "write `name:` on each line, without a dash" if isinstance(value.data, tuple) else ""
