"""What two releases have otherwise, by their records. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fleet.image.release import Release

# What tells most comes first.
FIELDS = (
    "name", "vllm_version", "vllm_commit", "source", "source_reference", "source_digest", "base", "base_digest",
    "gfx", "rocm", "content_key", "created", "entrypoint", "cmd", "user", "dropped",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One field, or one entry of a mapping (`arg NAME`, `version NAME`, `env NAME`, `label NAME`).

    An empty side is one that has none.
    """

    what: str
    before: str
    after: str


@dataclass(frozen=True)
class Layers:
    """Layers of the second release: how many the first one has too, and the compressed bytes of the others."""

    shared: int
    new: int
    new_bytes: int


def differences(before: Release, after: Release) -> tuple[Difference, ...]:
    """Empty for two records that tell the same; layers are for `layers`."""
    return tuple(_differences(before, after))


def layers(before: Release, after: Release) -> Layers:
    """Layers go by diffID, since equal content may be compressed in two ways."""
    held = set(before.diff_ids)
    sizes = dict(zip(after.diff_ids, after.layer_sizes, strict=True))
    new = [size for diff_id, size in sizes.items() if diff_id not in held]
    return Layers(len(sizes) - len(new), len(new), sum(new))


def _differences(before: Release, after: Release) -> Iterator[Difference]:
    for name in FIELDS:
        yield from _one(name.replace("_", " "), _text(getattr(before, name)), _text(getattr(after, name)))
    yield from _each("arg", before.args, after.args)
    yield from _each("version", before.versions, after.versions)
    yield from _each("env", before.env, after.env)
    yield from _each("label", before.labels, after.labels)


def _each(word: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted({*before, *after}):
        yield from _one(f"{word} {name}", before.get(name, ""), after.get(name, ""))


def _one(what: str, before: str, after: str) -> Iterator[Difference]:
    if before != after:
        yield Difference(what, before, after)


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
