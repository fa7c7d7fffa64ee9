"""Logins that say things, and logins with a shell that is no POSIX shell: every command arrives and answers all the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.errors import HostError
from fleet.image.machine import There
from fleet.inventory.model import Become
from fleet.secret import Secret
from fleet.transport import Connector, Session
from fleet.transport.loginshell import Heard, LoginShell, portable
from tests.ssh.conftest import Keys
from tests.ssh.sshd import Sshd

# Where each shell looks for what to do when sshd starts it with one command.
START = {
    "bash": ".bashrc",
    "bsd-csh": ".cshrc",
    "tcsh": ".tcshrc",
    "fish": ".config/fish/config.fish",
    "zsh": ".zshenv",
    "sh": ".profile",  # which dash does not read then
}
NOISE = "echo Welcome to the cluster\n"
COMPLAINT = {"bsd-csh": "sh -c 'echo mesg: not a tty >&2'\n", "tcsh": "sh -c 'echo mesg: not a tty >&2'\n"}
ODD = [
    "a b",
    "c'd",
    '"',
    "$HOME",
    "*",
    "",
    "é\n;rm",
    "!!",
    "a\\b",
    "\\'",
    "`id`",
    "%d",
    "~",
    "{x,y}",
    "$(id)",
    "#",
    "x" * 9000,
]


@pytest.fixture(params=START)
def shell(request: pytest.FixtureRequest, sshd: Sshd, tmp_path: Path) -> str:
    """The login shell of everything in this module, with start files that print on both outputs."""
    name: str = request.param
    home = tmp_path / "home"
    file = home / START[name]
    file.parent.mkdir(parents=True)
    file.write_text(NOISE + COMPLAINT.get(name, "echo mesg: not a tty >&2\n"))
    sshd.behaviour.shell, sshd.behaviour.home = f"/bin/{name}", str(home)
    return name


@pytest.fixture
def loud(shell: str, session: Session) -> Iterator[Session]:
    assert shell
    yield session
    assert session.run(("echo", "last")).stdout == "last\n"


def test_arguments_and_both_outputs_arrive_as_they_are(loud: Session) -> None:
    for _ in range(2):
        assert loud.run(("printf", "%s|", *ODD)).stdout == "|".join(ODD) + "|"
    done = loud.run(("sh", "-c", "echo out\necho err >&2\nexit 3"), check=False)
    assert (done.exit_code, done.stdout, done.stderr) == (3, "out\n", "err\n")
    lines: list[str] = []
    assert loud.stream(("sh", "-c", "cat; echo err >&2"), on_line=lines.append, stdin=b"in\n") == 0
    assert sorted(lines) == ["err", "in"]
    assert loud.script('echo "[$1]"', args=("!\n",)).stdout == "[!\n]\n"


def test_files_arrive_whole_and_raw_channels_begin_where_the_command_does(loud: Session, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)
    with path.open("rb") as file:
        loud.upload(file, str(tmp_path / "there"))
    assert (tmp_path / "there").read_bytes() == path.read_bytes()
    There(loud, str(tmp_path)).fetch(("cat", str(path)), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == path.read_bytes()
    with loud.open_process(("sh", "-c", 'read line; echo "$line"; echo more; read line')) as channel:
        channel.sendall(b"hello\n")
        assert channel.recv(2) == b"he"
        said = b""
        while not said.endswith(b"more\n"):
            said += channel.recv(100)
        assert said == b"llo\nmore\n"
        assert not channel.ended


def test_sudo_asks_and_is_answered(shell: str, connector: Connector, sshd: Sshd, keys: Keys, tmp_path: Path) -> None:
    assert shell
    (tmp_path / "bin/password").write_text("s3cret\n")
    wanted = Become(enabled=True, user="root", password=Secret("p", literal="s3cret"))
    session = connector.connect(sshd.host(key_file=str(keys.user), become=wanted))
    done = session.run(("sh", "-c", "cat; echo err >&2"), sudo=True, stdin=b"in")
    assert (done.stdout, done.stderr) == ("in", "err\n")


def test_a_command_that_is_not_there_is_told_by_its_code(loud: Session) -> None:
    assert loud.run(("no-such-program",), check=False).exit_code == 127


def test_a_login_that_may_run_nothing_says_so(sshd: Sshd, session: Session) -> None:
    sshd.behaviour.shell = "/usr/sbin/nologin"
    with pytest.raises(HostError) as caught:
        session.run(("true",))
    assert "not available" in " ".join(caught.value.tail)


def test_a_quiet_posix_shell_gets_commands_as_they_are(session: Session, sshd: Sshd) -> None:
    lines = []
    shell = session._starter.shell
    for _ in range(2):
        session.run(("true",))
        lines.append(shell.line(("a\nb",)))
    assert lines == [("'a\nb'", False)] * 2
    assert sshd.commands == ["true", "true"]


def test_what_is_kept_of_a_long_greeting_has_an_end() -> None:
    shell = LoginShell()
    pieces = [b"x" * 50_000] * 5 + [f"{shell.mark}/bin/bash\nout".encode(), b"more", b""]
    heard = Heard(lambda _size: pieces.pop(0), "out", shell)
    assert (heard.read(2), heard.read(100), heard.read(100), heard.read(100)) == (b"ou", b"t", b"more", b"")
    assert not shell.plain
    words = [b"no such account", b""]
    assert Heard(lambda _size: words.pop(0), "out", LoginShell()).read(100) == b"no such account"


def test_a_plain_line_stays_as_it_is() -> None:
    assert portable(("sh", "-s", "--", "a b")) == "sh -s -- 'a b'"
