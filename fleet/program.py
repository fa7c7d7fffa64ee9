"""The console script `fleet`: the tasks' namespace as a program of its own, away from any checkout."""

from importlib.metadata import version

from invoke.program import Program

from fleet.tasks import namespace


def main() -> None:
    Program(name="fleet", binary="fleet", namespace=namespace, version=version("amd-fleet")).run()
