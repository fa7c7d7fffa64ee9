"""`fleet` in a process of its own that dies, or loses its link, at one step of one host.

    python -m tests.lab.crash_driver MOMENT HOST STEP LEASE ADDRESS WORD...

MOMENT is `before`, `after` or `during`; STEP is how the plan says the step; LEASE is in seconds; WORD... is what an
operator types behind `fleet`. Before and after: this process kills itself. During: nothing that the host at ADDRESS
says over SSH reaches us any more, so the step's effect may happen and its answer is lost; a moment later nothing of ours
reaches the host either. The rules stay until `mend` removes them. Any seam's step is caught, whatever made it.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from fleet.journal.write import Journal
from fleet.program import main
from fleet.rollout.claims import Claims
from fleet.seam import Described

ANSWER_LOST = 0.3  # seconds between the loss of answers and the loss of everything
REACHED = "the step was reached"  # said on standard error


def rules(address: str) -> tuple[tuple[str, ...], ...]:
    """What is dropped, as iptables wants it: first the host's answers, then what is said to it."""
    return (
        ("INPUT", "-s", address, "-p", "tcp", "--sport", "22", "-j", "DROP"),
        ("OUTPUT", "-d", address, "-p", "tcp", "--dport", "22", "-j", "DROP"),
    )


def mend(address: str) -> None:
    """Remove the rules of `cut`; none is fine."""
    for rule in rules(address):
        while not subprocess.run(("iptables", "-w", "-D", *rule), check=False, capture_output=True).returncode:
            pass


def cut(address: str) -> None:
    answers, rest = rules(address)
    subprocess.run(("iptables", "-w", "-I", *answers), check=True)
    later = threading.Timer(ANSWER_LOST, lambda: subprocess.run(("iptables", "-w", "-I", *rest), check=True))
    later.daemon = True
    later.start()


def wrap(moment: str, name: str, what: str, address: str) -> None:
    """Have the journal's seam do it, once, at the step."""
    perform = Journal.perform
    done = threading.Event()

    def fatal(self: Journal, host: str, step: Described, do: Callable[[], None], /) -> None:
        if (host, step.what) != (name, what) or done.is_set():
            perform(self, host, step, do)
            return
        done.set()
        os.write(2, f"{REACHED}\n".encode())
        if moment == "during":
            cut(address)
        elif moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        perform(self, host, step, do)
        if moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.perform = fatal  # type: ignore[method-assign]


def shorten(lease: float) -> None:
    begin = Claims.__init__

    def shortened(self: Claims, *args: object) -> None:
        begin(self, *args)  # type: ignore[arg-type]
        self.lease = lease

    Claims.__init__ = shortened  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    moment, name, what, lease, address, *words = sys.argv[1:]
    wrap(moment, name, what, address)
    shorten(float(lease))
    sys.argv = ["fleet", *words]
    main()
