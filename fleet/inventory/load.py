"""Sources to a resolved Inventory, or every problem at once."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fleet.errors import InputError, Problem, UsageError
from fleet.inventory.connection import VARIABLES, connection_of
from fleet.inventory.convert import settings_of
from fleet.inventory.layers import Variables
from fleet.inventory.merge import Merger, VarsFiles
from fleet.inventory.model import Host, Inventory, Origin
from fleet.inventory.names import MAX_HOSTS
from fleet.inventory.nodes import Node, Place, plain, read
from fleet.inventory.patterns import match, split
from fleet.inventory.settings import Settings
from fleet.inventory.tree import Tree, sources_in
from fleet.inventory.validate import check

SUFFIXES = ("", ".yaml", ".yml", ".json")


def load(sources: Sequence[str], *, search: Path = Path("inventories")) -> Inventory:
    """Read sources in order (files, directories, `host1,host2,`), later ones over earlier ones.

    Each is looked up as given, then in `search`, with or without its suffix. Raises InputError with every problem.
    """
    tree = Tree()
    problems: list[Problem] = []
    found = []
    if not [source for source in sources if source]:
        problems.append(Place("inventory").problem("", "no inventory was named", "--inventory FILE"))
    for source in filter(None, sources):
        path = _find(source, search)
        if path is None and "," in source and "\0" not in source:
            tree.add_names(source)
            found.append(Path(source))
        elif path is None:
            problems.append(_missing(source, search))
        else:
            found.append(path)
            problems += _add(tree, path)
    groups_of = tree.finish()
    problems += tree.problems
    if len(tree.hosts) > MAX_HOSTS:
        problems.append(Place(str(found[0])).problem("", f"has more than {MAX_HOSTS} hosts", "is a range mistyped?"))
        raise InputError(*problems)
    directories = [path if path.is_dir() else path.parent for path in found if path.exists()]
    files = VarsFiles(directories)
    resolver = _Resolver(tree, files, groups_of, whole=not problems)
    hosts = {name: resolver.host(name) for name in tree.hosts}
    problems += [*files.problems, *resolver.problems]
    if problems:
        raise InputError(*problems)
    return Inventory(hosts, resolver.groups, tuple(found))


class _Resolver:
    """Hosts one by one; `fleet` mappings that hosts share are checked and converted once."""

    def __init__(self, tree: Tree, files: VarsFiles, groups_of: Mapping[str, tuple[str, ...]], *, whole: bool) -> None:
        self.groups = {name: tree.hosts_of(name) for name in tree.groups}
        self.problems: list[Problem] = []
        self._tree = tree
        self._merger = Merger(tree, files)
        self._groups_of = groups_of
        self._whole = whole  # a file that could not be read makes references to its hosts look wrong
        self._settings: dict[int, tuple[Node, Settings | None, Node]] = {}
        self._patterns: dict[str, frozenset[str]] = {}
        self._plain: dict[int, tuple[Node, object]] = {}

    def host(self, name: str) -> Host:
        groups = self._groups_of[name]
        variables = self._merger.variables(name, groups)
        connection, problems = connection_of(name, variables)
        self.problems += problems
        fleet = variables.get("fleet")
        settings = (
            self._fleet(name, fleet) if fleet is not None and (fleet.value is not None or fleet.tag) else Settings()
        )
        values = {key: self._as_plain(node) for key, node in variables.items()}
        return Host(name, groups, connection, settings, values, _origins(variables))

    def _as_plain(self, node: Node) -> object:
        if id(node) not in self._plain:
            self._plain[id(node)] = (node, plain(node))
        return self._plain[id(node)][1]

    def _fleet(self, host: str, fleet: Node) -> Settings:
        if id(fleet) not in self._settings:
            clean, problems = check(fleet)
            self.problems += problems
            self._settings[id(fleet)] = (fleet, None if problems else settings_of(clean), clean)
        _, settings, clean = self._settings[id(fleet)]
        if settings is None:
            return Settings()
        if settings.builder and settings.builder not in self._tree.hosts and self._whole:
            hint = "name a host of this inventory, or leave it out to build on the controller"
            self.problems.append(
                clean.value["builder"].place.problem(
                    "fleet.builder", f"{settings.builder} is not in the inventory", hint
                )
            )
        relay = settings.relay
        if relay and relay.host != "auto" and relay.host not in self._tree.hosts and self._whole:
            place = clean.value["relay"].place
            hint = "name a host of this inventory, or auto"
            self.problems.append(place.problem("fleet.relay", f"{relay.host} is not in the inventory", hint))
        mine = {
            key: service for key, service in settings.services.items() if self._serves(host, key, service.hosts, clean)
        }
        if settings.builder == host and not self._declares_gpus(host):
            mine = {}
        settings = Settings(**{**settings.__dict__, "services": mine})
        self.problems += _collisions(host, settings, clean)
        return settings

    def _serves(self, host: str, service: str, pattern: str, fleet: Node) -> bool:
        if not pattern:
            return True
        if pattern not in self._patterns:
            place = fleet.value["services"].value[service].value["hosts"].place
            path = f"fleet.services.{service}.hosts"
            try:
                names = match(self._tree.hosts, self.groups, split(pattern))
                if not names and self._whole:
                    self.problems.append(place.problem(path, f"no host matches {pattern!r}"))
            except UsageError as error:
                names = []
                self.problems.append(place.problem(path, error.message))
            self._patterns[pattern] = frozenset(names)
        return host in self._patterns[pattern]

    def _declares_gpus(self, host: str) -> bool:
        """By the host itself or one of its groups; what is said to `all` is no word about a builder."""
        groups = [group for group in self._groups_of[host] if group != "all"]
        files = self._merger.files
        inline = [self._tree.groups[group].variables for group in groups] + [self._tree.hosts[host].variables]
        layers: list[Variables] = [*inline, files.of("group_vars", groups), files.of("host_vars", [host])]
        fleets = [layer["fleet"].value for layer in layers if "fleet" in layer]
        return any(isinstance(fleet, dict) and "gpus" in fleet and fleet["gpus"].value for fleet in fleets)


def _collisions(host: str, settings: Settings, fleet: Node) -> Iterator[Problem]:
    taken: dict[int, str] = {}
    for service in settings.services.values():
        node = fleet.value["services"].value[service.name]
        place = node.value["port"].place if "port" in node.value else node.place
        path = f"fleet.services.{service.name}.port"
        ports = range(service.port, service.port + service.replicas)
        if ports[-1] > 65535:
            yield place.problem(path, f"{service.replicas} replicas from port {service.port} pass port 65535")
        clash = next((port for port in ports if port in taken), None)
        if clash is not None:
            hint = "replicas count their ports up: leave room between services"
            yield place.problem(path, f"port {clash} on {host} is also that of {taken[clash]}", hint)
        taken.update(dict.fromkeys(ports, service.name))


def _origins(variables: Variables) -> dict[str, Origin]:
    """Connection variables and every leaf below `fleet`, by dotted path."""
    found: dict[str, Origin] = {}

    def walk(node: Node, path: str) -> None:
        if isinstance(node.value, dict) and node.value:
            for key, inner in node.value.items():
                walk(inner, f"{path}.{key}")
        elif node.value is not None:
            found[path] = Origin(node.place.file, node.place.line, node.place.col)

    for name in (*VARIABLES, "fleet"):
        if name in variables:
            walk(variables[name], name)
    return found


def _find(source: str, search: Path) -> Path | None:
    for base in (Path(), search):
        for suffix in SUFFIXES:
            path = base / f"{source}{suffix}"
            if _exists(path):
                return path
    return None


def _exists(path: Path) -> bool:
    try:
        return os.path.exists(path)  # noqa: PTH110  answers where Path.exists raises, as for an over-long name
    except ValueError:
        return False


def _missing(source: str, search: Path) -> Problem:
    known = sorted(path.stem for path in search.glob("*.y*ml") if not path.name.endswith(".lock.yaml"))
    hint = f"in {search}/: {', '.join(known)}" if known else f"looked here and in {search}/"
    return Place(source.replace("\0", "?")).problem("", "no such inventory", hint)


def _add(tree: Tree, path: Path) -> list[Problem]:
    """Read one source, a directory in Ansible's order, into the tree."""
    paths, problems = sources_in(path) if path.is_dir() else ([path], [])
    if path.is_dir() and not paths and not problems:
        problems.append(Place(str(path)).problem("", "holds no inventory file", "*.yaml, *.yml or *.json"))
    for file in paths:
        if file.suffix in (".ini", ".toml"):
            hint = "convert it with `ansible-inventory -i FILE --list --yaml`"
            problems.append(Place(str(file)).problem("", f"a {file.suffix} file is no YAML inventory", hint))
            continue
        node, wrong = read(file)
        problems += wrong
        if node is not None:
            tree.add_file(node)
        elif not wrong:
            problems.append(Place(str(file)).problem("", "is empty", "an inventory begins with `all:`"))
    return problems
