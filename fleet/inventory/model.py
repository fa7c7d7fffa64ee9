"""The resolved inventory: frozen hosts with everything inherited already in place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.inventory.settings import Settings
from fleet.secret import Secret


@dataclass(frozen=True, order=True)
class Origin:
    """The place in a file that set a value. Lines and columns count from 1."""

    file: str
    line: int
    col: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Become:
    enabled: bool = False
    user: str = "root"
    password: Secret | None = None


@dataclass(frozen=True)
class Connection:
    """How to reach a host, as `ansible_*` variables say it; ~/.ssh/config fills in what is None."""

    address: str
    port: int | None = None
    user: str | None = None
    key_file: str | None = None
    password: Secret | None = None
    common_args: tuple[str, ...] = ()  # ansible_ssh_common_args and ansible_ssh_extra_args, split as a shell does
    become: Become = Become()


@dataclass(frozen=True)
class Host:
    """One host. `origins` maps a dotted path (`fleet.image.name`, `ansible_port`) to where it was set."""

    name: str
    groups: tuple[str, ...]  # every group it is in, in merge order, `all` first
    connection: Connection
    settings: Settings
    variables: Mapping[str, Any] = field(default_factory=dict, repr=False)  # all variables, the user's own too
    origins: Mapping[str, Origin] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Inventory:
    """Hosts in inventory order, and groups with their hosts in Ansible's order."""

    hosts: Mapping[str, Host]
    groups: Mapping[str, tuple[str, ...]]
    sources: tuple[Path, ...]
    lock: Path | None = None  # a lock of its own, as a night has one until it went well

    @property
    def lock_path(self) -> Path:
        """`<inventory>.lock.yaml` beside the first source."""
        return self.lock or self._beside("lock")

    @property
    def maintenance_path(self) -> Path:
        """`<inventory>.maintenance.yaml` beside the first source."""
        return self._beside("maintenance")

    def _beside(self, what: str) -> Path:
        first = self.sources[0]
        return first.with_name(f"{first.stem if first.is_file() else first.name}.{what}.yaml")
