"""A container image with the machine's own Python and a very small `vllm`: enough to prove serving without a build."""

import io
import subprocess
import tarfile
from functools import cache
from pathlib import Path

from fleet.lab import Node

VLLM = '''#!/usr/bin/python3
"""`vllm serve MODEL [--flags]`: the routes that verification asks, and the log lines that the wait follows."""
import http.server, json, os, signal, sys, time

words = sys.argv[1:]
option = lambda name, other: words[words.index(name) + 1] if name in words else other
name, port, key = option("--served-model-name", "m"), int(option("--port", "8000")), os.environ.get("VLLM_API_KEY")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("INFO 01-01 00:00:00 [core.py:58] Initializing a V1 LLM engine (v0.11.0) with config: x", flush=True)
print("secret in the log:", key, flush=True)
gpu = open("/dev/kfd", "rb+", buffering=0) if os.environ.get("OPEN_KFD") else None
for percent in (0, 50, 100):
    print(f"Loading safetensors checkpoint shards: {percent}% Completed", flush=True)
    time.sleep(float(os.environ.get("SLOW", "0.1")))
if os.environ.get("BREAK"):
    print("ERROR 01-01 00:00:00 [core.py:700] torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1 GiB.")
    sys.exit("RuntimeError: Engine core initialization failed. See root cause above.")


class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = {"data": [{"id": name}]} if self.path == "/v1/models" else {}
        self.send(json.dumps(body).encode())

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        events = [{"choices": [{"text": word}]} for word in (" Paris", " is", " it")]
        events[-1]["choices"][0]["finish_reason"] = "stop"
        events.append({"choices": [], "usage": {"completion_tokens": 3}})
        self.send("".join(f"data: {json.dumps(event)}\\n\\n" for event in events).encode() + b"data: [DONE]\\n\\n")

    def send(self, body):
        allowed = not key or not self.path.startswith("/v1") or self.headers.get("Authorization") == f"Bearer {key}"
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(body if allowed else b'{"error":"Unauthorized"}')

    def log_message(self, *_):
        pass


print("INFO:     Application startup complete.", flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", port), Api).serve_forever()
'''


@cache
def image_tar(python: Path = Path("/usr/bin/python3")) -> bytes:
    """A root filesystem: busybox, Debian's Python with the libraries it links, and the `vllm` above."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        add_python(tar, python)
        add_file(tar, "usr/local/bin/vllm", VLLM.encode(), 0o755)
    return made.getvalue()


def add_python(tar: tarfile.TarFile, python: Path = Path("/usr/bin/python3"), *programs: Path) -> None:
    """Busybox, Python with what it needs, and further `programs` of the machine with the libraries they link."""
    add_file(tar, "bin/busybox", Path("/bin/busybox").read_bytes(), 0o755)
    for name in ("sh", "env", "cat", "sleep", "stty"):
        link = tarfile.TarInfo(f"bin/{name}")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)
    real = python.resolve()
    library = Path(f"/usr/lib/{real.name}")
    add_file(tar, "usr/bin/python3", real.read_bytes(), 0o755)
    tar.add(library, arcname=str(library).lstrip("/"), filter=_needed)
    for program in programs:
        add_file(tar, str(program).lstrip("/"), program.read_bytes(), 0o755)
    modules = Path(f"/usr/lib/{real.name}/lib-dynload").glob("_*.so")
    for shared in _linked(real, *modules, *programs):
        add_file(tar, shared.lstrip("/"), Path(shared).resolve().read_bytes(), 0o755)


def import_vllm(node: Node, reference: str, *changes: str) -> None:
    """Give the node's engine the image, with the `docker import --change` lines a test wants."""
    (node.root / "tmp/vllm.tar").write_bytes(image_tar())
    flags = [word for change in changes for word in ("--change", change)]
    node.exec(("docker", "import", *flags, "/tmp/vllm.tar", reference))


def add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.mtime = 0  # the same bytes every time
    unwanted = ("__pycache__", "/test", "/idlelib", "/lib2to3", "/tkinter", "/ensurepip", "/config-")
    return None if any(word in entry.name for word in unwanted) else entry


def _linked(*files: Path) -> list[str]:
    said = subprocess.run(("ldd", *map(str, files)), capture_output=True, text=True, check=True).stdout
    words = {word for line in said.splitlines() for word in line.split() if word.startswith("/") and ":" not in word}
    return sorted(words)
