"""The push by a real shell, with a skopeo that notes what it was given."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from fleet.delivery.push import push
from fleet.errors import FleetError
from fleet.image.machine import NOTHING, Here
from fleet.inventory.settings import Registry
from fleet.secret import Secret

NOTES = """#!/bin/sh
# Says how it was called, what the files hold and how they are guarded, then does as SKOPEO_DOES says.
printf '%s\\n' "$@" > "$NOTES/argv"
env > "$NOTES/env"
while [ $# -gt 0 ]; do
  case $1 in
    --dest-authfile) cat "$2" > "$NOTES/auth"; stat -c %a "$2" > "$NOTES/mode"; dirname "$2" > "$NOTES/work" ;;
    --dest-cert-dir) cat "$2/ca.crt" > "$NOTES/ca" ;;
  esac
  shift
done
eval "$SKOPEO_DOES"
"""


class Counting(Here):
    """Keeps the argv that it was given."""

    def __init__(self) -> None:
        self.argv: tuple[str, ...] = ()

    def stream(
        self,
        argv: Sequence[str],
        on_line: Callable[[str], None],
        *,
        environment: Mapping[str, str] = NOTHING,
        stdin: bytes = b"",
        stall: float = 0,
    ) -> int:
        self.argv = tuple(argv)
        return super().stream(argv, on_line, environment=environment, stdin=stdin, stall=stall)


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    bin_, found = tmp_path / "bin", tmp_path / "notes"
    bin_.mkdir()
    found.mkdir()
    (tmp_path / "ca.pem").write_text("THE CA", encoding="utf-8")
    (bin_ / "skopeo").write_text(NOTES, encoding="utf-8")
    (bin_ / "skopeo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setenv("NOTES", str(found))
    monkeypatch.setenv("SKOPEO_DOES", "head -c 300000 /dev/zero | wc -c; exec cat /bin/sh /bin/sh >/dev/null")
    return found


def registry(tmp_path: Path) -> Registry:
    return Registry(
        "r:5000", str(tmp_path / "ca.pem"), Secret("user", literal="robot"), Secret("password", literal="hunter2")
    )


def test_the_password_is_in_a_private_file_only_and_gone_afterwards(notes: Path, tmp_path: Path) -> None:
    machine = Counting()
    push("/layout", registry(tmp_path), "vllm", "r1", machine=machine, on_line=lambda _line: None)
    assert "cm9ib3Q6aHVudGVyMg==" in json.loads((notes / "auth").read_text())["auths"]["r:5000"]["auth"]
    assert (notes / "mode").read_text().strip() == "600"
    assert (notes / "ca").read_text() == "THE CA"
    for place in (" ".join(machine.argv), (notes / "argv").read_text(), (notes / "env").read_text()):
        assert "hunter2" not in place
        assert "cm9ib3Q6aHVudGVyMg" not in place
    assert not Path((notes / "work").read_text().strip()).exists()


def test_what_skopeo_says_is_the_reason(notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKOPEO_DOES", """echo 'time="x" level=fatal msg="denied: no"'; exit 1""")
    with pytest.raises(FleetError, match=r"could not push vllm:r1 from this machine to r:5000: denied: no"):
        push("/layout", registry(tmp_path), "vllm", "r1", on_line=lambda _line: None)
    assert not Path((notes / "work").read_text().strip()).exists()


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("x509: certificate signed by unknown authority", "set registry.ca_file"),
        ("x509: certificate has expired or is not yet valid: current time 2026 is after 2020", "renew its certificate"),
        ("x509: cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs", "name it as its"),
        ("tls: first record does not look like a TLS handshake", "set registry.insecure: true"),
        ("Invalid destination name docker://[::1]:5000/v:1: invalid reference format", "give the registry a name"),
        ("no idea", "the same command again goes on"),
    ],
)
def test_a_registry_that_was_not_reached_is_said_with_what_helps(
    said: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "said").write_text(f'time="x" level=fatal msg="{said}"\n')
    monkeypatch.setenv("SKOPEO_DOES", f"cat {tmp_path / 'said'}; exit 1")
    with pytest.raises(FleetError) as caught:
        push("/layout", registry(tmp_path), "vllm", "r1", on_line=lambda _line: None)
    assert hint in caught.value.hint


@pytest.mark.usefixtures("notes")
def test_a_push_in_which_nothing_moves_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKOPEO_DOES", "exec sleep 60")
    waits: list[float] = []
    with pytest.raises(FleetError, match=r"nothing moved for 1 s \(tried 4 times\)"):
        push("/layout", registry(tmp_path), "vllm", "r1", on_line=lambda _line: None, stall=1, sleep=waits.append)
    assert len(waits) == 3


def test_a_push_that_a_registry_interrupts_goes_on(
    notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = f"[ -e {notes}/tried ] && exit 0; touch {notes}/tried; echo 'level=fatal msg=\"received unexpected HTTP status: 503\"'; exit 1"
    monkeypatch.setenv("SKOPEO_DOES", once)
    lines: list[str] = []
    push("/layout", registry(tmp_path), "vllm", "r1", on_line=lines.append, sleep=lambda _seconds: None)
    assert any("503; trying again in" in line for line in lines)


@pytest.mark.usefixtures("notes")
def test_bytes_are_told_while_they_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 3_000_000)
    monkeypatch.setenv(
        "SKOPEO_DOES",
        f"while read -r _ignored; do :; done < /dev/null; exec python3 -c \"\nimport time\nopen('{big}','rb').read()\ntime.sleep(1.5)\"",
    )
    seen: list[int] = []
    push("/layout", registry(tmp_path), "vllm", "r1", on_line=lambda _line: None, at=seen.append)
    assert seen
    assert max(seen) >= 3_000_000


def test_a_machine_without_skopeo_is_named(notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = notes / "tools"
    tools.mkdir()
    for tool in ("sh", "mktemp", "rm", "tar", "sleep", "sed"):
        (tools / tool).symlink_to(Path("/bin", tool))
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(FleetError, match="skopeo is not installed there"):
        push("/layout", registry(tmp_path), "vllm", "r1", on_line=lambda _line: None)
