"""The content key: what an image is made from, as one short word. Equal keys mean that there is nothing to build.

The key is the first 20 hexadecimal digits of the SHA-256 of one JSON text: keys sorted, no white space, ASCII only,

    {"args": {NAME: VALUE, …}, "base": "sha256:…", "commit": "…40 hex…", "dockerfile": "sha256 of its text",
     "gfx": ["gfx90a", …] sorted, "patches": ["sha256 of patch 1", …] in order, "schema": 1, "target": "…"}

Proxies, credentials, CA files and labels are left out: they say how a build ran, not what came out of it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

SCHEMA = 1
LENGTH = 20


@dataclass(frozen=True)
class Ingredients:
    """All that decides what a source build gives.

    `base` is the digest (or, where no registry has it, the builder's image ID) of the base image. `patches` are the
    SHA-256 of each patch, in the order they are applied. `target` is the stage that is really built.
    """

    commit: str
    dockerfile: str  # its text
    target: str
    args: Mapping[str, str]
    base: str
    gfx: tuple[str, ...]
    patches: tuple[str, ...] = ()


def content_key(ingredients: Ingredients) -> str:
    """The key of these ingredients; see the module for its exact making."""
    document = {
        "schema": SCHEMA,
        "commit": ingredients.commit,
        "dockerfile": text_hash(ingredients.dockerfile),
        "target": ingredients.target,
        "args": dict(ingredients.args),
        "base": ingredients.base,
        "gfx": sorted(set(ingredients.gfx)),
        "patches": list(ingredients.patches),
    }
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text_hash(canonical)[:LENGTH]


def text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
