"""A stand-in for vLLM: its routes, flags and log lines, no model."""

from importlib.resources import files

_written = files(__package__).joinpath("VERSION")  # by the build
__version__ = _written.read_text().strip() if _written.is_file() else "0.0.0.dev0"
