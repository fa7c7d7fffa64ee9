"""`fleet` in a process that writes down what it asks of hosts, engines and registries outside of the journal's seam.

    python -m tests.seam_watch FILE WORD...

WORD... is what an operator types behind `fleet`. FILE gets a line for each request: what asks (module:function), and how.
Requests of the engine and of registries that only read (GET, HEAD) are left out; of a command nobody can see that, so
LOOKS names those who only look. BESIDE are effects that are no steps by nature, each with its reason.
"""

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import requests

from fleet.journal.write import Journal
from fleet.program import main
from fleet.seam import Described
from fleet.transport import Session

LOOKS = {
    "fleet.facts.collect:_ask": "the probe",
    "fleet.serving.observe:read_state": "where we keep state",
    "fleet.journal.audit:read_all": "the audit",
    "fleet.rollout.past:look_back": "records of what answered",
}
BESIDE = {
    "fleet.locks.lock:_attempt": "a lock is there before the first step and ends by itself; the crash tests look for it",
}
# Between whoever asks and the wire.
_WAY = (
    "fleet.transport",
    "fleet.engine",
    "docker.",
    "requests",
    "urllib3",
    "http.",
    "threading",
    "contextlib",
    __name__,
)


def askers(file: Path) -> dict[str, str]:
    """Who asked something outside of the seam (module:function), with one example of what."""
    return dict(line.split(" ", 1) for line in file.read_text(encoding="utf-8").splitlines())


def watch(file: Path) -> None:
    within = threading.local()
    guard = threading.Lock()
    names = ("run", "script", "stream", "upload", "open_process", "interact")
    perform, begin, send = Journal.perform, threading.Thread.start, requests.Session.send
    file.touch()

    def note(how: str) -> None:
        if not getattr(within, "step", False):
            with guard, file.open("a", encoding="utf-8") as out:
                out.write(f"{_asker(sys._getframe(2))} {how}\n")

    def inside(do: Callable[[], Any]) -> Any:
        before, within.step = getattr(within, "step", False), True
        try:
            return do()
        finally:
            within.step = before

    def performing(self: Journal, host: str, step: Described, do: Callable[[], None], /) -> None:
        perform(self, host, step, lambda: inside(do))

    def beginning(self: threading.Thread) -> None:
        if getattr(within, "step", False):  # what a step has a thread do is of the step
            run = self.run
            self.run = lambda: inside(run)  # type: ignore[method-assign]
        begin(self)

    def sending(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if request.method not in ("GET", "HEAD"):
            note(f"{request.method} {request.url}")
        return send(self, request, **options)

    def asking(name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(Session, name)

        def ask(self: Session, *args: Any, **options: Any) -> Any:
            if not args or args[0] != ("docker", "system", "dial-stdio"):  # its requests are seen one by one
                note(f"{name} {json.dumps(str(args)[:80])}")
            return method(self, *args, **options)

        return ask

    Journal.perform = performing  # type: ignore[method-assign]
    threading.Thread.start = beginning  # type: ignore[method-assign]
    requests.Session.send = sending  # type: ignore[method-assign]
    for name in names:
        setattr(Session, name, asking(name))


def _asker(frame: FrameType | None) -> str:
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_WAY):
        frame = frame.f_back
    return f"{frame.f_globals['__name__']}:{frame.f_code.co_name}" if frame else "nobody:nothing"


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
    sys.argv = ["fleet", *sys.argv[2:]]
    main()
