"""The models below models_dir: what their configs say, how large they are, and whether all their files are there. Pure.

vLLM loads one format of a directory: *.safetensors where there are any, else *.bin, *.pt. So only that format is judged.
Source: DefaultModelLoader in vLLM's model_loader/default_loader.py.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fleet.facts.frames import Frames
from fleet.facts.stored import Model
from fleet.facts.words import json_object, natural, word

FORMATS = ("safetensors", "bin", "gguf", "pt")
_PART = re.compile(r"(.+)-([0-9]{5,6})-of-([0-9]{5,6})(\.\w+)")
_MOST_PARTS = 10_000
_NO_WEIGHTS = {"training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt"}


def models(frames: Frames) -> tuple[Model, ...] | None:
    """Every directory with a config.json or weights, one or two levels deep; None where nobody could look."""
    lines = frames.lines("models")
    if lines is None:
        return None
    configs = {path.removesuffix("/config.json"): text for path, text in frames.files("configs").items()}
    sizes, promises = _sizes(frames.lines("weights")), _promises(frames.lines("shards"))
    found = []
    for line in lines:
        match = re.match(r"(?:config|-) (weights|-) (.+)$", line)
        if match is None:
            continue  # a directory with a newline in its name
        has_weights, name = match.groups()
        config = json_object(configs.get(name, ""))
        known = None if sizes is None else sizes.get(name, {})
        complete = None if known is None else _judge(known, promises.get(name, {}))
        found.append(_model(name, has_weights == "weights", config, complete))
    return tuple(found)


def _model(
    name: str, weights: bool, config: Mapping[str, Any], judged: tuple[int, int | None, tuple[str, ...]] | None
) -> Model:
    nested = (config[key] for key in ("text_config", "llm_config") if isinstance(config.get(key), dict))
    both = {**next(nested, {}), **config}
    architectures = config.get("architectures")
    size, index_size, missing = judged or (None, None, None)
    return Model(
        name,
        weights,
        attention_heads=_whole(both, "num_attention_heads", "n_head", "n_heads"),
        kv_heads=_whole(both, "num_key_value_heads"),
        model_type=str(config["model_type"]) if "model_type" in config else None,
        architectures=tuple(map(str, architectures)) if isinstance(architectures, list) else (),
        max_positions=_whole(both, "max_position_embeddings"),
        dtype=word(both.get("dtype")) or word(both.get("torch_dtype")),
        weights_bytes=size,
        index_bytes=index_size,
        missing=missing,
    )


def _sizes(lines: Iterable[str] | None) -> dict[str, dict[str, int]] | None:
    """Lines `SIZE DIRECTORY/FILE` as directory -> file -> bytes; None where they could not be listed."""
    if lines is None:
        return None
    found: dict[str, dict[str, int]] = {}
    for line in lines:
        size, _, path = line.partition(" ")
        directory, _, name = path.rpartition("/")
        number = natural(size)
        if directory and number is not None:
            found.setdefault(directory.removeprefix("./"), {})[name] = number
    return found


def _promises(lines: Iterable[str] | None) -> dict[str, dict[str, tuple[set[str], int | None]]]:
    """Lines `DIRECTORY/INDEX:"FILE"` and `…:"total_size": N` as directory -> index -> (files, bytes)."""
    found: dict[str, dict[str, tuple[set[str], int | None]]] = {}
    for line in lines or ():
        match = re.fullmatch(r'(?:\./)?(.+)/([^/]+\.index\.json):(?:"([^"/]+)"|"total_size" *: *([0-9]+).*)', line)
        if match is None:
            continue
        directory, index, file, total = match.groups()
        files, size = found.setdefault(directory, {}).get(index, (set(), None))
        found[directory][index] = (files | {file} if file else files, natural(total) if total else size)
    return found


def _judge(
    sizes: Mapping[str, int], promises: Mapping[str, tuple[set[str], int | None]]
) -> tuple[int, int | None, tuple[str, ...]]:
    """(bytes, bytes by the index, files that are missing) of the format that would be loaded.

    A directory may hold several sets of weights (a maker's own and Hugging Face's); the most complete one counts.
    """
    wanted = [_format(file) for files, _ in promises.values() for file in sorted(files)[:1]]
    kind = next((form for form in FORMATS if any(_format(name) == form for name in sizes)), "")
    kind = kind or next((form for form in FORMATS if form in wanted), "")
    of_kind = {name: size for name, size in sizes.items() if _format(name) == kind}
    candidates = [
        (files, size) for files, size in promises.values() if any(_format(file) == kind for file in files)
    ] or _groups(of_kind)
    judged = []
    for files, size in candidates:
        missing = tuple(sorted(files - of_kind.keys()))
        judged.append((sum(of_kind.get(name, 0) for name in files), size, missing))
    if not judged:
        return sum(of_kind.values()), None, ()
    return min(judged, key=lambda entry: len(entry[2]))


def _groups(files: Mapping[str, int]) -> Sequence[tuple[set[str], int | None]]:
    """Sets of files that belong together by their names, `model-00001-of-00030.safetensors`."""
    groups: dict[tuple[str, str, str], set[str]] = {}
    whole: set[str] = set()
    for name in files:
        match = _PART.fullmatch(name)
        if name in _NO_WEIGHTS:
            continue
        if match is None or not 0 < int(match[3]) <= _MOST_PARTS:
            whole.add(name)
            continue
        digits = len(match[3])
        names = {f"{match[1]}-{part:0{digits}d}-of-{match[3]}{match[4]}" for part in range(1, int(match[3]) + 1)}
        groups[match[1], match[3], match[4]] = names
    one_file = {name for name in whole if not groups or name.startswith(("model.", "consolidated."))}
    return [(names, None) for names in groups.values()] + ([(one_file, None)] if one_file else [])


def _format(name: str) -> str:
    return name.rpartition(".")[2]


def _whole(values: Mapping[str, Any], *names: str) -> int | None:
    """The first of these that is a sensible count."""
    found = (values.get(name) for name in names)
    return next((n for n in found if isinstance(n, int) and not isinstance(n, bool) and 0 < n < 1 << 32), None)
