"""A registry that has the simulated images and the records of their releases, and takes nothing."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fleet.image.layout import OCI_MANIFEST
from fleet.image.registry_api import EMPTY_CONFIG, RECORD
from fleet.image.release import Release, dumps
from fleet.image.workshop import record_tag, short_hash

NAME = "vllm-rocm"
GFX, ROCM = ("gfx942",), "6.4.1"


def digest_of(content: bytes | str) -> str:
    data = content.encode() if isinstance(content, str) else content
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def releases(count: int = 2) -> tuple[Release, ...]:
    """Releases that share all layers but the last."""
    found = []
    for number in range(count):
        layers = tuple(digest_of(f"layer {layer}") for layer in (*range(11), f"last of {number}"))
        found.append(
            Release(
                NAME,
                manifest_digest=digest_of(f"manifest {number}"),
                config_digest=digest_of(f"config {number}"),
                diff_ids=layers,
                layer_digests=tuple(digest_of(f"packed {layer}") for layer in layers),
                layer_sizes=(1000,) * len(layers),
                source="prebuilt",
                gfx=GFX,
                rocm=ROCM,
                entrypoint=("vllm",),
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "ROCM_PATH": "/opt/rocm"},
            )
        )
    return tuple(found)


@contextmanager
def registry(images: Sequence[Release]) -> Iterator[str]:
    """Serves on loopback; yields `127.0.0.1:PORT`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    host = f"127.0.0.1:{server.server_address[1]}"
    content: dict[str, bytes] = {}
    for release in images:
        content[f"manifests/{release.manifest_digest}"] = b"{}"
        record = dumps(release).encode()
        key = short_hash("prebuilt", f"{host}/{NAME}", release.manifest_digest, *GFX, ROCM)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": EMPTY_CONFIG, "digest": digest_of(b"{}"), "size": 2},
            "layers": [{"mediaType": RECORD, "digest": digest_of(record), "size": len(record)}],
        }
        content[f"manifests/{record_tag(key)}"] = json.dumps(manifest).encode()
        content[f"blobs/{digest_of(record)}"] = record
    tags = [path.removeprefix("manifests/") for path in content if path.startswith("manifests/fleet-")]
    content["tags/list"] = json.dumps({"name": NAME, "tags": tags}).encode()
    _Answer.content = content
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    content: dict[str, bytes]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix(f"/v2/{NAME}/")
        body = self.content.get(path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", OCI_MANIFEST)
        if body is not None and path.startswith("manifests/"):
            named = path.removeprefix("manifests/")
            self.send_header("Docker-Content-Digest", named if named.startswith("sha256:") else digest_of(body))
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body or b"")

    do_HEAD = do_GET  # noqa: N815  the name is http.server's
