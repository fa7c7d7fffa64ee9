"""Groups and hosts as Ansible's YAML inventory plugin builds them, before any variable is merged."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import Problem
from fleet.inventory.layers import combine
from fleet.inventory.names import MAX_HOSTS, BadRangeError, expand, split_address
from fleet.inventory.nodes import Node, Place

SECTIONS = ("vars", "children", "hosts")
# Ansible's list for directories, and our own record of resolved images.
IGNORED = (".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry", ".lock.yaml")


@dataclass(eq=False)
class Group:
    """`hosts` and `children` are in the order of the files. A lower priority is merged earlier at the same depth."""

    name: str
    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, None] = field(default_factory=dict)
    parents: dict[str, None] = field(default_factory=dict)
    variables: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Place] = field(default_factory=dict)
    priority: int = 1
    depth: int = 0


@dataclass(eq=False)
class HostEntry:
    name: str
    place: Place
    variables: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Place] = field(default_factory=dict)


class Tree:
    """Grows while sources are read; `finish` sets what Ansible reconciles at the end."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {"all": Group("all"), "ungrouped": Group("ungrouped")}
        self.hosts: dict[str, HostEntry] = {}
        self.problems: list[Problem] = []
        self._link("all", "ungrouped", Place(""))

    def add_file(self, root: Node) -> None:
        if not isinstance(root.value, dict):
            hint = "it begins with `all:` and holds hosts, children and vars"
            self._wrong(root.place, "", f"an inventory is a mapping, not {root.kind}", hint)
            return
        if root.value.get("plugin") and not isinstance(root.value["plugin"].value, dict):
            hint = "fleet reads static YAML: `ansible-inventory -i FILE --list --yaml` makes one of it"
            self._wrong(root.keys["plugin"], "plugin", "is the configuration of an Ansible inventory plugin", hint)
            return
        for name, data in root.value.items():
            self._group(name, data, root.keys[name])

    def add_names(self, names: str) -> None:
        """A comma list such as `host1,host2,` as Ansible's host_list plugin reads it."""
        for name in filter(None, (part.strip() for part in names.split(","))):
            address = split_address(name)
            host, port = address if address and "[" not in address[0] else (name, None)
            if host not in self.hosts:
                self._host(host, "ungrouped", port, Place(names))

    def ancestors(self, name: str) -> dict[str, None]:
        seen: dict[str, None] = {}
        waiting = list(self.groups[name].parents)
        while waiting:
            group = waiting.pop()
            if group not in seen:
                seen[group] = None
                waiting += self.groups[group].parents
        return seen

    def hosts_of(self, name: str) -> tuple[str, ...]:
        """A group's own hosts, then those of its children, level by level.

        Ansible walks a set from the third level on, in no fixed order; ours is that of the files.
        """
        found: dict[str, None] = {}
        seen = {name: None}
        level = [name]
        while level:
            for group in level:
                found.update(self.groups[group].hosts)
            level = [child for group in level for child in self.groups[group].children]
            level = [child for child in dict.fromkeys(level) if child not in seen]
            seen.update(dict.fromkeys(level))
        return tuple(found)

    def finish(self) -> dict[str, tuple[str, ...]]:
        """Tie loose groups to `all`, sort out `ungrouped`, measure depths; each host's groups in merge order."""
        for group in list(self.groups.values()):
            if group.name != "all" and not group.parents:
                self._link("all", group.name, Place(""))
        direct: dict[str, list[str]] = {name: [] for name in self.hosts}
        for group in self.groups.values():
            for host in group.hosts:
                direct[host].append(group.name)
        for host, names in direct.items():
            if set(names) - {"all", "ungrouped"}:
                self.groups["ungrouped"].hosts.pop(host, None)
                names[:] = [name for name in names if name != "ungrouped"]
            elif "ungrouped" not in names:
                self.groups["ungrouped"].hosts[host] = None
                names.append("ungrouped")
        self._measure()
        above = {name: self.ancestors(name) for name in self.groups}
        return {
            host: tuple(sorted({"all", *names, *(up for name in names for up in above[name])}, key=self._rank))
            for host, names in direct.items()
        }

    def _rank(self, name: str) -> tuple[bool, int, int, str]:
        group = self.groups[name]
        return (name != "all", group.depth, group.priority, name)

    def _measure(self) -> None:
        """Depth is the longest way down from `all`."""
        missing = {name: len(group.parents) for name, group in self.groups.items()}
        ready = [name for name, parents in missing.items() if not parents]
        while ready:
            group = self.groups[ready.pop()]
            for child in group.children:
                below = self.groups[child]
                below.depth = max(below.depth, group.depth + 1)
                missing[child] -= 1
                if not missing[child]:
                    ready.append(child)

    def _group(self, name: object, data: Node, place: Place) -> bool:
        if not isinstance(name, str) or not name:
            self._wrong(place, "", f"a group's name must be a string, not {name!r}", "quote it")
            return False
        self.groups.setdefault(name, Group(name))
        if data.value is None:
            return True
        if not isinstance(data.value, dict):
            hint = "a group holds hosts, children and vars"
            self._wrong(data.place, name, f"a group must be a mapping, not {data.kind}", hint)
            return True
        for key in data.value:
            if key not in SECTIONS:
                close = difflib.get_close_matches(str(key), SECTIONS, 1, 0.6)
                hint = f"did you mean {close[0]}?" if close else "a group holds hosts, children and vars"
                self._wrong(data.keys[key], name, f"unknown key {key!r} in a group", hint)
        for section in [key for key in data.value if key in SECTIONS]:  # Ansible takes them in the file's order
            for key, value, at in self._entries(name, section, data.value[section]):
                if section == "vars":
                    self._variable(self.groups[name], key, value, at)
                elif section == "children":
                    if self._group(key, value, at):
                        self._link(name, str(key), at)
                else:
                    self._hosts(name, key, value, at)
        return True

    def _entries(self, group: str, section: str, node: Node) -> Iterator[tuple[object, Node, Place]]:
        if isinstance(node.value, str) and node.value:
            yield node.value, Node(None, node.place), node.place
        elif isinstance(node.value, dict):
            yield from ((key, value, node.keys[key]) for key, value in node.value.items())
        elif node.value is not None:
            hint = "write each name with a colon after it" if section != "vars" else ""
            self._wrong(node.place, f"{group}.{section}", f"must be a mapping, not {node.kind}", hint)

    def _hosts(self, group: str, key: object, data: Node, place: Place) -> None:
        path = f"{group}.hosts"
        if not isinstance(key, str) or not key:
            self._wrong(place, path, f"a host's name must be a string, not {key!r}", "quote it")
            return
        if data.value not in (None, "") and not isinstance(data.value, dict):
            self._wrong(data.place, f"{path}.{key}", f"a host's variables are a mapping, not {data.kind}")
            return
        try:
            names, port = expand(key)
        except BadRangeError as error:
            self._wrong(place, f"{path}.{key}", str(error))
            return
        if len(self.hosts) + len(names) > 2 * MAX_HOSTS:
            self._wrong(place, f"{path}.{key}", f"the inventory has more than {MAX_HOSTS} hosts")
            return
        for name in names:
            self._host(name, group, port, place)
            # A host that shares its name with a group gives its variables to the group, in Ansible too.
            target = self.groups.get(name) or self.hosts[name]
            for variable, value in (data.value or {}).items():
                self._variable(target, variable, value, data.keys[variable])

    def _host(self, name: str, group: str, port: int | None, place: Place) -> None:
        if name not in self.hosts:
            self.hosts[name] = HostEntry(name, place)
            if port:
                self.hosts[name].variables["ansible_port"] = Node(port, place)
                self.hosts[name].keys["ansible_port"] = place
        self.groups[group].hosts[name] = None

    def _variable(self, target: Group | HostEntry, key: object, value: Node, place: Place) -> None:
        if isinstance(target, Group) and key == "ansible_group_priority":
            try:
                target.priority = int(value.value)
            except (TypeError, ValueError):
                self._wrong(value.place, target.name, "ansible_group_priority must be a number", "for example 10")
            return
        name = key if isinstance(key, str) else str(key)
        target.variables = combine(target.variables, {name: value})
        target.keys[name] = place

    def _link(self, parent: str, child: str, place: Place) -> None:
        if parent == child or child in self.ancestors(parent):
            self._wrong(
                place, f"{parent}.children.{child}", f"the groups {parent} and {child} hold each other in a cycle"
            )
            return
        self.groups[parent].children[child] = None
        self.groups[child].parents[parent] = None

    def _wrong(self, place: Place, path: str, message: str, hint: str = "") -> None:
        self.problems.append(place.problem(path, message, hint))


def sources_in(directory: Path) -> tuple[list[Path], list[Problem]]:
    """The inventory files of a directory in Ansible's order, and what in it cannot be read as one."""
    found: list[Path] = []
    problems: list[Problem] = []
    try:
        entries = sorted(directory.iterdir(), key=lambda path: path.name)
    except OSError as error:
        return [], [Place(str(directory)).problem("", f"cannot be read: {error.strerror}")]
    for path in entries:
        if path.name.startswith(".") or path.name in ("host_vars", "group_vars", "vars_plugins"):
            continue
        if path.name.endswith(IGNORED):
            continue
        if path.is_dir():
            more, wrong = ([], []) if path.is_symlink() else sources_in(path)
            found += more
            problems += wrong
        elif path.suffix in ("", ".yaml", ".yml", ".json"):
            found.append(path)
        else:
            hint = "fleet reads YAML: convert it with `ansible-inventory -i FILE --list --yaml`, or move it away"
            problems.append(Place(str(path)).problem("", f"a {path.suffix} file is no YAML inventory", hint))
    return found, problems
