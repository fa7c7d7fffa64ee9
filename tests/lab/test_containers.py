"""`logs` and `shell`: containers' words side by side and a bash inside them, on two generations of the engine and every login."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from fleet.lab import NodeSpec
from tests.lab.cli import Controller
from tests.lab.conftest import MI250, MI300X
from tests.lab.rolls import within
from tests.lab.small import Site, small_site
from tests.lab.terminal import Terminal, on_terminal
from tests.proc import working_in

pytestmark = pytest.mark.lab

NEW = NodeSpec("mi300x-new-01", base="trixie", profile="mi300x-8")
ROOT, SUDO, YOUNG = MI300X.name, MI250.name, NEW.name
HOSTS = (ROOT, SUDO, YOUNG)
TWO = json.dumps({"gpu": {"vars": {"fleet": {"services": {"chat": {"replicas": 2, "gpus": 4}}}}}})
SPEAK = 'printf "%%s\\n" "%(words)s out" >/proc/1/fd/1; printf "%%s\\n" "%(words)s err" >/proc/1/fd/2'
OURS = "grep -lsE 'dial-stdi[o]|docker.log[s]|docker.exe[c]' /proc/[0-9]*/cmdline || true"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with small_site("cont", tmp_path_factory.mktemp("containers"), MI300X, MI250, NEW) as made:
        code, document = made.over(TWO).ask("deploy")
        assert (code, document["failed"]) == (0, {})
        yield made


@pytest.fixture(scope="module")
def fleet(site: Site) -> Controller:
    return site.over(TWO)


def speak(site: Site, host: str, container: str, words: str) -> None:
    """Have the container print a line on each of its streams."""
    site.docker(host, "exec", container, "bash", "-c", SPEAK % {"words": words})


class Heard:
    """Lines of a command's standard output, as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.lines: list[str] = []
        self._source = process.stdout
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._source:
            self.lines.append(line.rstrip("\n"))

    def all_of(self, wanted: set[str], seconds: float = 20) -> bool:
        return within(seconds, lambda: wanted <= set(self.lines))


def quiet(site: Site, host: str, seconds: float) -> bool:
    """No process of ours on the host, or none any more in so many seconds."""
    return within(seconds, lambda: not site.sh(host, OURS))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_followed_logs_come_side_by_side_and_leave_no_process_on_the_hosts(
    site: Site, fleet: Controller, how: signal.Signals
) -> None:
    places = [(host, f"chat-{number}") for host in HOSTS for number in (0, 1)]
    names = {f"{host} {name}" for host, name in places}

    process = fleet.start("logs", "chat", "--follow", "--tail", "0", "--forks", "1")
    heard = Heard(process)

    def hears_all() -> bool:
        for host, name in places:
            speak(site, host, name, "anybody?")
        return names == {line.partition(":")[0] for line in heard.lines}

    try:
        # The engine begins with what comes after the request, so they speak until they are heard.
        assert within(60, hears_all, every=1), heard.lines
        for host, name in places:
            speak(site, host, name, "all hear")
        assert heard.all_of({f"{name}: all hear {which}" for name in names for which in ("out", "err")}), heard.lines
        assert [host for host in HOSTS if not site.sh(host, OURS)] == []  # they can be seen
        process.send_signal(how)
        process.wait(20)
        assert process.stderr is not None
        errors = process.stderr.read()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in errors
    left = {host: site.sh(host, OURS) for host in HOSTS if not quiet(site, host, 5)}
    assert left == {}
    assert working_in(fleet.directory) == []


def test_logs_show_the_last_lines_of_the_container_that_is_named(site: Site, fleet: Controller) -> None:
    speak(site, SUDO, "chat-1", "at\rlast")
    argv = fleet.argv("logs", "chat-1", "--tail", "2", "--limit", SUDO)
    done = subprocess.run(argv, capture_output=True, check=False, cwd=fleet.directory, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.decode().split("\n")) == ["", f"{SUDO}: at\rlast err", f"{SUDO}: at\rlast out"]
    assert all(quiet(site, host, 5) for host in HOSTS)


def test_a_followed_log_ends_with_its_container_and_a_missing_one_is_told_at_once(
    site: Site, fleet: Controller
) -> None:
    site.docker(YOUNG, "rename", "chat-1", "away")
    process = fleet.start("logs", "chat", "--follow", "--limit", YOUNG, "--tail", "1")
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "there is no container chat-1" in process.stderr.readline()
        assert process.stdout.readline().startswith(f"{YOUNG} chat-0: ")
        site.docker(YOUNG, "stop", "chat-0")
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
        site.docker(YOUNG, "rename", "away", "chat-1")
        site.docker(YOUNG, "start", "chat-0")
    assert process.returncode == 1
    assert "there is no container chat-1" in errors
    assert "invoke status shows what runs" in errors


def test_logs_end_with_their_reader(fleet: Controller) -> None:
    process = fleet.start("logs", "chat", "--follow", "--limit", ROOT)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    try:
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def prompt(terminal: Terminal) -> None:
    terminal.expect(r"bash-\S+# ")  # what is typed before the terminal is raw is flushed
    terminal.type("PS1=ready-$((1+1))'> '\n")
    terminal.expect("ready-2> ")


@pytest.mark.parametrize("host", HOSTS)
def test_a_shell_is_a_bash_in_the_container_with_our_window_and_its_exit_code(
    site: Site, fleet: Controller, host: str
) -> None:
    argv = fleet.argv("shell", "chat", "--limit", host)
    size = "python3 -c 'import os; print(*os.get_terminal_size(0))'\n"
    with on_terminal(argv, fleet.directory, rows=33, columns=101) as terminal:
        prompt(terminal)
        terminal.type("echo $((6*7)) $BASH_VERSION\n")
        terminal.expect(r"42 5\.")
        terminal.type("[ -e /.dockerenv ] && echo inside-$((1+2))\n")
        terminal.expect("inside-3")
        terminal.type(size)
        assert terminal.expect(r"(\d+) (\d+)\r").groups() == ("101", "33")
        terminal.resize(20, 70)
        time.sleep(0.5)
        terminal.type(size)
        assert terminal.expect(r"(\d+) (\d+)\r").groups() == ("70", "20")
        # Not one long sleep: Python looks for a signal before it begins one, and not in the moment in between.
        terminal.type("python3 -c 'import time; print(8 * 8); [time.sleep(0.1) for _ in range(999)]'\n")
        terminal.expect("64\r")
        terminal.type("\x03")
        terminal.expect("ready-2> ")
        terminal.type("python3 -c 'import time; print(9 * 9); time.sleep(100)'\n")
        terminal.expect("81\r")
        terminal.type("\x1a")  # Ctrl-Z stops what runs there, not us
        terminal.expect("Stopped")
        terminal.type("kill -9 %1; disown %1; name='Zürich'; echo \"<$name>\"\n")
        terminal.expect("<Zürich>\r")
        terminal.type("exit $((3+4))\n")
        assert terminal.end() == 7
        assert terminal.restored()
    assert quiet(site, host, 5)


def test_ctrl_d_ends_a_shell_with_the_code_of_its_last_command(site: Site, fleet: Controller) -> None:
    with on_terminal(fleet.argv("shell", "chat-1", "--limit", SUDO), fleet.directory) as terminal:
        prompt(terminal)
        terminal.type("false\n")
        terminal.expect("ready-2> ")
        terminal.type("\x04")
        assert terminal.end() == 1
        assert terminal.restored()
        assert "Traceback" not in terminal.said
    assert quiet(site, SUDO, 5)


@pytest.mark.parametrize("host", HOSTS)
def test_a_shell_without_a_terminal_reads_its_commands(site: Site, fleet: Controller, host: str) -> None:
    argv = fleet.argv("shell", "chat", "--limit", host)
    commands = "echo $((6*7))\nexit 5\n"
    done = subprocess.run(
        argv, input=commands, capture_output=True, text=True, check=False, cwd=fleet.directory, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "42\n", "")
    assert quiet(site, host, 5)


def test_a_shell_that_cannot_be_is_refused_in_words(site: Site, fleet: Controller) -> None:
    def refused(*words: str) -> tuple[int, str]:
        with on_terminal(fleet.argv("shell", *words), fleet.directory, columns=200) as terminal:
            return terminal.end(), terminal.said

    code, said = refused("embed", "--limit", ROOT)
    assert (code, "no selected host has a service 'embed'" in said, "services: chat" in said) == (2, True, True), said
    code, said = refused("chat")
    assert (code, "shell takes one host, and 3 are selected: " in said, "--limit HOST" in said) == (2, True, True), said
    site.docker(ROOT, "stop", "chat-1")
    try:
        code, said = refused("chat-1", "--limit", ROOT)
        assert (code, "chat-1 is exited, not running" in said, "invoke serve" in said) == (1, True, True), said
        site.docker(ROOT, "rename", "chat-1", "away")
        code, said = refused("chat-1", "--limit", ROOT)
        assert (code, "there is no container chat-1" in said) == (1, True), said
    finally:
        site.docker(ROOT, "rename", "away", "chat-1", check=False)
        site.docker(ROOT, "start", "chat-1")
