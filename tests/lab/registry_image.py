"""CNCF Distribution as a docker-archive, made of Debian's own `docker-registry`: what a relay serves by."""

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from tests.lab.python_image import add_file

PROGRAM = Path("/usr/bin/docker-registry")


def registry_archive(target: Path) -> Path:
    """Write the archive to `target`. Its command line is that of the official image: `serve CONFIG`."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        add_file(tar, "bin/registry", PROGRAM.read_bytes(), 0o755)
        said = subprocess.run(("ldd", PROGRAM), capture_output=True, text=True, check=True).stdout
        for shared in sorted({word for word in said.split() if word.startswith("/")}):
            add_file(tar, shared.lstrip("/"), Path(shared).resolve().read_bytes(), 0o755)
    layer = made.getvalue()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2025-01-01T00:00:00Z",
        "config": {"Entrypoint": ["/bin/registry"], "Volumes": {"/var/lib/registry": {}}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": ["registry:2"], "Layers": ["layer.tar"]}]
    with tarfile.open(target, mode="w") as tar:
        add_file(tar, "config.json", json.dumps(config).encode(), 0o644)
        add_file(tar, "layer.tar", layer, 0o644)
        add_file(tar, "manifest.json", json.dumps(manifest).encode(), 0o644)
    return target
