"""Which files make an inventory: as given, then below inventories/; directories; group_vars and host_vars beside them.

Which files of a directory count and in which order is Ansible's: `InventoryManager.parse_source`, `DataLoader.find_vars_files`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fleet.errors import InputError, Problem

EXTENSIONS = ("", ".yml", ".yaml", ".json")
YAML_FILES = (".yml", ".yaml", ".json")
IGNORED_ENDS = (".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry")
IGNORED_NAMES = ("host_vars", "group_vars", "vars_plugins")
OUR_LOCK = ".lock.yaml"


def find(sources: Sequence[str], search: Path) -> tuple[Path, ...]:
    """The paths behind `-i` words, each as given or below `search`, with or without .yaml or .yml."""
    if not sources:
        raise InputError(Problem("--inventory", 0, 0, "", "no inventory is named", "-i prod, or FLEET_INVENTORY=prod"))
    found, problems = [], []
    for word in sources:
        candidates = [base + end for base in (word, str(search / word)) for end in ("", ".yaml", ".yml")]
        path = next((Path(one) for one in candidates if Path(one).exists()), None)
        if path is None:
            known = sorted(one.stem for one in search.glob("*.y*ml") if not one.name.endswith(OUR_LOCK))
            hint = f"in {search}/ there are: {', '.join(known)}" if known else f"looked here and in {search}/"
            problems.append(Problem(word, 0, 0, "", "there is no such inventory", hint))
        else:
            found.append(path)
    if problems:
        raise InputError(*problems)
    return tuple(found)


def documents(source: Path, problems: list[Problem]) -> Iterator[Path]:
    """The inventory files of a source: the file itself, or those of a directory in Ansible's order."""
    if not source.is_dir():
        if source.suffix in YAML_FILES or not source.suffix:
            yield source
        else:
            problems.append(_foreign(source))
        return
    for path in sorted(source.iterdir(), key=lambda one: one.name):
        name = path.name
        if name.startswith(".") or name in IGNORED_NAMES or name.endswith((*IGNORED_ENDS, OUR_LOCK)):
            continue
        if path.is_dir():
            yield from documents(path, problems)
        elif path.suffix in YAML_FILES or not path.suffix:
            yield path
        else:
            problems.append(_foreign(path))


def variable_files(source: Path, kind: str, name: str) -> tuple[Path, ...]:
    """Files of `group_vars/NAME` or `host_vars/NAME` beside a source; a directory gives all its files, sorted."""
    if "/" in name or name in (".", ".."):
        return ()
    base = source if source.is_dir() else source.parent
    for extension in EXTENSIONS:
        path = base / kind / f"{name}{extension}"
        if path.is_dir():
            return tuple(_inside(path)) if not extension else ()
        if path.exists():
            return (path,)
    return ()


def _inside(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir(), key=lambda one: one.name):
        if path.name.startswith(".") or path.name.endswith("~"):
            continue
        if path.is_dir():
            yield from _inside(path)
        elif path.suffix in EXTENSIONS:
            yield path


def _foreign(path: Path) -> Problem:
    return Problem(
        str(path),
        0,
        0,
        "",
        "is not a YAML inventory",
        "ansible-inventory --list --yaml --export writes one from any kind",
    )
