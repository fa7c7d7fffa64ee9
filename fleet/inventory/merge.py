"""Ansible's order of precedence: which value of a variable a host ends up with, and from where."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.inventory.layers import Variables, fold
from fleet.inventory.nodes import Place, read
from fleet.inventory.tree import Tree

if TYPE_CHECKING:
    from fleet.errors import Problem


class VarsFiles:
    """`group_vars/` and `host_vars/` beside each source. Every file is read once."""

    def __init__(self, directories: Iterable[Path]) -> None:
        self.directories = tuple(directories)
        self.problems: list[Problem] = []
        self._read: dict[Path, Variables] = {}
        self._found: dict[tuple[Path, str], list[Path]] = {}
        self._present = {
            directory / kind
            for directory in self.directories
            for kind in ("group_vars", "host_vars")
            if (directory / kind).is_dir()
        }

    def of(self, kind: str, names: Iterable[str]) -> Variables:
        """Source by source, and within one source name by name, as Ansible's host_group_vars plugin does."""
        wanted = list(names)
        per_source = (
            fold(self._file(path) for name in wanted for path in self._files(directory / kind, name))
            for directory in self.directories
            if directory / kind in self._present
        )
        return fold(per_source)

    def _files(self, directory: Path, name: str) -> list[Path]:
        key = (directory, name)
        if key not in self._found:
            self._found[key] = self._search(directory, name)
        return self._found[key]

    def _search(self, directory: Path, name: str) -> list[Path]:
        if name.startswith("/") or "\0" in name or len(name) > 200:
            return []
        for suffix in ("", ".yml", ".yaml", ".json"):
            path = directory / f"{name}{suffix}"
            if path.is_dir():
                return self._below(path, 0)
            if path.exists():
                return [path]
        return []

    def _below(self, directory: Path, depth: int) -> list[Path]:
        found: list[Path] = []
        for path in sorted(directory.iterdir(), key=lambda path: path.name):
            if path.name.startswith(".") or path.name.endswith("~"):
                continue
            if path.is_dir() and not path.suffix and depth < 32:
                found += self._below(path, depth + 1)
            elif path.is_file() and path.suffix in ("", ".yml", ".yaml", ".json"):
                found.append(path)
        return found

    def _file(self, path: Path) -> Variables:
        if path not in self._read:
            node, problems = read(path)
            self.problems += problems
            self._read[path] = {}
            if node is not None and isinstance(node.value, dict):
                self._read[path] = {str(key): value for key, value in node.value.items()}
            elif node is not None and node.value:
                place = Place(str(path), node.place.line, node.place.col)
                self.problems.append(place.problem("", f"variables are a mapping, not {node.kind}"))
        return self._read[path]


class Merger:
    """Merged variables of each host; what hosts share is merged once."""

    def __init__(self, tree: Tree, files: VarsFiles) -> None:
        self.tree = tree
        self.files = files
        self._groups: dict[tuple[str, ...], Variables] = {}

    def variables(self, host: str, groups: tuple[str, ...]) -> Variables:
        """all, then the groups by depth, priority and name; their files; the host; its files."""
        if groups not in self._groups:
            inner = [name for name in groups if name != "all"]
            self._groups[groups] = fold(
                (
                    self.tree.groups["all"].variables,
                    fold(self.tree.groups[name].variables for name in inner),
                    self.files.of("group_vars", ["all"]),
                    self.files.of("group_vars", inner),
                )
            )
        own = self.tree.hosts[host].variables
        return fold((self._groups[groups], own, self.files.of("host_vars", [host])))
