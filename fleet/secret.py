"""Secrets are references until the moment of use, and print as `***` always."""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import FleetError


@dataclass(frozen=True)
class Secret:
    """Where a secret comes from: exactly one of env, file, command, or a literal from an Ansible variable.

    `label` names it in errors, for example `fleet.registry.password`.
    """

    label: str
    env: str = ""
    file: str = ""
    command: tuple[str, ...] = ()
    literal: str = field(default="", repr=False)

    def reveal(self) -> str:
        """The secret itself, read now; one trailing newline is dropped. Raises FleetError naming the source."""
        if self.literal:
            return self.literal
        if self.env:
            value = os.environ.get(self.env)
            if value is None:
                raise FleetError(f"secret {self.label}: ${self.env} is not set", hint=f"export {self.env}=…")
            return value
        if self.file:
            try:
                return Path(self.file).expanduser().read_text(encoding="utf-8").removesuffix("\n")
            except OSError as error:
                raise FleetError(f"secret {self.label}: cannot read {self.file}: {error.strerror}") from error
        return self._from_command()

    def _from_command(self) -> str:
        try:
            done = subprocess.run(self.command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FleetError(f"secret {self.label}: `{self.command[0]}` could not be run: {error}") from error
        if done.returncode:
            raise FleetError(f"secret {self.label}: `{self.command[0]}` exited with {done.returncode}")
        return done.stdout.removesuffix("\n")

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return f"Secret({self.label}=***)"
