"""The console script `fleet`: the tasks' namespace as a program of its own, away from any checkout."""

import sys
from importlib.metadata import version
from pathlib import Path

from invoke.exceptions import UnknownFileType
from invoke.program import Program
from invoke.vendor.yaml import YAMLError

from fleet.arguments import help_first
from fleet.cli import guarded
from fleet.errors import UsageError
from fleet.tasks import namespace


class _Fleet(Program):
    """Reads invoke.yaml of the working directory, as `invoke` reads that beside its tasks."""

    def parse_collection(self) -> None:
        super().parse_collection()
        self.config.set_project_location(str(Path.cwd()))
        self.config.load_project()


def main() -> None:
    """The same fences around Invoke as around a verb: a pager that went away, a config file that is no YAML."""
    code = guarded(_run)
    if code:
        sys.exit(code)


def _run() -> None:
    program = _Fleet(name="fleet", binary="fleet", namespace=namespace, version=version("amd-fleet"))
    try:
        program.run(help_first(sys.argv))
    except YAMLError as error:
        said = " ".join(str(error).split())
        raise UsageError(
            f"a config file of Invoke is no YAML: {said}", hint="invoke.yaml, ~/.invoke.yaml, -f"
        ) from error
    except UnknownFileType as error:
        raise UsageError(str(error)) from error
    except (PermissionError, IsADirectoryError) as error:  # of another user's HOME, as su and sudo may leave it
        raise UsageError(
            f"{error.filename} cannot be read: {error.strerror}",
            hint="Invoke's config in $HOME; set HOME to a directory of yours",
        ) from error
