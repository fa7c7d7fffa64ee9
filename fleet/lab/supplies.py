"""What nothing from outside may bring: the stand-in's git repository and base image, and the real engine's model."""

import shutil

from fleet.lab import base_image, tiny_llama, vllm_repo
from fleet.lab.node import Node
from fleet.lab.paths import Paths


def bring(builder: Node, paths: Paths) -> None:
    """Put both in their places unless they are there. The builder must run, and the base image be cached."""
    vllm_repo.make(paths.source)
    if builder.exec(("docker", "image", "inspect", base_image.NAME), check=False).returncode == 0:
        return
    inside = builder.root / "var/tmp/base.tar"
    try:
        shutil.copyfile(base_image.base_archive(), inside)
        builder.exec(("docker", "load", "--quiet", "--input", "/var/tmp/base.tar"))
    finally:
        inside.unlink(missing_ok=True)


def bring_model(node: Node) -> None:
    """Give a running node the model that the real engine serves; files that are right already stay as they are."""
    directory = node.root / "srv/models" / tiny_llama.NAME
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in tiny_llama.files().items():
        file = directory / name
        if not file.exists() or file.read_bytes() != content:
            file.write_bytes(content)
