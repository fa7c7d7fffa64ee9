"""The journal: what a run leaves behind however it ends, and that it never stands in the work's way."""

import json
import os
import threading
from pathlib import Path

import pytest

from fleet.errors import FleetError, HostError, UsageError
from fleet.journal import (
    Journal,
    RunHeader,
    RunStory,
    latest,
    only_failed,
    outcome_of,
    read,
    remaining,
    runs,
    unfinished_chain,
)
from fleet.serving.secrets import Redactor
from tests.unit.report.stories import Clock, Effect, die, roll

HOSTS = ("a", "b", "c")
SECRET = 'hf_"quoted"/and\\slashed&long'


def begin(root: Path, *, continues: str = "", hosts: tuple[str, ...] = HOSTS, verb: str = "deploy") -> Journal:
    clock = Clock()
    header = RunHeader(verb, (verb, "-i", "prod"), hosts, ("prod",), continues=continues)
    return Journal.open(root, header, redact=Redactor([SECRET]), clock=clock.wall, monotonic=clock.monotonic)


def do(journal: Journal, host: str, error: BaseException | None = None) -> None:
    def work() -> None:
        if error is not None:
            raise error

    journal.perform(host, Effect("Start", "start chat-0", "its image differs"), work)


def fails(host: str) -> HostError:
    return HostError(host, f"{host} does not answer", hint="invoke logs chat", tail=("ERROR died",))


def test_a_run_is_told_as_it_happened(tmp_path: Path) -> None:
    with begin(tmp_path) as journal:
        journal.batch(1, ("a",), "canary")
        do(journal, "a")
        journal.host_done("a", "changed")
        with pytest.raises(HostError):
            do(journal, "b", fails("b"))
        journal.host_done("b", "failed", message="b does not answer", hint="invoke logs chat")
        journal.finish(1, {"ended": "max_fail is 0"})
    story = read(tmp_path)
    assert (story.state, story.exit_code, story.counts) == ("finished", 1, {"changed": 1, "failed": 1, "not begun": 1})
    assert story.hosts["b"].broke is not None
    assert story.hosts["b"].broke.error == "b does not answer\n| ERROR died"
    assert story.hosts["a"].batch == 1
    assert (story.result or {})["ended"] == "max_fail is 0"
    assert journal.host_log("a").read_text().count("start chat-0") == 2


def test_batches_of_several_plays_are_counted_over_the_run(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    journal.batch(1, HOSTS, "bring, batch 1")
    journal.batch(1, ("a",), "roll, canary")
    story = read(tmp_path)
    assert [(one.number, one.name) for one in story.batches] == [(1, "bring, batch 1"), (2, "roll, canary")]
    assert (story.hosts["a"].batch, story.hosts["b"].batch) == (2, 1)


def test_a_journal_that_was_cut_at_any_byte_is_still_a_story(tmp_path: Path) -> None:
    path = roll(tmp_path, 3, fail=(2,)) / "journal.jsonl"
    (path.parent / "result.json").unlink()
    whole = path.read_bytes()
    first = whole.index(b"\n")
    third = first + sum(map(len, whole[first:].splitlines(keepends=True)[:3]))
    for cut in [*range(first + 1, third + 2), *range(third + 2, len(whole), 97)]:  # whole lines at every byte of them
        path.write_bytes(whole[:cut])
        story = read(tmp_path)
        assert story.state in {"killed", "running"}  # the lock of a whole run is the test's own
        assert story.torn <= 1
        assert set(remaining(story).hosts) | set(story.with_outcome("changed", "failed")) == set(story.hosts)


def test_a_run_that_was_cut_within_its_first_line_is_left_out_and_said_so(tmp_path: Path) -> None:
    path = roll(tmp_path, 2) / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:40])
    assert runs(tmp_path) == ()
    with pytest.raises(FleetError, match="killed before it wrote anything"):
        read(tmp_path)


def test_a_line_that_follows_a_torn_one_is_read(tmp_path: Path) -> None:
    path = roll(tmp_path, 2) / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[5] = lines[5][:30] + "\n"
    path.write_text("".join(lines))
    story = read(tmp_path)
    assert (story.torn, story.counts) == (1, {"changed": 2})


def test_a_run_is_running_while_its_process_lives_and_killed_after(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    do(journal, "a")
    journal.host_done("a", "changed")
    do(journal, "b")
    assert read(tmp_path).state == "running"
    die(journal)
    story = read(tmp_path)
    assert (story.state, story.exit_code) == ("killed", None)
    assert (story.begun, story.not_begun) == (("b",), ("c",))
    assert remaining(story).hosts == ("b", "c")


def test_a_run_ends_by_how_its_block_is_left(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), begin(tmp_path):
        raise KeyboardInterrupt
    assert read(tmp_path).exit_code == 130
    with pytest.raises(FleetError), begin(tmp_path / "other"):
        raise FleetError("the layer is damaged", hint="build again")
    assert (read(tmp_path / "other").result or {})["error"] == "the layer is damaged"


def test_fifty_threads_write_whole_lines(tmp_path: Path) -> None:
    names = tuple(f"host-{number:02d}" for number in range(50))
    journal = begin(tmp_path, hosts=names)

    def work(name: str) -> None:
        for _ in range(20):
            do(journal, name)
        journal.host_done(name, "changed")

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.finish(0)
    story = read(tmp_path)
    assert (story.torn, story.counts) == (0, {"changed": 50})
    sequences = [step.seq for host in story.hosts.values() for step in host.steps]
    assert (len(sequences), len(set(sequences))) == (1000, 1000)
    assert all(step.ok for host in story.hosts.values() for step in host.steps)


def test_a_secret_is_in_no_file_of_the_run(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    journal.learn(Redactor(["revealed-later"]))
    journal.plan({"env": {"TOKEN": SECRET, SECRET: "as a key"}, "later": ["revealed-later"]})
    journal.event("a", f"pull with {SECRET}")
    journal.event("", "revealed-later")
    with pytest.raises(HostError):
        do(journal, "a", HostError("a", f"refused {SECRET}", hint=f"try {SECRET}", tail=(f"| {SECRET}",)))
    with pytest.raises(RuntimeError):
        do(journal, "b", RuntimeError(f"odd {SECRET}"))
    journal.host_done("a", "failed", message=f"refused {SECRET}", hint=SECRET)
    journal.finish(1, {"failed": {"a": SECRET}, "tail": [SECRET, "revealed-later"]})
    written = [path.read_text() for path in journal.path.rglob("*") if path.is_file()]
    assert len(written) == 5  # journal, plan, result, and the logs of a and b
    forms = (SECRET, json.dumps(SECRET)[1:-1], "revealed-later", "quoted")
    assert not [form for form in forms for text in written if form in text]
    assert any("***" in text for text in written)


def test_a_secret_that_equals_a_hosts_name_does_not_spoil_the_resume(tmp_path: Path) -> None:
    header = RunHeader("deploy", ("deploy", "--limit", "a"), HOSTS)
    journal = Journal.open(tmp_path, header, redact=Redactor(["a"]))
    do(journal, "a")
    die(journal)
    assert remaining(read(tmp_path)).hosts == HOSTS


def test_files_of_a_run_are_for_their_owner_alone(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    assert journal.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("file", ["journal.jsonl", "result.json"])
def test_a_newer_fleets_run_is_one_sentence(tmp_path: Path, file: str) -> None:
    path = roll(tmp_path, 1) / file
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2', 1))
    for look in (lambda: read(tmp_path), lambda: runs(tmp_path), lambda: latest(tmp_path)):
        with pytest.raises(FleetError, match=r"newer fleet \(schema 2, this one knows 1\)") as caught:
            look()
        assert "upgrade" in caught.value.hint


def test_a_full_disk_does_not_stop_the_work_and_is_said(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._file)
    os.close(full)
    done = []
    journal.perform("a", Effect("Start", "start", "why"), lambda: done.append("a"))
    journal.host_done("a", "changed")
    journal.finish(0)
    assert done == ["a"]
    assert "No space left" in journal.broken
    assert "incomplete" in (read(tmp_path).result or {})["journal"]


def test_a_directory_that_takes_no_journal_is_said_before_anything_is_touched(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(FleetError, match="no journal can be written"):
        begin(tmp_path)


def test_runs_are_found_by_the_beginning_of_their_id(tmp_path: Path) -> None:
    first, second = begin(tmp_path), begin(tmp_path)
    assert read(tmp_path, first.id).id == first.id
    assert read(tmp_path, "last").id == max(first.id, second.id)
    with pytest.raises(UsageError, match="2 runs begin with '2026'"):
        read(tmp_path, "2026")
    with pytest.raises(UsageError, match="there is no run '1999'"):
        read(tmp_path, "1999")
    with pytest.raises(UsageError, match="there are no runs"):
        read(tmp_path / "empty")


def test_the_last_run_of_a_kind_is_found(tmp_path: Path) -> None:
    wanted = begin(tmp_path, verb="deploy")
    begin(tmp_path / "else", verb="serve")
    found = latest(tmp_path, lambda header: header.verb == "deploy")
    assert found is not None
    assert found.id == wanted.id
    assert latest(tmp_path, lambda header: header.verb == "serve") is None


def ended(root: Path, outcomes: dict[str, str], *, continues: str = "", begun: tuple[str, ...] = ()) -> RunStory:
    """A run that was killed: hosts with outcomes, hosts in the middle, and the rest of HOSTS or of the continued run."""
    names = tuple(name for name in HOSTS if not continues or name in outcomes or name in begun)
    journal = begin(root, hosts=names, continues=continues)
    for name in begun:
        do(journal, name)
    for name, outcome in outcomes.items():
        journal.host_done(name, outcome)
    die(journal)
    return read(root, journal.id)


def test_resume_takes_what_the_run_was_not_through_with_and_only_failed_the_failed_too(tmp_path: Path) -> None:
    story = ended(tmp_path, {"a": "failed"}, begun=("b",))
    assert remaining(story).hosts == ("b", "c")
    assert remaining(story).left_out == ("a",)
    assert set(only_failed(story)) == {"a", "b", "c"}
    assert only_failed(ended(tmp_path, {"a": "ok", "b": "skipped", "c": "untouched"})) == ("c",)


def test_a_step_after_the_last_word_means_under_way_again(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    journal.host_done("a", "unreachable")
    do(journal, "a")
    assert "a" in read(tmp_path).begun


def test_over_a_chain_of_runs_the_latest_that_had_a_host_has_the_word(tmp_path: Path) -> None:
    first = ended(tmp_path, {"a": "failed", "b": "failed", "c": "failed"})
    second = ended(tmp_path, {"a": "changed"}, continues=first.id)
    assert set(unfinished_chain(tmp_path, second)) == {"b", "c"}
    third = ended(tmp_path, {"b": "failed"}, continues=second.id)
    assert set(unfinished_chain(tmp_path, third)) == {"b", "c"}
    assert unfinished_chain(tmp_path, third, lambda story: remaining(story).hosts) == ()


def test_a_chain_whose_beginning_was_removed_ends_there(tmp_path: Path) -> None:
    story = ended(tmp_path, {"a": "failed"}, continues="20200101-000000-000-dead")
    assert unfinished_chain(tmp_path, story) == ("a",)


def test_outcomes_follow_how_the_work_ended() -> None:
    assert (outcome_of(None, 0), outcome_of(None, 2), outcome_of(fails("a"), 2)) == ("ok", "changed", "failed")


def test_a_hosts_log_lies_below_the_run_whatever_the_hosts_name(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    assert journal.host_log("../../etc/x y").parent == journal.path / "hosts"
