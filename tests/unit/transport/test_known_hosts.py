"""known_hosts: names, hashes, markers, and appending."""

import base64
from pathlib import Path

import pytest

from fleet.transport.known_hosts import (
    Entry,
    Verdict,
    fingerprint,
    hashed_name,
    judge,
    preferred_algorithms,
    read,
    remember,
)

KEY, OTHER = b"key-one", b"key-two"


def line(names: str, blob: bytes = KEY, kind: str = "ssh-ed25519", marker: str = "") -> str:
    return f"{marker} {names} {kind} {base64.b64encode(blob).decode()} a comment\n".lstrip()


def entries(tmp_path: Path, names: str | tuple[str, ...], *lines: str) -> tuple[Entry, ...]:
    file = tmp_path / "known_hosts"
    file.write_text("# comment\n\nbroken line\n" + "".join(lines))
    return read([str(tmp_path / "missing"), str(file)], (names,) if isinstance(names, str) else names)


@pytest.mark.parametrize(
    ("names", "name", "verdict"),
    [
        ("a,b", "b", Verdict.KNOWN),
        ("*.dc1", "gpu.dc1", Verdict.KNOWN),
        ("*.dc1,!gpu.dc1", "gpu.dc1", Verdict.UNKNOWN),
        ("GPU?", "gpu1", Verdict.KNOWN),
        ("[a]:2222", "[a]:2222", Verdict.KNOWN),
        ("[a]:2222", "a", Verdict.UNKNOWN),
        pytest.param(hashed_name("[a]:2222"), "[a]:2222", Verdict.KNOWN, id="hashed-with-its-port"),
        pytest.param(hashed_name("a"), "b", Verdict.UNKNOWN, id="hashed-of-another"),
        ("|1|broken", "b", Verdict.UNKNOWN),
    ],
)
def test_names_match_as_in_openssh(tmp_path: Path, names: str, name: str, verdict: Verdict) -> None:
    assert judge(entries(tmp_path, name, line(names)), name, name, "ssh-ed25519", KEY).verdict is verdict


def test_a_key_known_without_port_is_good_for_any_port_but_never_makes_it_changed(tmp_path: Path) -> None:
    known = entries(tmp_path, ("[a]:2222", "a"), line("a"))
    assert judge(known, "[a]:2222", "a", "ssh-ed25519", KEY).verdict is Verdict.KNOWN
    assert judge(known, "[a]:2222", "a", "ssh-ed25519", OTHER).verdict is Verdict.UNKNOWN


def test_another_key_or_another_type_counts_as_changed_and_names_the_line(tmp_path: Path) -> None:
    known = entries(tmp_path, "a", line("a", kind="ssh-rsa"), line("a", OTHER))
    changed = judge(known, "a", "a", "ssh-ed25519", b"third")
    assert changed.verdict is Verdict.CHANGED
    assert changed.entry
    assert changed.entry.where == f"{tmp_path}/known_hosts:5"
    assert judge(known[:1], "a", "a", "ssh-ed25519", b"third").verdict is Verdict.CHANGED


def test_revoked_wins_and_authorities_are_told_apart(tmp_path: Path) -> None:
    known = entries(tmp_path, "a", line("a"), line("*", marker="@revoked"))
    assert judge(known, "a", "a", "ssh-ed25519", KEY).verdict is Verdict.REVOKED
    known = entries(tmp_path, "a", line("*", OTHER, marker="@cert-authority"))
    assert judge(known, "a", "a", "ssh-ed25519", KEY).verdict is Verdict.AUTHORITY


def test_known_types_are_asked_for_first(tmp_path: Path) -> None:
    offered = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256")
    known = entries(tmp_path, "a", line("a", kind="ssh-rsa"), line("b"))
    assert preferred_algorithms(known, offered) == ("rsa-sha2-512", "rsa-sha2-256", *offered[:2])
    assert preferred_algorithms(entries(tmp_path, "c", line("a"), line("b")), offered) == offered


def test_lines_come_in_their_order_and_a_changed_file_is_read_again(tmp_path: Path) -> None:
    known = entries(tmp_path, ("A", "[a]:2222"), line("b"), line("?", OTHER), line("a"), line("c,a,[a]:2222"))
    assert [entry.line for entry in known] == [5, 6, 7]
    assert [entry.line for entry in entries(tmp_path, "b", line("a"), line("a,b"))] == [5]


def test_a_key_is_appended_once_on_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "ssh" / "known_hosts"
    assert remember(str(file), "a", "ssh-ed25519", KEY)
    file.write_text(file.read_text().rstrip("\n"))
    assert not remember(str(file), "a", "ssh-ed25519", KEY)
    assert not remember(str(file), "a", "ssh-ed25519", OTHER)
    assert remember(str(file), "b", "ssh-ed25519", KEY, hash_name=True)
    assert [entry.line for entry in read([str(file)], ("a", "b"))] == [1, 2]
    assert file.read_text().splitlines()[1].startswith("|1|")
    assert (file.parent.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert not remember("/dev/null", "a", "ssh-ed25519", KEY)


def test_fingerprints_look_like_ssh_keygens() -> None:
    assert fingerprint(b"") == "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"
