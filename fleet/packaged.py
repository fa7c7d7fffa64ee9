"""The YAML tables that come with the package: read once, however many threads want one at the same moment."""

import threading
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

# libyaml reads ten times faster than the Python reader; a PyYAML without it lacks the name.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_lock = threading.RLock()


def table(package: str, name: str) -> Any:
    """The content of `name`, a file of `package`. Everybody gets the same value: do not change it."""
    with _lock:  # functools.cache alone lets every thread of a fan-out read the file
        return _read(package, name)


@cache
def _read(package: str, name: str) -> Any:
    text = files(package).joinpath(name).read_text("utf-8")
    return yaml.load(text, Loader=LOADER)  # noqa: S506  a safe loader, whichever it is
