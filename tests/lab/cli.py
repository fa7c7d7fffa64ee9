"""The installed command, run as an operator would, in a working directory of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FLEET = Path(sys.executable).with_name("fleet")


@dataclass(frozen=True)
class Controller:
    """A directory to work in (its `.fleet/` is the cache) and the inventories to use, later ones over earlier."""

    directory: Path
    inventories: tuple[Path, ...]
    program: tuple[str, ...] = (str(FLEET),)  # what an operator types first

    def run(self, *words: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=self.directory,
            env={**os.environ, **environment},
        )

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """The command under way, to be interrupted."""
        return subprocess.Popen(
            self.argv(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env={**os.environ, **environment},
        )

    def argv(self, *words: str) -> tuple[str, ...]:
        verb, *rest = words
        return (*self.program, verb, *rest, *(word for path in self.inventories for word in ("--inventory", str(path))))

    def ask(self, *words: str, timeout: float = 300) -> tuple[int, Any]:
        """Exit code and the JSON document."""
        done = self.run(*words, "--json", timeout=timeout)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def over(self, path: Path) -> "Controller":
        """The same with one more inventory on top."""
        return replace(self, inventories=(*self.inventories, path))
