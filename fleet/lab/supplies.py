"""What builds need and nothing from outside may bring: the stand-in's git repository, and its base image on the builder."""

import os
import shutil
from pathlib import Path

from fleet.lab import base_image, vllm_repo
from fleet.lab.node import Node
from fleet.lab.paths import CACHE, Paths


def bring(builder: Node, paths: Paths) -> None:
    """Put both in their places unless they are there. The builder must run, and the base image be cached."""
    vllm_repo.make(paths.source)
    if builder.exec(("docker", "image", "inspect", base_image.NAME), check=False).returncode == 0:
        return
    inside = builder.root / "var/tmp/base.tar"
    try:
        shutil.copyfile(_archive(), inside)
        builder.exec(("docker", "load", "--quiet", "--input", "/var/tmp/base.tar"))
    finally:
        inside.unlink(missing_ok=True)


def _archive() -> Path:
    """The base image as `docker load` takes it; converted once, which takes longer than loading it."""
    ready = CACHE / "vllm-base.tar"
    if not ready.exists():
        new = ready.with_name(f"{ready.name}.new.{os.getpid()}")
        try:
            base_image.docker_archive(base_image.base_layout(), new).replace(ready)
        finally:
            new.unlink(missing_ok=True)
    return ready
