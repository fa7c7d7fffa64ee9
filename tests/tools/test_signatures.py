"""Who signed a bundle, by real ssh-keygen: what is no signature, and every key that does not count, is told from one another."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.bundle.sign import check, sign
from fleet.errors import FleetError
from tests.tools.test_bundle import signers

CONTENT = b'{"schema": 1}\n'
SIGNATURE = "MANIFEST.json.sig"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    signers(tmp_path)
    (tmp_path / SIGNATURE).write_bytes(sign(CONTENT, str(tmp_path / "key")))
    return tmp_path


def linked(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("elsewhere")))


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def foreign(path: Path) -> None:
    words = ("ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(path.parent / "key"))
    path.write_bytes(subprocess.run(words, input=CONTENT, check=True, capture_output=True).stdout)


DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing", Path.unlink, "is not signed, MANIFEST.json.sig is missing"),
    ("link", linked, "MANIFEST.json.sig cannot be read: it is a link"),
    ("empty", lambda path: path.write_bytes(b""), "is damaged: it is no signature"),
    ("endless", lambda path: os.truncate(path, 1 << 30), "is damaged: it is no signature"),
    ("pipe", piped, "is damaged: it is no signature"),
    (
        "other-content",
        lambda path: path.write_bytes(sign(b"x", str(path.parent / "key"))),
        "does not match its signature",
    ),
    ("other-namespace", foreign, "does not match its signature: .*namespace does not match"),
]


@pytest.mark.parametrize(("damage", "said"), [row[1:] for row in DAMAGE], ids=[row[0] for row in DAMAGE])
def test_what_is_no_signature_of_a_manifest_is_named(root: Path, damage: Callable[[Path], object], said: str) -> None:
    damage(root / SIGNATURE)
    with pytest.raises(FleetError, match=said):
        check(root, CONTENT, str(root / "signers"))


LINES = {
    "": "no valid line of .* names the key that signed it, SHA256:",
    "nonsense": "names the key that signed it, SHA256:.*invalid line",
    'ops@desk valid-before="20200101" KEY': "names the key that signed it, SHA256:.*key has expired",
    'ops@desk namespaces="git" KEY': "MANIFEST.json.sig: ops@desk of .* may not sign it",
}


@pytest.mark.parametrize(("line", "said"), LINES.items())
def test_a_key_that_does_not_count_is_named_with_the_reason(root: Path, line: str, said: str) -> None:
    (root / "signers").write_text(line.replace("KEY", (root / "key.pub").read_text()))
    with pytest.raises(FleetError, match=said):
        check(root, CONTENT, str(root / "signers"))


def test_whoever_may_sign_is_told_by_name_also_by_one_with_a_blank(root: Path) -> None:
    assert check(root, CONTENT, str(root / "signers")) == "ops@desk"
    (root / "signers").write_text(f'"the ops desk,other" {(root / "key.pub").read_text()}')
    assert check(root, CONTENT, str(root / "signers")) == "the ops desk"
    with pytest.raises(FleetError, match=r"--allowed-signers .* is no file"):
        check(root, CONTENT, str(root))
