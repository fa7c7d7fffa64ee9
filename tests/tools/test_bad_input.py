"""Bad input through the installed program: exit 2, the mistake at its place, no traceback, and nothing touched anywhere."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FLEET = Path(sys.executable).with_name("fleet")
GOOD = """\
all:
  vars:
    fleet:
      models_dir: /srv/models
      services: {chat: {model: m}}
  children:
    gpu: {hosts: {"n[1:2]": {ansible_host: 127.0.0.1, ansible_port: 1}}}
"""
# What is written into the inventory instead of what, the command's further words, and what it says.
CASES: dict[str, tuple[Any, ...]] = {
    "YAML syntax error": ("services: {chat: {model: m}}", "services: {chat: [m", (), "prod.yaml:6:11: YAML syntax"),
    "unknown key": (
        "models_dir", "modles_dir", (), "prod.yaml:4:7: fleet.modles_dir: unknown key (did you mean models_dir?)",
    ),
    "wrong type": (
        "model: m", "model: m, port: many", (), "fleet.services.chat.port: must be a whole number, not a string",
    ),
    "duplicate key": (
        "      models_dir", "      models_dir: /other\n      models_dir", (),
        "prod.yaml:5:7: duplicate key 'models_dir', first on line 4",
    ),
    "empty pattern": ("", "", ("--limit", "gpus"), "no host matches 'gpus'"),
    "nothing left of a pattern": ("", "", ("--limit", "gpu:!n*"), "no host matches 'gpu:!n*'"),
    "cyclic groups": ("gpu: {", "gpu: {children: {all: }, ", (), "hold each other in a cycle"),
    "missing secret": (
        "model: m", "model: m, secrets: {KEY: {env: NOT_THERE}}", (),
        "fleet.services.chat.secrets.KEY: $NOT_THERE is not set (export NOT_THERE=…)",
    ),
    "names and sizes that no engine takes": (
        "{model: m}", "{model: m, shm_size: sixteen, volumes: ['nope:x'], secrets: {BAD-NAME: {env: HOME}}}", (),
        "prod.yaml:5:45: fleet.services.chat.shm_size: must be a size such as 16g or 512m, not 'sixteen'",
        "prod.yaml:5:64: fleet.services.chat.volumes[0]: must be HOST:CONTAINER or HOST:CONTAINER:ro",
        "prod.yaml:5:85: fleet.services.chat.secrets.BAD-NAME: the key must be a name that a shell exports",
    ),
    "no such inventory": ("", "", ("-i", "prdo"), "prdo: no such inventory"),
    "no such playbook": ("", "", ("--stages", "sevre"), "sevre"),
}  # fmt: skip


def run(folder: Path, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
    argv = (str(FLEET), verb, "-i", "prod", *words)
    environment = {**os.environ, "COLUMNS": "300"}
    return subprocess.run(
        argv,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("verb", ["deploy", "plan"])
@pytest.mark.parametrize("case", CASES)
def test_bad_input_ends_the_program_with_2_and_touches_nothing(case: str, verb: str, tmp_path: Path) -> None:
    old, new, words, *said = CASES[case]
    (tmp_path / "prod.yaml").write_text(GOOD.replace(old, new, 1) if old else GOOD, encoding="utf-8")
    done = run(tmp_path, verb, *words)
    assert done.returncode == 2, done.stderr
    assert [one for one in said if one not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["prod.yaml"]


IMAGES = {
    "ref not found": ("source: {ref: v0.11.1, repository: REPOSITORY}", "has no ref 'v0.11.1'", "near: v0.11.0"),
    "archive not there": ("archive: brought.tar", "brought.tar is not there", "names a file of this controller"),
}


@pytest.mark.parametrize("verb", ["build", "deploy", "plan"])
@pytest.mark.parametrize("case", IMAGES)
def test_an_image_that_is_not_there_is_bad_input_and_no_host_is_asked(case: str, verb: str, tmp_path: Path) -> None:
    image, said, hint = IMAGES[case]
    origin = tmp_path / "origin"
    who = ("-c", "user.name=t", "-c", "user.email=t@t")
    for words in (("init", "-q", str(origin)), ("-C", str(origin), *who, "commit", "-q", "--allow-empty", "-m", "one")):
        subprocess.run(("git", *words), check=True, timeout=30)
    subprocess.run(("git", "-C", str(origin), "tag", "v0.11.0"), check=True, timeout=30)
    spec = f"image: {{name: vllm, {image.replace('REPOSITORY', str(origin))}}}"
    (tmp_path / "prod.yaml").write_text(GOOD.replace("models_dir", f"{spec}\n      models_dir", 1), encoding="utf-8")
    done = run(tmp_path, verb)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert hint in done.stderr
    assert "n1" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "prod.lock.yaml").exists()
