"""The environment of a program that somebody installed: its compiled modules are used as they lie beside it.

Invoke forbids Python to write compiled modules, so a directory of their own for them, or none, would stay empty of most of ours
and cost every command a second. `make setup` and pip compile what they install.
"""

import os

_APART = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")


def installed() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _APART}
