"""Short forms: folded host names, failures that many hosts share, durations, the recap."""

import pytest

from fleet.errors import HostError
from fleet.locks import Holder, LockedError, Owner
from fleet.report import terminal
from fleet.report.hosts import fold
from fleet.report.recap import HostRecap, duration, lines


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (["mi300x-01", "mi300x-02", "mi300x-03"], "mi300x-[01:03]"),
        (["mi300x-01.dc1", "mi300x-03.dc1"], "mi300x-01.dc1, mi300x-03.dc1"),
        (["mi300x-01.dc1", "mi300x-02.dc1"], "mi300x-[01:02].dc1"),
        (["rack2-gpu3.a.b9", "10.0.0.1", "10.0.0.2"], "rack2-gpu3.a.b9, 10.0.0.[1:2]"),
        (["gpu1", "gpu2", "web"], "gpu[1:2], web"),
        (["n9", "n10"], "n9, n10"),
        ([], ""),
    ],
)
def test_folds_runs_of_numbers(names: list[str], folded: str) -> None:
    assert fold(names) == folded


def test_many_hosts_of_one_other_run_are_one_failure_with_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    owner = Owner("ann", "r7", "laptop", 0)
    locked = {name: LockedError(name, Holder(owner, 7, 3.0)) for name in ("n01", "n02", "n03", "x")}
    terminal.show_failures({**locked, "n09": HostError("n09", "broke", hint="invoke logs chat --limit n09")})
    first, command, other, its_command = capsys.readouterr().err.splitlines()
    assert first.startswith("FAILED n[01:03], x: the host is locked by ann on laptop, run r7")
    assert command.endswith("invoke unlock -i INVENTORY --limit 'n[01:03],x'")
    assert (other, its_command) == ("FAILED n09: broke", "  next: invoke logs chat --limit n09")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.84, "0.8 s"), (75, "75 s"), (725, "12 min 5 s"), (3725, "1 h 2 min")]
)
def test_durations_have_two_units_at_most(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_recap_aligns_hosts_and_ends_with_the_time() -> None:
    text = lines([HostRecap("a", ok=2, changed=1), HostRecap("long", unreachable=1)], 3)
    assert text[0].startswith("a    : ok=2")
    assert "unreachable=1" in text[1]
    assert text[-1] == "2 hosts in 3.0 s"
