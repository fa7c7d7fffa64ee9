"""The stand-in vLLM as a docker-archive, made of the machine's own Python in a second: no builder and no build."""

import hashlib
import io
import json
import random
import tarfile
from pathlib import Path

from fleet.lab.vllm_repo import HISTORY, files_of
from tests.lab.python_image import add_file, add_python

NAME = "vllm-rocm:standin"
SCRIPT = b"#!/usr/bin/python3\nimport sys\n\nfrom vllm.cli import main\n\nsys.exit(main())\n"
PACKAGES = "usr/lib/python3.11/vllm"  # on Debian 12's own path


def standin_archive(target: Path, *, mark: str = "", ballast: int = 0, change: int = 0) -> Path:
    """Write the archive to `target`; the same bytes every time on one machine.

    `mark` makes another release of it, `ballast` adds a layer of so many bytes that do not compress, `change` one more.
    """
    release = next(one for one in HISTORY if one.name == "v0.11.0")
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        add_python(tar, Path("/usr/bin/python3"), Path("/bin/bash"))
        for path, content in files_of(release).items():
            if path.startswith("vllm/"):
                add_file(tar, f"{PACKAGES}/{path.removeprefix('vllm/')}", content, 0o644)
        add_file(tar, f"{PACKAGES}/VERSION", b"0.11.0\n", 0o644)
        add_file(tar, "usr/local/bin/vllm", SCRIPT, 0o755)
    layers = {"layer.tar": made.getvalue()}
    for name, size in (("ballast", ballast), ("change", change)):
        if size:
            made = io.BytesIO()
            with tarfile.open(fileobj=made, mode="w") as tar:
                content = _noise(mark if name == "ballast" else mark + name, size)
                add_file(tar, f"srv/{name}", content, 0o644)
            layers[f"{name}.tar"] = made.getvalue()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2025-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "TERM=linux", *([f"MARK={mark}"] if mark else [])],
            "Entrypoint": ["vllm", "serve"],
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers.values()],
        },
    }
    manifest = [{"Config": "config.json", "RepoTags": [NAME], "Layers": list(layers)}]
    with tarfile.open(target, mode="w") as tar:
        add_file(tar, "config.json", json.dumps(config).encode(), 0o644)
        for name, layer in layers.items():
            add_file(tar, name, layer, 0o644)
        add_file(tar, "manifest.json", json.dumps(manifest).encode(), 0o644)
    return target


def _noise(seed: str, size: int) -> bytes:
    """Bytes that do not compress, the same for a seed every time."""
    source = random.Random(seed)  # noqa: S311  only bytes
    return b"".join(source.randbytes(min(size - start, 1 << 24)) for start in range(0, size, 1 << 24))


def image_text(archive: Path, *, registry: bool) -> str:
    """An inventory that gives every host this image; by ssh where there is no registry."""
    image = {"name": "vllm-rocm", "source": None, "archive": str(archive), "gfx": ["gfx90a", "gfx942"], "rocm": "6.4.3"}
    fleet = {"image": image} | ({} if registry else {"delivery": "sideload"})
    return json.dumps({"all": {"vars": {"fleet": fleet}}})
