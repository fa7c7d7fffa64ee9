"""Which names a model and its files may have, here and on hosts, and how Hugging Face's cache writes them. Pure."""

import re

from fleet.errors import UsageError

LISTED = ".fleet.sha256"  # the list of checksums beside a model's files; `sha256sum -c` reads it
MOUNT = "/app/models/"  # where a service's container sees models_dir
_WORD = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}"
_NAME = re.compile(rf"{_WORD}(/{_WORD})?")
_PART = re.compile(r"[A-Za-z0-9_+@=][A-Za-z0-9._+@=,~()-]{0,200}")
_CACHED = re.compile(rf"models--({_WORD})")
_DEPTH = 8


def checked(name: str) -> str:
    """A model's name as it may be written below models_dir: `NAME` or `ORG/NAME`. Raises UsageError."""
    if not _NAME.fullmatch(name):
        hint = "NAME or ORG/NAME of letters, digits and . _ + -, as it is called below models_dir"
        raise UsageError(f"{name!r} cannot be a model's name", hint=hint)
    if name.startswith("models--"):
        raise UsageError(f"{name!r} is a directory of Hugging Face's cache", hint="say ORG/NAME of the model in it")
    return name


def of_service(model: str) -> str:
    """The name below models_dir of what a service calls its model, or "" where that is no name there."""
    name = model.removeprefix(MOUNT).strip("/")
    return name if not model.removeprefix(MOUNT).startswith("/") and _NAME.fullmatch(name) else ""


def path_problem(path: str) -> str:
    """Why a file of a model cannot have this path, relative to the model, or ""."""
    parts = path.split("/")
    if len(parts) > _DEPTH:
        return f"{path!r} lies more than {_DEPTH} directories deep"
    if not all(_PART.fullmatch(part) for part in parts):
        return f"{path!r} is no plain relative path of letters, digits and . _ + @ = , ~ ( ) -"
    return ""


def cache_folder(name: str) -> str:
    """`org/name` as Hugging Face's cache calls its directory. Source: huggingface_hub's repo_folder_name."""
    return "models--" + name.replace("/", "--")


def of_cache(folder: str) -> str:
    """The other way round: `models--org--name` is `org/name`; "" for any other directory."""
    found = _CACHED.fullmatch(folder)
    return found[1].replace("--", "/", 1) if found else ""


def split(name: str) -> tuple[str, str]:
    """`org/name` as (`org`, `name`), `name` as (`.`, `name`)."""
    parent, _, base = name.rpartition("/")
    return parent or ".", base
