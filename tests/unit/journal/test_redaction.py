"""The redactor of a run knows every secret of its hosts' settings, and leaves short user names alone."""

from pathlib import Path

import pytest

from fleet.inventory import load
from fleet.journal import redactor_for

INVENTORY = """\
all:
  hosts: {{a: {{}}}}
  vars:
    fleet:
      registry:
        host: r.corp:5000
        username: {{file: {folder}/user}}
        password: {{env: THE_PASSWORD}}
      services:
        chat: {{model: m, port: 8000, secrets: {{HF_TOKEN: {{file: {folder}/token}}, GONE: {{env: NOT_SET_ANYWHERE}}}}}}
"""


@pytest.mark.parametrize(("user", "told"), [("fleet", "fleet"), ("ghp_0123456789abcdef", "***")])
def test_every_secret_is_known_and_a_short_user_name_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, told: str
) -> None:
    (tmp_path / "user").write_text(user)
    (tmp_path / "token").write_text("hf_token\n")
    monkeypatch.setenv("THE_PASSWORD", "correct horse")
    path = tmp_path / "prod.yaml"
    path.write_text(INVENTORY.format(folder=tmp_path))
    redact = redactor_for(load((str(path),)).hosts.values())
    assert redact(f"{user}: correct horse, hf_token") == f"{told}: ***, ***"


def test_hosts_without_secrets_leave_text_alone(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text("all: {hosts: {a: {}, b: {}}}")
    hosts = load((str(path),)).hosts.values()
    assert redactor_for(hosts)("a b") == "a b"
