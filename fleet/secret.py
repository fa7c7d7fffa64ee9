"""Secrets are references until the moment of use, and print as `***` always."""

import os
import subprocess
from dataclasses import dataclass, field
from functools import cache
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
        try:
            return _printed(self.command)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FleetError(f"secret {self.label}: `{self.command[0]}` could not be run: {error}") from error
        except subprocess.CalledProcessError as error:
            how = f"exited with {error.returncode}" if error.returncode > 0 else "was ended by a signal"
            raise FleetError(f"secret {self.label}: `{self.command[0]}` {how}", hint="run it by hand") from error

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return f"Secret({self.label}=***)"


@cache
def _printed(command: tuple[str, ...]) -> str:
    """What the command prints, run once in a process: fifty hosts shall not ask a password store fifty times.

    Its errors and questions go to the terminal as they are: they are for the person there, and for no log.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    return done.stdout.removesuffix("\n")
