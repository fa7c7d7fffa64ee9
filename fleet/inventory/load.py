"""YAML files to a resolved Inventory, with every problem of all files at once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fleet.errors import InputError, Problem
from fleet.inventory import convert, documents, patterns
from fleet.inventory.connection import connection
from fleet.inventory.document import Entry, Value, keys, problem, read
from fleet.inventory.groups import Tree, Variables, priorities, sort_groups
from fleet.inventory.merge import OURS, layered
from fleet.inventory.model import Host, Inventory, Origin
from fleet.inventory.settings import Service, Settings
from fleet.inventory.validate import check, without_nulls


def load(sources: Sequence[str], *, search: Path = Path("inventories")) -> Inventory:
    """The inventory behind `-i` words. Raises InputError with all that is wrong; then nothing was touched."""
    paths = documents.find(sources, search)
    problems: list[Problem] = []
    tree = Tree(problems=problems)
    for path in paths:
        for file in documents.documents(path, problems):
            if (document := read(file, problems)) is not None:
                tree.add(document)
            elif not problems:
                problems.append(Problem(str(file), 0, 0, "", "the inventory is empty", "begin with `all:`"))
    tree.finish()
    if not tree.hosts and not problems:
        problems.append(Problem(str(paths[0]), 0, 0, "", "the inventory has no hosts"))
    loader = _Loader(tree, paths, problems)
    hosts = {name: loader.host(name) for name in tree.hosts}
    groups = {name: tree.members(name) for name in tree.groups}
    loader.relations(hosts, groups)
    if problems:
        raise InputError(*problems)
    ordered = (*groups["all"], *(name for name in hosts if name not in groups["all"]))
    return Inventory({name: loader.served(hosts[name], groups, tuple(hosts)) for name in ordered}, groups, paths)


@dataclass
class _Resolved:
    """A merged `fleet:` with its settings; shared by the hosts that have nothing of their own."""

    value: Value
    settings: Settings
    origins: dict[str, Origin]


@dataclass
class _Loader:
    tree: Tree
    paths: tuple[Path, ...]
    problems: list[Problem]
    _files: dict[Path, Variables] = field(default_factory=dict)
    _groups: dict[frozenset[str], tuple[tuple[str, ...], Variables]] = field(default_factory=dict)
    _settings: dict[int, _Resolved] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._priority = priorities(self.tree, self.problems)

    def host(self, name: str) -> Host:
        groups, base = self._of_groups(self.tree.groups_of(name))
        own = [*self.tree.hosts[name], *self._variables("host_vars", (name,))]
        merged = layered([base, *own]) if own else base
        resolved = self._resolve(merged.get(OURS))
        link, link_origins, wrong = connection(name, merged)
        self.problems += wrong
        return Host(
            name=name,
            groups=groups,
            connection=link,
            settings=resolved.settings,
            variables={key: entry.value.plain() for key, entry in merged.items()},
            origins={**resolved.origins, **link_origins},
        )

    def relations(self, hosts: dict[str, Host], groups: dict[str, tuple[str, ...]]) -> None:
        """What concerns more than one value: the builder is a host, patterns select, ports do not meet."""
        for host in hosts.values():
            settings = host.settings
            if settings.builder and settings.builder not in hosts:
                near = get_close_matches(settings.builder, hosts, 1)
                self._complain(host, "fleet.builder", f"{settings.builder!r} is no host of the inventory", near)
            for service in settings.services.values():
                if service.hosts and not patterns.match(service.hosts, groups, tuple(hosts)):
                    self._complain(host, f"fleet.services.{service.name}.hosts", f"{service.hosts!r} selects no host")
            self._ports(self.served(host, groups, tuple(hosts)))

    def served(self, host: Host, groups: dict[str, tuple[str, ...]], names: tuple[str, ...]) -> Host:
        """The host with the services that are really its own: `hosts:` patterns, and builders without GPUs serve none."""
        settings = host.settings
        if settings.builder == host.name and not (settings.gpus.model or settings.gpus.count):
            return replace(host, settings=replace(settings, services={}))
        if not any(service.hosts for service in settings.services.values()):
            return host
        services = {
            name: service
            for name, service in settings.services.items()
            if not service.hosts or host.name in patterns.match(service.hosts, groups, names)
        }
        return replace(host, settings=replace(settings, services=services))

    def _ports(self, host: Host) -> None:
        taken: dict[int, Service] = {}
        for service in host.settings.services.values():
            for port in range(service.port, service.port + service.replicas):
                other = taken.setdefault(port, service)
                if other is not service:
                    path = f"fleet.services.{service.name}.port"
                    self._complain(host, path, f"port {port} of {service.name} is also {other.name}'s on {host.name}")
                    break

    def _complain(self, host: Host, path: str, message: str, near: Sequence[str] = ()) -> None:
        origin = _nearest(host.origins, path) or Origin(str(self.paths[0]), 0)
        self.problems.append(problem(origin, path, message, f"did you mean {near[0]!r}?" if near else ""))

    def _of_groups(self, names: frozenset[str]) -> tuple[tuple[str, ...], Variables]:
        """Merge order of a set of groups and their variables. `all` first, then group_vars/all, as in Ansible."""
        if names not in self._groups:
            order = sort_groups(self.tree, names, self._priority)
            rest = [name for name in order if name != "all"]
            inline = [layer for name in ("all", *rest) for layer in self.tree.groups[name].layers]
            files = [*self._variables("group_vars", ("all",)), *self._variables("group_vars", rest)]
            self._groups[names] = (tuple(order), layered([*inline, *files]))
        return self._groups[names]

    def _variables(self, kind: str, names: Iterable[str]) -> list[Variables]:
        names = tuple(names)
        return [
            self._file(file)
            for source in self._bases()
            for name in names
            for file in documents.variable_files(source, kind, name)
        ]

    def _bases(self) -> Iterator[Path]:
        """One source for each directory that may hold group_vars, so that two files of one directory count once."""
        seen = set()
        for path in self.paths:
            base = (path if path.is_dir() else path.parent).resolve()
            if base not in seen:
                seen.add(base)
                yield path

    def _file(self, path: Path) -> Variables:
        if path not in self._files:
            document = read(path, self.problems)
            if document is not None and document.data is not None and not document.is_mapping:
                self.problems.append(problem(document.origin, "", "variables are a mapping of names to values"))
            self._files[path] = dict(keys(document)) if document is not None else {}
        return self._files[path]

    def _resolve(self, entry: Entry | None) -> _Resolved:
        if entry is None or entry.value.data is None:
            return _Resolved(Value({}, Origin("", 0)), Settings(), {})
        known = self._settings.get(id(entry.value))
        if known is None or known.value is not entry.value:
            clean = without_nulls(entry.value)
            wrong = check(clean)
            self.problems += wrong
            settings = Settings() if wrong else convert.settings(clean)
            known = _Resolved(entry.value, settings, dict(_origins(clean, OURS)))
            self._settings[id(entry.value)] = known
        return known


def _origins(value: Value, path: str) -> Iterator[tuple[str, Origin]]:
    yield path, value.origin
    for name, entry in keys(value).items():
        yield from _origins(entry.value, f"{path}.{name}")


def _nearest(origins: Any, path: str) -> Origin | None:
    while path:
        if path in origins:
            found: Origin = origins[path]
            return found
        path = path.rpartition(".")[0]
    return None
