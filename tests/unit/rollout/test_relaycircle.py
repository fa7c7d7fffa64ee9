"""What relays have made is undone once, and nothing is made behind the back of who undoes it."""

import datetime as dt
from pathlib import Path

import bcrypt
import pytest

from fleet.delivery.relay import Distrust
from fleet.delivery.site_ca import SiteCa
from fleet.errors import HostError
from fleet.rollout.relaycircle import Traces, admit
from fleet.rollout.relays import Post

UNDO = Distrust("10.0.0.5:5443", "f" * 64, "")
NOW = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)


def test_what_was_made_twice_is_undone_once_and_what_is_kept_not_at_all() -> None:
    traces = Traces()
    for host, undo in (("n1", UNDO), ("n1", UNDO), ("n2", None)):
        with traces.making(host, undo):
            pass
    assert traces.close() == {"n1": [UNDO]}


def test_nothing_is_made_once_the_end_has_begun() -> None:
    traces = Traces()
    assert traces.close() == {}
    with pytest.raises(HostError, match="at its end"), traces.making("n1", UNDO):
        raise AssertionError
    assert traces.close() == {}


def test_what_failed_while_it_was_made_is_undone_too() -> None:
    traces = Traces()
    with pytest.raises(ValueError, match="x"), traces.making("n1", UNDO):
        raise ValueError("x")
    assert traces.close() == {"n1": [UNDO]}
    with traces.ending("n1"):
        pass


def test_every_run_has_a_password_of_its_own_and_the_host_gets_its_hash_alone(tmp_path: Path) -> None:
    ca = SiteCa(tmp_path)
    ca.ensure(NOW)
    place = Post("r", "10.0.0.5:5443", "10.0.0.5", 5443, False, ca.fingerprint)
    up, other = admit(place, ca, NOW), admit(place, ca, NOW)
    assert up.registry.password is not None
    assert other.registry.password is not None
    password = up.registry.password.reveal()
    assert password != other.registry.password.reveal()
    user, _, hashed = up.access.files["htpasswd"].decode().strip().partition(":")
    assert user == "fleet"
    assert bcrypt.checkpw(password.encode(), hashed.encode())
    assert not [name for name, content in up.access.files.items() if password.encode() in content]
    assert password not in repr(up)
