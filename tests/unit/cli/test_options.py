"""Common options: flags win over FLEET_* variables, which win over Invoke's config."""

import pytest

from fleet.cli import guarded
from fleet.errors import FleetError, InputError, Problem, UsageError
from fleet.options import resolve


def test_flag_wins_over_environment_and_config() -> None:
    options = resolve({"limit": "a"}, {"limit": "c"}, {"FLEET_LIMIT": "b"})
    assert options.limit == "a"


def test_environment_wins_over_config() -> None:
    assert resolve({"forks": 0}, {"forks": 3}, {"FLEET_FORKS": "5"}).forks == 5


def test_config_wins_over_default() -> None:
    options = resolve({"forks": 0, "inventory": []}, {"forks": 3, "inventory": "prod"}, {})
    assert (options.forks, options.inventory) == (3, ("prod",))


def test_defaults_stand_when_nothing_is_said() -> None:
    options = resolve({"limit": None, "forks": 0, "json": False}, {}, {})
    assert (options.limit, options.forks, options.json) == ("all", 32, False)


def test_an_empty_limit_is_a_slip_and_never_every_host() -> None:
    with pytest.raises(UsageError, match="--limit is empty"):
        resolve({"limit": ""}, {"limit": "c"}, {"FLEET_LIMIT": "b"})


@pytest.mark.parametrize("word", ["1", "true", "Yes", "on"])
def test_environment_switches_a_flag_on(word: str) -> None:
    assert resolve({"json": False}, {}, {"FLEET_JSON": word}).json


def test_environment_says_off() -> None:
    assert not resolve({"json": False}, {}, {"FLEET_JSON": "0"}).json


@pytest.mark.parametrize("bad", ["many", "-1", "0.5"])
def test_forks_that_are_no_number_are_refused(bad: str) -> None:
    with pytest.raises(InputError, match=f"FLEET_FORKS: must be a number above 0, not '{bad}'"):
        resolve({"forks": 0}, {}, {"FLEET_FORKS": bad})


def test_defaults_that_cannot_be_meant_are_all_said_at_once_with_where_they_stand() -> None:
    with pytest.raises(InputError) as refused:
        resolve({"forks": 0, "check": False}, {"forks": 0, "inventroy": "prod", "lock_wait": 1}, {"FLEET_CHECK": "ja"})
    assert [str(problem) for problem in refused.value.problems] == [
        "FLEET_CHECK: must be true or false, not 'ja'",
        "`fleet:` in Invoke's config: forks: must be a number above 0, not 0 (for example 16)",
        "`fleet:` in Invoke's config: inventroy: unknown key (did you mean inventory?)",
        (
            "`fleet:` in Invoke's config: lock_wait: unknown key "
            "(known here: inventory, limit, forks, check, diff, json, verbose, accept_new)"
        ),
    ]


def _raise(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FleetError("broken"), 1),
        (UsageError("wrong flag"), 2),
        (InputError(Problem("a.yaml", 1, 2, "all", "bad")), 2),
        (KeyboardInterrupt(), 130),
        (ValueError("a bug"), 1),
    ],
)
def test_every_ending_has_its_exit_code_and_no_traceback(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLEET_DEBUG", raising=False)
    assert guarded(lambda: _raise(error)) == code
    assert "Traceback" not in capsys.readouterr().err


def test_fleet_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_DEBUG", "1")
    guarded(lambda: _raise(ValueError("a bug")))
    assert "Traceback" in capsys.readouterr().err
