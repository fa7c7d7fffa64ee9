"""Run git with an inventory's credentials, CA file and proxies. Secrets reach the child's environment, never its argv."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import FleetError
from fleet.image import watch
from fleet.image.scratch import temporary
from fleet.image.watch import StalledError, judged
from fleet.inventory.settings import Source

NOT_FOUND = 127  # POSIX sh
STALL = 1800.0  # seconds without a word from a server: a large repository's may count and pack for minutes
_ASKPASS = """#!/bin/sh
case "$1" in
  Username*) printf '%s\\n' "$FLEET_GIT_USERNAME" ;;
  *) printf '%s\\n' "$FLEET_GIT_PASSWORD" ;;
esac
"""
_HINTS = {
    "could not resolve host": "this machine does not resolve that name; behind a proxy set source.proxy",
    "certificate": "set source.ca_file to the CA that signed the server's certificate",
    "authentication failed": "set source.git_username and source.git_password",
    "could not read username": "the repository asks for credentials: set source.git_username and source.git_password",
    "dubious ownership": "the repository belongs to another user: git config --global --add safe.directory PATH",
    "does not appear to be a git repository": "source.repository is a URL or the path of a git repository",
}


@dataclass(frozen=True)
class Done:
    exit_code: int
    stdout: str
    stderr: str


class Git:
    """Runs git commands in one prepared environment; made by `git_for`."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def try_run(
        self, *args: str, cwd: Path | None = None, extra: dict[str, str] | None = None, stall: float = 0
    ) -> Done:
        """One git command, whatever its exit code. Raises FleetError only when git is not installed, and StalledError after
        `stall` seconds without a word from it (0: never).
        """
        command: tuple[str, ...] = ("git", "-c", "credential.helper=", "-c", "gc.auto=0", *args)
        environment = {**self._environment, **(extra or {})}
        try:
            if stall:
                done = watch.run(command, stall, environment=environment, cwd=cwd, session=False)
            else:
                done = subprocess.run(
                    command, cwd=cwd, env=environment, capture_output=True, text=True, errors="replace", check=False
                )
        except FileNotFoundError as error:
            raise FleetError("git is not installed here", hint="apt-get install git") from error
        if stall and done.returncode == NOT_FOUND:
            raise FleetError("git is not installed here", hint="apt-get install git")
        return Done(judged(done.returncode, stall, f"git {args[0]}"), done.stdout, done.stderr)

    def run(
        self, doing: str, *args: str, cwd: Path | None = None, extra: dict[str, str] | None = None, stall: float = 0
    ) -> str:
        """The output of one git command. Raises FleetError that says what was being done and git's own reason."""
        try:
            done = self.try_run(*args, cwd=cwd, extra=extra, stall=stall)
        except StalledError as error:
            raise FleetError(f"{doing}: {error.message}", hint="does the server answer from here?") from error
        if done.exit_code:
            raise FleetError(f"{doing}: {reason(done.stderr)}", hint=hint(done.stderr))
        return done.stdout


@contextmanager
def git_for(source: Source) -> Iterator[Git]:
    """Git as this source needs it; the askpass helper (which holds no secret) is gone afterwards."""
    with temporary("fleet-git-") as folder:
        helper = folder / "askpass"
        helper.write_text(_ASKPASS, encoding="utf-8")
        helper.chmod(0o700)
        yield Git(_environment(source, str(helper)))


def reason(stderr: str) -> str:
    """Git's own words that matter: the first fatal or error line, else the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for line in lines:
        if line.startswith(("fatal:", "error:")):
            return line.partition(":")[2].strip()
    return lines[-1] if lines else "git gave no reason"


def hint(stderr: str) -> str:
    words = stderr.lower()
    return next((text for sign, text in _HINTS.items() if sign in words), "")


def _environment(source: Source, helper: str) -> dict[str, str]:
    # A git hook or an outer git command must not redirect ours by GIT_DIR and its like.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment.update(GIT_TERMINAL_PROMPT="0", LC_ALL="C", GIT_ASKPASS=helper, SSH_ASKPASS=helper)
    environment["FLEET_GIT_USERNAME"] = source.git_username.reveal() if source.git_username else ""
    environment["FLEET_GIT_PASSWORD"] = source.git_password.reveal() if source.git_password else ""
    if source.ca_file:
        environment["GIT_SSL_CAINFO"] = str(Path(source.ca_file).expanduser().absolute())
    for name, value in source.proxy.items():
        environment[name.lower()] = environment[name.upper()] = value
    environment.pop("HTTP_PROXY", None)  # curl reads the lower-case name only, and CGI made the other one suspect
    return environment
