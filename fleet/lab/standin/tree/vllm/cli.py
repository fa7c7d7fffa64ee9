"""`vllm serve MODEL [flags]`."""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from . import __version__, gpu, model, settings, startup
from .api import ROUTES, Server, State
from .arguments import parse, release
from .log import CORE, say, uvicorn


def main(words: Sequence[str] | None = None) -> int:
    """The exit code; argparse's is 2."""
    given = list(sys.argv[1:] if words is None else words)
    if given[:1] in (["--version"], ["-v"]):
        sys.stdout.write(f"{__version__}\n")
        return 0
    if given[:1] != ["serve"]:
        sys.stderr.write("usage: vllm [-h] [-v] {serve} ...\n")
        wrong = f"argument subparser: invalid choice: {given[0]!r} (choose from serve)" if given else "nothing to do"
        sys.stderr.write(f"vllm: error: {wrong}\n")
        return 2
    signal.signal(signal.SIGTERM, _stop_at_once)
    signal.signal(signal.SIGINT, _stop_at_once)
    return serve(parse(given[1:]))


def serve(arguments: argparse.Namespace) -> int:
    """Until SIGTERM."""
    startup.banner(arguments)
    tag = arguments.model_tag or arguments.model or "Qwen/Qwen3-0.6B"
    try:
        chosen = settings.read(model.directory_of(tag))
        startup.check(chosen)
    except ValueError as error:
        startup.api_died(f"ValueError: {error}")
    server = Server((arguments.host or "0.0.0.0", arguments.port), State((tag,), tag, 0))  # noqa: S104 - vLLM's default
    try:
        server.server_bind()
    except OSError as error:
        startup.api_died(f"OSError: {error}")
    try:
        loaded = model.load(tag, arguments)
    except model.ConfigError as error:
        startup.api_died(str(error))
    start = startup.Start(loaded, chosen, eager=bool(arguments.enforce_eager))
    count = arguments.tensor_parallel_size * arguments.pipeline_parallel_size * arguments.data_parallel_size
    try:
        held = gpu.open_devices(count, Path(os.environ.get("STANDIN_DEV", "/dev")), os.environ)
    except gpu.GpuError as error:
        startup.engine_died([str(error)])
    start.run()
    names = (chosen.wrong_model,) if chosen.wrong_model else tuple(arguments.served_model_name or (tag,))
    keys = arguments.api_key or [key for key in (os.environ.get("VLLM_API_KEY"),) if key]
    server.state = State(names, tag, loaded.longest, tuple(keys), chosen)
    _listen(server, start)
    for descriptor in held:
        os.close(descriptor)
    return 0


def _listen(server: Server, start: startup.Start) -> None:
    address, port = server.server_address[:2]
    say("api_server.py:1634", f"Supported_tasks: ['{start.settings.task}']")
    say(release()["lines"]["server"], f"Starting vLLM API server 0 on http://{address!s}:{port}")
    say("launcher.py:34", "Available routes are:")
    for path, methods in ROUTES.items():
        say("launcher.py:42", f"Route: {path}, Methods: {', '.join(methods)}")
    uvicorn(f"Started server process [{os.getpid()}]")
    uvicorn("Waiting for application startup.")
    start.reach("server")
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    server.server_activate()
    uvicorn("Application startup complete.")
    worker = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    worker.start()
    asked.wait()
    say("launcher.py:110", "Shutting down FastAPI HTTP server.")
    uvicorn("Shutting down")
    time.sleep(start.settings.stop_seconds)
    server.shutdown()
    server.server_close()
    uvicorn("Waiting for application shutdown.")
    uvicorn("Application shutdown complete.")
    uvicorn(f"Finished server process [{os.getpid()}]")


def _stop_at_once(*_: object) -> None:
    """A stop before the server is up."""
    say("core.py:722", "EngineCore exiting.", who=CORE, level="DEBUG")
    raise SystemExit(128 + signal.SIGTERM)
