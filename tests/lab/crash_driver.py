"""`fleet` in a process of its own that dies, or loses its link, at one step of one host.

    python -m tests.lab.crash_driver MOMENT HOST STEP LEASE LAB WORD...

MOMENT is `before`, `after` or `during`; STEP is how the plan says the step; LEASE is in seconds; WORD... is what an
operator types behind `fleet`. Before and after: this process kills itself. During: nothing that the host
says over SSH reaches us any more, so the step's effect may happen and its answer is lost; a moment later nothing of ours
reaches the host either. The rules stay until `mend` removes them. Any seam's step is caught, whatever made it.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable

from fleet.journal.write import Journal
from fleet.lab import Lab
from fleet.lab.node import Node
from fleet.program import main
from fleet.rollout.claims import Claims
from fleet.seam import Described

ANSWER_LOST = 0.3  # seconds between the loss of answers and the loss of everything
REACHED = "the step was reached"  # said on standard error


# What the node's own firewall drops: first its answers, then what is said to it. On the node, so that they go with it.
ANSWERS = ("OUTPUT", "-p", "tcp", "--sport", "22", "-j", "DROP")
REST = ("INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP")


def mend(node: Node) -> None:
    """Remove the rules of `cut`; none is fine."""
    for rule in (ANSWERS, REST):
        while not node.exec(("iptables", "-w", "-D", *rule), check=False).returncode:
            pass


def cut(node: Node) -> None:
    node.exec(("iptables", "-w", "-I", *ANSWERS))
    later = threading.Timer(ANSWER_LOST, lambda: node.exec(("iptables", "-w", "-I", *REST)))
    later.daemon = True
    later.start()


def wrap(moment: str, name: str, what: str, lab: str) -> None:
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
            cut(Lab.find(lab).node(name))
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
    moment, name, what, lease, lab, *words = sys.argv[1:]
    wrap(moment, name, what, lab)
    shorten(float(lease))
    sys.argv = ["fleet", *words]
    main()
