"""The wrapper in front of the command, in every shell that an image may have as /bin/sh."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fleet.serving.secrets import content, wrap

SHELLS = [("dash",), ("bash", "--posix"), ("busybox", "sh")]
VALUES = {
    "PLAIN": "abc",
    "QUOTES": """it's "quoted" `and` $HOME \\ done""",
    "LINES": "-----BEGIN-----\nabc=\n-----END-----",
    "BLANKS": "  two  blanks ",
    "EMPTY": "",
    "UNICODE": "schlüssel✓",
}
SHOW = 'for name in PLAIN QUOTES LINES BLANKS EMPTY UNICODE; do eval "printf \'%s\\0\' \\"\\$$name\\""; done'


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_every_value_arrives_unchanged_and_the_command_takes_the_shells_place(
    shell: tuple[str, ...], tmp_path: Path
) -> None:
    assert shutil.which(shell[0])
    file = tmp_path / "secrets"
    file.write_bytes(content(VALUES))
    entrypoint, arguments = wrap(("/bin/sh", "-c", SHOW + "; echo $$ >&2"))
    argv = [*shell, *entrypoint[1:-1], str(file), *arguments]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=20)
    assert out.decode().split("\0")[:-1] == list(VALUES.values())
    assert int(err) == process.pid


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_a_missing_file_stops_the_start(shell: tuple[str, ...], tmp_path: Path) -> None:
    entrypoint, _ = wrap(())
    argv = [*shell, *entrypoint[1:-1], str(tmp_path / "none"), "echo", "started"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode != 0
    assert "started" not in done.stdout
