"""What a holder says of itself, read back; and what a switch can carry."""

import shlex

import pytest

from fleet.errors import FleetError, HostError
from fleet.locks.owner import Holder, LockedError, Owner, read_look
from fleet.locks.program import LONGEST, PROGRAM, WAIT_ENGINE, WAIT_GPUS_IDLE, switch_lines

OWNER = Owner("änne & co\n", "2026-11-23/a", "laptop.corp", 1_795_400_000)


def said(*words: str, state: str = "busy", comm: str = "fleet-lock", inode: str = "26:1", more: str = "") -> list[str]:
    argv = ("sh", "-c", 'eval "$FLEET_LOCK"', "fleet-lock", "hold", "60", *words, f"inode={inode}", "uptime=940")
    lines = [
        "Welcome to node-1",
        f"fleet-lock {state}",
        "fleet-lock inode 26:1",
        "fleet-lock uptime 1000",
        f"fleet-lock process 77 70 ({comm})",
        *(f"fleet-lock word {word}" for word in argv),
    ]
    return [*lines, more] if more else lines


def test_a_holder_names_its_owner_whatever_the_names_are() -> None:
    look = read_look("n1", said(*OWNER.words()))
    assert look.holder == Holder(OWNER, 77, 60.0)
    assert not any(set(word) & set("\n '\"$") for word in OWNER.words())


def test_a_holder_that_runs_its_switch_is_told_apart() -> None:
    holder = read_look("n1", said(*OWNER.words(), comm="fleet-switch")).holder
    assert holder is not None
    assert holder.firing
    assert "puts the old container back" in str(holder)


def test_a_child_that_still_bears_the_holders_name_is_not_the_holder() -> None:
    child = [line.replace("77 70", "99 77") for line in said(*OWNER.words()) if "process" in line or "word" in line]
    head = ["fleet-lock busy", "fleet-lock inode 26:1", "fleet-lock uptime 1000"]
    look = read_look("n1", [*head, *child, *said(*OWNER.words())[4:]])
    assert look.holder is not None
    assert look.holder.pid == 77


def test_the_holder_of_another_directory_is_not_this_ones() -> None:
    assert read_look("n1", said(*OWNER.words(), inode="27:1")).holder == Holder()
    assert read_look("n1", said(*OWNER.words(), inode="27:1", state="free")).holder is None


def test_a_lock_without_a_readable_holder_is_held_by_somebody() -> None:
    look = read_look("n1", ["fleet-lock busy", "fleet-lock inode 26:1", "fleet-lock uptime 5"])
    assert str(look.holder) == "somebody who cannot be read"


def test_a_newer_holder_is_said_in_one_sentence() -> None:
    words = ("schema=2", "who=x")
    with pytest.raises(HostError, match=r"another version of fleet \(lock schema 2, this one knows 1\)"):
        read_look("n1", said(*words))


def test_a_refusal_says_who_where_which_run_and_for_how_long() -> None:
    error = LockedError("n1", Holder(Owner("ann", "r7", "laptop", 0), 7, 7300.0))
    assert error.message == "the host is locked by ann on laptop, run r7, since 1970-01-01 00:00:00 UTC, 2 h ago"
    assert error.hint == "wait with --lock-wait 5m, or end it: invoke unlock -i INVENTORY --limit n1"


def test_hosts_that_a_run_locked_a_moment_apart_say_the_same() -> None:
    owner = Owner("ann", "r7", "laptop", 0)
    first, second = (LockedError("n1", Holder(owner, pid, held)) for pid, held in ((7, 0.2), (9, 61.4)))
    assert first.message == second.message


def test_a_switch_carries_arguments_as_they_are() -> None:
    odd = ("echo", "a b", "c'd", "$HOME", "*", "", "é;rm")
    (line,) = switch_lines((odd,))
    assert tuple(shlex.split(line.removeprefix("run "))) == odd


@pytest.mark.parametrize("argv", [(), ("echo", "a\nb"), ("echo", "\x1b[2J"), ("echo", "x" * LONGEST)])
def test_a_switch_refuses_what_no_line_can_carry(argv: tuple[str, ...]) -> None:
    with pytest.raises(FleetError, match="cannot carry"):
        switch_lines((argv,))


@pytest.mark.parametrize("words", [WAIT_ENGINE, WAIT_GPUS_IDLE])
def test_what_the_host_waits_for_is_a_word_of_the_holder(words: tuple[str, ...]) -> None:
    assert f"\n{words[0]}() {{" in PROGRAM
