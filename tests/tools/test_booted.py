"""Nights that systemd starts and stops, on a machine that it has booted: `make booted`, two minutes."""

import json
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cli import FLEET
from tests.lab.rolls import within
from tests.tools.booted import Machine, booted

pytestmark = pytest.mark.booted

UNIT = "fleet-nightly-prod"
SERVICE, TIMER = f"{UNIT}.service", f"{UNIT}.timer"
SECRET = "correct horse"


class Site:
    """An inventory whose upstream takes connections and never answers: a night of it looks, until it is stopped."""

    def __init__(self, machine: Machine, folder: Path, port: int) -> None:
        self.machine, self.folder, self.port = machine, folder, port
        self.environment = Path("/etc/fleet", f"{UNIT}.env")
        self.write("02:30")

    def write(self, schedule: str) -> None:
        image = {"name": "vllm", "source": {"repository": f"http://127.0.0.1:{self.port}/vllm.git", "ref": "main"}}
        fleet = {
            "image": image,
            "services": {"chat": {"model": "m", "port": 8000, "secrets": {"HF_TOKEN": {"env": "HF_TOKEN"}}}},
            "nightly": {"schedule": schedule, "jitter": 0},
        }
        host = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_user": "root"}
        (self.folder / "prod.yaml").write_text(json.dumps({"all": {"vars": {"fleet": fleet}, "hosts": {"a": host}}}))

    def fleet(self, *words: str, check: bool = True) -> str:
        return self.machine.run(str(FLEET), *words, "-i", "prod.yaml", folder=self.folder, check=check)

    def reports(self) -> list[dict[str, Any]]:
        paths = sorted((self.folder / ".fleet/nights").glob("*/report.json"))
        return [json.loads(path.read_text()) for path in paths]

    def looks(self) -> bool:
        """Does the last night look upstream?"""
        return [one["name"] for one in (self.reports() or [{"phases": []}])[-1]["phases"]] == ["look"]

    def journal(self) -> str:
        return self.machine.run("journalctl", "--unit", SERVICE, "--no-pager", "--output", "cat")

    def files(self) -> str:
        """All that systemd and /etc know of the nights."""
        units = self.machine.run("systemctl", "list-units", "--all", "--no-legend", f"{UNIT}*")
        return units + self.machine.run("sh", "-c", f"find /etc /run/systemd /var/lib/systemd -name '*{UNIT}*'")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("booted")
    with socket.create_server(("127.0.0.1", 0)) as silent, booted(folder) as machine:
        yield Site(machine, folder, silent.getsockname()[1])


def test_the_timer_is_started_with_what_install_says(site: Site) -> None:
    assert "fill in HF_TOKEN" in site.fleet("nightly.install")
    mode = site.machine.run("stat", "--format", "%a %U", str(site.environment))
    assert mode == "600 root"
    assert site.machine.run("systemctl", "is-enabled", TIMER) == "enabled"
    assert site.machine.shows(TIMER, "ActiveState") == "active"
    told = json.loads(site.fleet("nightly.status", "--json"))
    following = site.machine.run(
        "date", "--utc", "--date", site.machine.shows(TIMER, "NextElapseUSecRealtime"), "+%FT%H:%M"
    )
    assert told["next"].startswith(following)


def test_a_night_without_its_secrets_says_so_in_the_journal(site: Site) -> None:
    site.machine.run("systemctl", "start", SERVICE, check=False)
    assert "$HF_TOKEN is not set" in site.journal()
    assert site.machine.shows(SERVICE, "ExecMainStatus") == "2"


def test_the_timer_starts_a_night_and_no_second_one_beside_it(site: Site) -> None:
    site.machine.run("sh", "-c", f"echo \"HF_TOKEN='{SECRET}'\" >>{site.environment}")
    # Its own accuracy of a minute would double the wait.
    drop_in = f"/run/systemd/system/{TIMER}.d"
    site.machine.run("sh", "-c", f"mkdir {drop_in} && printf '[Timer]\\nAccuracySec=1s\\n' >{drop_in}/soon.conf")
    count = len(site.reports())
    soon = datetime.now().astimezone() + timedelta(seconds=65)
    site.write(f"{soon:%H:%M}")
    assert f"wrote /etc/systemd/system/{TIMER}" in site.fleet("nightly.install")
    assert within(130, lambda: len(site.reports()) > count and site.looks())
    assert site.machine.shows(SERVICE, "ActiveState") == "activating"
    first = site.machine.shows(SERVICE, "MainPID")
    site.machine.run("systemctl", "start", "--no-block", SERVICE)
    assert "another night is running here" in site.machine.run(
        "env", f"HF_TOKEN={SECRET}", str(FLEET), "nightly", "-i", "prod.yaml", folder=site.folder, check=False
    )
    assert (site.machine.shows(SERVICE, "MainPID"), len(site.reports())) == (first, count + 1)


def test_a_stop_interrupts_it_and_its_end_stands_in_report_and_journal(site: Site) -> None:
    site.machine.run("systemctl", "stop", SERVICE)
    report = site.reports()[-1]
    assert report["result"] == "interrupted"
    assert (site.folder / ".fleet/nights" / report["id"] / "report.html").exists()
    journal = site.journal()
    assert f"night {report['id']}: interrupted" in journal
    assert SECRET not in journal
    assert site.machine.shows(SERVICE, "ActiveState") == "inactive"
    assert report["id"] in site.fleet("nightly.status")


def test_uninstall_leaves_nothing_also_after_a_night_that_failed(site: Site) -> None:
    site.machine.run("sh", "-c", f"rm -r /run/systemd/system/{TIMER}.d; sed -i /HF_TOKEN=/d {site.environment}")
    site.machine.run("systemctl", "start", SERVICE, check=False)
    assert site.machine.shows(SERVICE, "ActiveState") == "failed"
    site.fleet("nightly.uninstall")
    assert site.files() == ""
