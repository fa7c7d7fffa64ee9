"""Which ROCm stack a base Dockerfile brings, by the two rules of vLLM's own `.buildkite/scripts/rocm/stack.sh`. Pure."""

import re
from dataclasses import dataclass

from fleet.image.dockerfile import BASE_ARG, Dockerfile


@dataclass(frozen=True)
class Stack:
    """`kind`: `therock` (pip wheels, no /opt/rocm), `legacy` (a rocm/dev image) or `unknown`. `rocm` is its version."""

    kind: str
    rocm: str = ""


def stack_of(base: Dockerfile) -> Stack:
    """`ARG ROCM_SDK_VERSION=x` means TheRock; else the version in the tag of `ARG BASE_IMAGE` is the ROCm of old."""
    defaults = {arg.name: arg.default or "" for arg in reversed(base.all_args)}
    sdk = re.match(r"[0-9.]+", defaults.get("ROCM_SDK_VERSION", ""))
    if sdk:
        return Stack("therock", sdk[0])
    tag = re.match(r".*:([0-9]+(?:\.[0-9]+)+)", defaults.get(BASE_ARG, ""))
    return Stack("legacy", tag[1]) if tag else Stack("unknown")


def base_path(dockerfile: str) -> str:
    """The base file that belongs to a vLLM Dockerfile: `Dockerfile.rocm_72` -> `Dockerfile.rocm_72_base`."""
    return dockerfile if dockerfile.endswith("_base") else f"{dockerfile}_base"


def vllm_path(base: str) -> str:
    """The other way round."""
    return base.removesuffix("_base")
