"""Commands, scripts, streams, uploads and sudo over a connection."""

import io
import threading
import time
from pathlib import Path

import pytest

from fleet.errors import HostError
from fleet.transport import Connector, Session
from tests.ssh.conftest import Keys
from tests.ssh.sshd import Sshd


def test_arguments_arrive_as_they_were_given(session: Session) -> None:
    odd = ["a b", "c'd", '"', "$HOME", "*", "", "é\n;rm"]
    assert session.run(("printf", "%s|", *odd)).stdout == "|".join(odd) + "|"


def test_a_failing_command_says_its_code_and_last_words(session: Session) -> None:
    with pytest.raises(HostError, match="exited with 3") as caught:
        session.run(("sh", "-c", "echo out; echo why >&2; exit 3"))
    assert caught.value.tail == ("why",)
    assert session.run(("sh", "-c", "exit 3"), check=False).exit_code == 3


def test_binary_stdin_and_both_outputs_of_many_megabytes_do_not_deadlock(session: Session) -> None:
    data = bytes(range(256)) * 16_384  # 4 MB
    output = session.run(("sh", "-c", "tee /dev/stderr | sha256sum; exit 0"), stdin=data)
    assert len(output.stderr.encode()) > len(data) // 2
    assert output.stdout.endswith("-\n")


def test_a_command_that_reads_no_stdin_ends_all_the_same(session: Session) -> None:
    assert session.run(("true",), stdin=b"x" * 5_000_000).ok


def test_a_command_ended_by_a_signal_is_not_a_success(session: Session) -> None:
    assert session.run(("sh", "-c", "kill -9 $$"), check=False).exit_code == -1
    with pytest.raises(HostError, match="ended by a signal"):
        session.run(("sh", "-c", "kill -9 $$"))


def test_a_timeout_counts_from_the_last_progress(session: Session) -> None:
    slow = "for i in 1 2 3 4 5; do echo $i; sleep 0.25; done"
    assert session.run(("sh", "-c", slow), timeout=1).ok
    with pytest.raises(HostError, match=r"no progress for 0\.3 s"):
        session.run(("sleep", "5"), timeout=0.3)


def test_a_script_gets_arguments_and_cannot_be_eaten_by_its_own_commands(session: Session) -> None:
    output = session.script('cat; echo "[$1]"; exit 4', args=("a b",), check=False)
    assert (output.exit_code, output.stdout) == (4, "[a b]\n")


def test_a_stream_hands_over_whole_lines_of_both_outputs(session: Session) -> None:
    lines: list[str] = []
    code = session.stream(
        ("sh", "-c", "printf 'a\\nb'; printf 'c\\r\\n' ; echo d >&2; printf é; exit 2"), on_line=lines.append
    )
    assert code == 2
    assert sorted(lines) == ["a", "bc", "d", "é"]


def test_a_joined_command_reads_our_input_and_its_code_is_ours(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "typed").write_text(f"printf %s {'long' * 50_000} | wc -c\necho $((6*7)) >&2\nexit 5\n")
    with (tmp_path / "typed").open() as typed, (tmp_path / "said").open("w") as said:
        monkeypatch.setattr("sys.stdin", typed)
        monkeypatch.setattr("sys.stdout", said)
        assert session.interact(("sh",), terminal=False) == 5
    assert set((tmp_path / "said").read_text().split()) == {"200000", "42"}  # two streams have no order between them


def test_an_upload_is_whole_has_its_mode_and_reports_bytes(session: Session, tmp_path: Path) -> None:
    sent: list[int] = []
    target = tmp_path / "a file"
    session.upload(io.BytesIO(b"y" * 300_000), str(target), mode=0o600, on_bytes=sent.append)
    assert target.read_bytes() == b"y" * 300_000
    assert target.stat().st_mode & 0o777 == 0o600
    assert sum(sent) == 300_000
    assert [path.name for path in tmp_path.iterdir() if "fleet" in path.name] == []


def test_a_cut_upload_leaves_the_old_file(session: Session, sshd: Sshd, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    class Cutting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 200_000:
                sshd.cut()
                time.sleep(0.2)
            return super().read(size)

    with pytest.raises(HostError, match=f"lost during writing {target}"):
        session.upload(Cutting(b"z" * 1_000_000), str(target))
    assert target.read_text() == "old"


def test_a_cut_link_says_what_was_being_done(session: Session, sshd: Sshd) -> None:
    threading.Timer(0.2, sshd.cut).start()
    with pytest.raises(HostError, match="lost during `sleep 30`"):
        session.run(("sleep", "30"))
    with pytest.raises(HostError, match="lost during `true`"):
        session.run(("true",))


def test_more_commands_than_channels_wait_for_each_other(session: Session, sshd: Sshd) -> None:
    _many(session, 20)
    assert sshd.most_sessions <= 8


def test_a_server_with_fewer_sessions_is_respected(session: Session, sshd: Sshd) -> None:
    sshd.behaviour.max_sessions = 2
    _many(session, 8)


def _many(session: Session, count: int) -> None:
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append(session.run(("sleep", "0.05")).ok), daemon=True)
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [True] * count


def test_sudo_is_used_only_where_become_is_set(connector: Connector, sshd: Sshd, keys: Keys) -> None:
    plain = connector.connect(sshd.host(key_file=str(keys.user)))
    plain.run(("true",), sudo=True)
    becoming = connector.connect(sshd.host(key_file=str(keys.user), become_password=""))
    becoming.run(("echo", "a b"), sudo=True)
    assert sshd.commands == ["true", "sudo -n -u root -- echo 'a b'"]


def test_a_sudo_that_wants_a_password_gets_a_hint(connector: Connector, sshd: Sshd, keys: Keys) -> None:
    Path(sshd.behaviour.path, "password").write_text("s3cret")
    session = connector.connect(sshd.host(key_file=str(keys.user), become_password=""))
    with pytest.raises(HostError, match="does not let ops become root without a password") as caught:
        session.run(("id",), sudo=True, check=False)
    assert "ansible_become_password" in caught.value.hint


def test_a_sudo_password_never_reaches_the_command(connector: Connector, sshd: Sshd, keys: Keys) -> None:
    session = connector.connect(sshd.host(key_file=str(keys.user), become_password="s3cret"))
    for asks in (False, True):
        if asks:
            Path(sshd.behaviour.path, "password").write_text("s3cret")
        output = session.run(("sh", "-c", "cat; echo err >&2"), sudo=True, stdin=b"payload")
        assert (output.stdout, output.stderr) == ("payload", "err\n")
    assert "s3cret" not in "".join(sshd.commands)


def test_a_wrong_sudo_password_is_tried_once(connector: Connector, sshd: Sshd, keys: Keys) -> None:
    Path(sshd.behaviour.path, "password").write_text("other")
    session = connector.connect(sshd.host(key_file=str(keys.user), become_password="s3cret"))
    with pytest.raises(HostError, match="did not take the password of ops") as caught:
        session.run(("id",), sudo=True)
    assert "s3cret" not in str(caught.value)


def test_a_missing_sudo_is_named(connector: Connector, sshd: Sshd, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(sshd.behaviour.path, "sudo").unlink()
    for tool in ("sh", "id"):
        Path(sshd.behaviour.path, tool).symlink_to(f"/bin/{tool}")
    session = connector.connect(sshd.host(key_file=str(keys.user), become_password=""))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="no sudo on the host"):
        session.run(("id",), sudo=True)
