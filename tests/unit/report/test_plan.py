"""What a person reads of a plan."""

import io

from rich.console import Console

from fleet.report import plan as report
from fleet.rollout.hostplan import HostPlan
from fleet.serving.steps import Change, ServingPlan, Start, Stop

WHY = "command: --tensor-parallel-size 8 -> --tensor-parallel-size 2; devices: /dev/dri /dev/kfd -> /dev/kfd"
CHANGE = Change("chat-0", WHY, (Stop("chat-0", 60, WHY), Start("chat-0-new", WHY)))
PLANS = [HostPlan(name, (), ServingPlan((CHANGE,))) for name in ("mi300x-01", "mi300x-02", "mi250-01")]


def console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=60), out


def test_a_long_reason_is_told_once_for_a_host() -> None:
    terminal, out = console()
    report.show(terminal, PLANS[:2], verbose=False)
    assert out.getvalue().count(WHY) == 2
    assert out.getvalue().count("(as above)") == 2


def test_a_run_that_goes_on_tells_each_difference_once_for_all_its_hosts() -> None:
    terminal, out = console()
    report.show_differences(terminal, PLANS)
    command, devices = WHY.split("; ")
    hosts = "mi300x-[01:02], mi250-01"
    assert out.getvalue().splitlines() == [f"{hosts}  ~ chat-0: {command}", f"{hosts}  ~ chat-0: {devices}"]
