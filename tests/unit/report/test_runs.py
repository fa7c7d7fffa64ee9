"""A run told in words: failures first, and next commands that exist."""

from dataclasses import replace
from pathlib import Path

import pytest

from fleet.journal import Journal, RunHeader, RunStory, read, runs
from fleet.report import runs as report
from fleet.tasks import namespace
from tests.unit.report.stories import Clock, Effect, die, roll


def told(story: RunStory, capsys: pytest.CaptureFixture[str], *, verbose: bool = False) -> str:
    report.show_story(story, verbose=verbose)
    return capsys.readouterr().out


def commands(story: RunStory) -> list[str]:
    return [line.partition("   ")[0] for line in report.next_commands(story)]


def killed(tmp_path: Path, verb: str = "deploy", **flags: object) -> RunStory:
    clock = Clock()
    header = RunHeader(verb, (verb, "-i", "prod site"), ("a", "b"), ("prod site",), flags=flags)
    journal = Journal.open(tmp_path, header, redact=str, clock=clock.wall, monotonic=clock.monotonic)
    type_of_step = type("Stop", (Effect,), {})
    journal.perform("a", type_of_step("Stop", "stop chat-0", "its image differs"), lambda: None)
    die(journal)
    return read(tmp_path, journal.id)


def test_a_run_that_is_all_well_needs_no_next_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    roll(tmp_path, 3)
    story = read(tmp_path)
    assert report.next_commands(story) == ()
    text = told(story, capsys)
    assert "3 hosts: 3 changed" in text
    assert "next:" not in text


def test_failures_come_before_what_went_well_with_cause_step_and_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roll(tmp_path, 4, fail=(2, 3))
    text = told(read(tmp_path), capsys)
    assert text.index("FAILED mi300x-[002:003].dc1: could not verify") < text.index("changed: mi300x-001.dc1")
    assert "at: verify chat-0-new by a real answer" in text
    assert "next: invoke logs chat" in text
    assert "next: invoke deploy --only-failed" in text
    assert "--resume" not in text  # a roll that failures ended goes on over them, not around them


def test_a_killed_run_says_where_it_was_and_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story = killed(tmp_path)
    assert "CUT OFF a: after: stop chat-0" in told(story, capsys)
    assert commands(story) == [
        f"invoke runs.show {story.id}",
        "invoke status -i 'prod site'",
        f"invoke deploy --resume {story.id}",
    ]


def test_a_play_goes_on_with_its_playbook_and_other_verbs_are_said_again(tmp_path: Path) -> None:
    story = killed(tmp_path / "play", "play", playbook="night.yaml")
    assert commands(story)[-1] == f"invoke play night.yaml --resume {story.id}"
    assert commands(killed(tmp_path / "serve", "serve"))[-1] == "invoke serve -i 'prod site'"


def test_a_nights_roll_is_not_gone_on_with_by_hand_for_the_night_puts_its_hosts_back(tmp_path: Path) -> None:
    story = killed(tmp_path, night="20261124-1")
    assert commands(story) == [f"invoke runs.show {story.id}", "invoke status -i 'prod site'"]


def test_a_running_run_is_left_alone(tmp_path: Path) -> None:
    roll(tmp_path, 4, killed_at=3, running=True)
    story = read(tmp_path)
    assert story.state == "running"
    assert report.next_commands(story) == ()


def test_the_verbs_that_are_said_to_resume_have_the_flags() -> None:
    for verb in report.RESUMABLE:
        flags = {name for argument in namespace[verb].get_arguments() for name in argument.names}
        assert {"resume", "only-failed"} <= {flag.replace("_", "-") for flag in flags}


def test_every_step_is_told_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    roll(tmp_path, 2, fail=(2,))
    story = read(tmp_path)
    assert "wait until VRAM is free" not in told(story, capsys)
    assert told(story, capsys, verbose=True).count("wait until VRAM is free") == 2


def test_what_ended_the_run_and_what_served_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    roll(tmp_path, 2, fail=(2,))
    story = read(tmp_path)
    result = {
        **(story.result or {}),
        "ended": "max_fail is 0",
        "serves": {"chat": [1, 2]},
        "journal": "incomplete: full",
    }
    text = told(replace(story, result=result, torn=2), capsys)
    assert "ENDED EARLY: max_fail is 0" in text
    assert "chat: 1 of 2 replicas served at the end" in text
    assert "journal incomplete: full" in text
    assert "2 unreadable lines" in text


def test_names_and_messages_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = RunHeader("deploy", ("deploy", "[bold]"), ("[red]a",))
    with Journal.open(tmp_path, header, redact=str) as journal:
        journal.host_done("[red]a", "down", message="[/] is gone", hint="[link]")
        journal.finish(1)
    text = told(read(tmp_path), capsys)
    assert "DOWN [red]a: [/] is gone" in text
    assert "next: [link]" in text


def test_the_list_has_a_row_a_run_and_says_so_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.show_table(runs(tmp_path))
    assert "no runs yet" in capsys.readouterr().out
    roll(tmp_path, 3, fail=(2,))
    roll(tmp_path, 3, killed_at=2)
    report.show_table(runs(tmp_path))
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("2026")]
    assert sorted(word for row in rows for word in ("failed  1 failed, 2 changed", "killed") if word in row)
    assert len(rows) == 2


def test_the_document_has_what_the_words_have(tmp_path: Path) -> None:
    roll(tmp_path, 3, fail=(2,))
    document = report.document(read(tmp_path))
    assert document["counts"] == {"changed": 2, "failed": 1}
    hosts = document["hosts"]
    assert isinstance(hosts, dict)
    assert hosts["mi300x-002.dc1"]["outcome"] == "failed"
    assert document["next"] == list(report.next_commands(read(tmp_path)))
