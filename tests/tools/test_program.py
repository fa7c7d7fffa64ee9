"""The installed program: its list, its help, its completion, and that it starts without the heavy libraries."""

import subprocess
import sys
from pathlib import Path

import pytest

FLEET = Path(sys.executable).with_name("fleet")
ROOT = Path(__file__).parents[2]


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)


def test_the_list_needs_none_of_the_heavy_libraries() -> None:
    heavy = ("paramiko", "fabric", "docker", "rich", "jsonschema")
    code = f"import sys, fleet.tasks; print([name for name in {heavy!r} if name in sys.modules])"
    assert run(sys.executable, "-c", code).stdout.strip() == "[]"


def test_program_and_checkout_list_the_same_verbs() -> None:
    listed = run(FLEET, "--list").stdout
    invoked = run(FLEET.with_name("invoke"), "--list").stdout
    assert "preflight" in listed
    assert listed.partition("\n")[2].split() == invoked.partition("\n")[2].split()


def test_a_config_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".invoke.yaml").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run(FLEET, "facts", "--root", ROOT)
    assert done.returncode == 2
    assert f"error: {tmp_path}/.invoke.yaml cannot be read" in done.stderr


def test_help_has_an_example() -> None:
    assert "Example: invoke preflight" in run(FLEET, "--help", "preflight").stdout


def test_a_terminal_that_knows_ascii_alone_gets_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = run(FLEET, "facts", "--root", ROOT / "tests/data/kfd/mi300x8-cpx")
    assert done.returncode == 0, done.stderr
    assert "63 ? MI300X gfx942 CPX" in done.stdout


def test_runs_and_audit_answer_where_nothing_was_done_yet(tmp_path: Path) -> None:
    def ask(*words: str) -> tuple[int, str, str]:
        done = subprocess.run((FLEET, *words), capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
        return done.returncode, done.stdout.strip(), done.stderr

    assert ask("runs") == (0, "no runs yet: a command that changes hosts makes one", "")
    assert ask("runs", "--json") == (0, "[]", "")
    code, _, said = ask("runs.show", "last")
    assert (code, "there are no runs" in said) == (2, True)
    code, _, said = ask("deploy", "--resume")
    assert (code, "there is no earlier run of deploy" in said) == (2, True)
    (tmp_path / "none.yaml").write_text("all: {hosts: {a: {}}}")  # `fleet:` gives it nothing to do
    assert "no change was written down" in ask("audit", "-i", "none.yaml")[1]
    code, _, said = ask("audit", "-i", "none.yaml", "--last", "-1")
    assert (code, "--last must be 0 or above" in said) == (2, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    done = run(FLEET, "--print-completion-script", shell)
    assert done.returncode == 0
    assert "fleet" in done.stdout


def test_completion_works_in_a_real_bash() -> None:
    script = (
        f"source <({FLEET} --print-completion-script bash);"
        "COMP_WORDS=(fleet pre); COMP_CWORD=1; COMP_LINE='fleet pre'; COMP_POINT=9;"
        "function=$(complete -p fleet | sed 's/.*-F \\([^ ]*\\).*/\\1/'); $function; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    path = f"{FLEET.parent}:/usr/bin:/bin"
    done = subprocess.run(
        ("bash", "-c", script), capture_output=True, text=True, check=False, timeout=60, env={"PATH": path}, cwd=ROOT
    )
    assert "preflight" in done.stdout.split(), done.stderr


def test_an_unknown_flag_says_so_without_a_traceback() -> None:
    done = run(FLEET, "preflight", "--no-such-flag")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
