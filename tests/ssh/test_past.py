"""The records of what answered, written and read by a real shell over SSH."""

import os
from pathlib import Path

import pytest

from fleet.image.release import Release
from fleet.inventory.settings import Service
from fleet.rollout import past
from fleet.rollout.past import LEAVE_SERVED, READ_SERVED, settings_of, understand
from fleet.transport import Session


def release(digit: str) -> Release:
    def digest(kind: str) -> str:
        return f"sha256:{digit}{kind * 63}"

    return Release("vllm-rocm", digest("a"), digest("c"), (digest("d"),), (digest("e"),), (5,), "prebuilt")


CHAT = Service("chat", "m", env={"GREETING": "it's $HOME, `id` and \\n", "UMLAUT": "ä"})
FAR = Service("chat.far", "m")


@pytest.fixture
def place(state_dir: Path) -> Path:
    """Where a login that is not root keeps its records."""
    return state_dir / "releases/served"


def put(session: Session, service: Service, one: Release) -> None:
    text = "".join(past._puts([service.name], {service.name: service}, {service.name: one}))
    session.script(LEAVE_SERVED + text)


def read(session: Session) -> dict[tuple[str, str], past.Record]:
    script = READ_SERVED.replace("/var/lib/fleet", "/nowhere")
    return understand(session.script(script).stdout.splitlines(), "a record")[0]


def test_what_is_written_comes_back_whole_and_only_the_login_may_read_it(session: Session, place: Path) -> None:
    assert read(session) == {}
    put(session, CHAT, release("1"))
    put(session, FAR, release("1"))
    put(session, CHAT, release("1"))
    found = read(session)
    assert set(found) == {("chat", release("1").id), ("chat.far", release("1").id)}
    one = found["chat", release("1").id]
    assert (one.release, dict(one.settings)) == (release("1"), settings_of(CHAT))
    assert {path.name for path in place.iterdir()} == {
        f"{name}@{release('1').id}.json" for name in ("chat", "chat.far")
    }
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}


def test_only_the_newest_records_of_a_service_stay(session: Session, place: Path) -> None:
    few = LEAVE_SERVED.replace(f"tail -n +{past.KEEP + 1}", "tail -n +3")
    assert few != LEAVE_SERVED
    put(session, FAR, release("f"))
    for age, digit in enumerate("123"):
        session.script(few + "".join(past._puts(["chat"], {"chat": CHAT}, {"chat": release(digit)})))
        os.utime(place / f"chat@{release(digit).id}.json", (age, age))
    session.script(few + "".join(past._puts(["chat"], {"chat": CHAT}, {"chat": release("4")})))
    assert set(read(session)) == {
        ("chat.far", release("f").id),
        ("chat", release("3").id),
        ("chat", release("4").id),
    }
