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
            return self._text(os.fsencode(value), f"${self.env}")
        if self.file:
            try:
                return self._text(Path(self.file).expanduser().read_bytes(), self.file)
            except OSError as error:
                raise FleetError(f"secret {self.label}: cannot read {self.file}: {error.strerror}") from error
        try:
            return self._text(_printed(self.command), f"what `{self.command[0]}` prints")
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FleetError(f"secret {self.label}: `{self.command[0]}` could not be run: {error}") from error
        except subprocess.CalledProcessError as error:
            how = f"exited with {error.returncode}" if error.returncode > 0 else "was ended by a signal"
            raise FleetError(f"secret {self.label}: `{self.command[0]}` {how}", hint="run it by hand") from error

    def _text(self, content: bytes, what: str) -> str:
        try:
            return content.decode().removesuffix("\n")
        except UnicodeDecodeError:  # whose words show the secret's bytes
            raise FleetError(f"secret {self.label}: {what} is not UTF-8 text") from None

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return f"Secret({self.label}=***)"


@cache
def _printed(command: tuple[str, ...]) -> bytes:
    """What the command prints, run once in a process: fifty hosts shall not ask a password store fifty times.

    Its errors and questions go to the terminal as they are: they are for the person there, and for no log.
    """
    return subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True).stdout
