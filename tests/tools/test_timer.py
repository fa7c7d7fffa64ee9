"""The timer's files, really written and taken away below a directory, and read by systemd's and sh's own tools."""

import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from fleet.errors import UsageError
from fleet.nightly.timer import calendar
from fleet.options import Options
from fleet.verbs.nightly_timer import install, status, uninstall

INVENTORY = """\
all:
  hosts: {a: }
  vars:
    fleet:
      nightly: {schedule: "%s"}
      registry: {host: r.corp, password: {env: REG_PASS}}
"""
FILES = {
    "systemd": ["etc/systemd/system/fleet-nightly-prod.service", "etc/systemd/system/fleet-nightly-prod.timer"],
    "cron": ["etc/cron.d/fleet-nightly-prod"],
}
systemd_analyze = pytest.mark.skipif(not which("systemd-analyze"), reason="this machine has no systemd-analyze")
systemctl = pytest.mark.skipif(not which("systemctl"), reason="this machine has no systemctl")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A controller's directory with an inventory; `root` in it stands for /."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prod.yaml").write_text(INVENTORY % "Mon..Fri 02:30", encoding="utf-8")
    return tmp_path


def below(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


OPTIONS = Options(inventory=("prod.yaml",))


@pytest.mark.parametrize("how", ["cron", pytest.param("systemd", marks=systemctl)])
def test_install_writes_once_and_uninstall_leaves_nothing(
    site: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = site / "root"
    assert install(OPTIONS, how=how, user="", root=root) == 0
    links = ["etc/systemd/system/timers.target.wants/fleet-nightly-prod.timer"] if how == "systemd" else []
    assert below(root) == sorted([*FILES[how], *links, "etc/fleet/fleet-nightly-prod.env"])
    environment = root / "etc/fleet/fleet-nightly-prod.env"
    assert environment.stat().st_mode & 0o777 == 0o600
    assert "fill in REG_PASS" in capsys.readouterr().err

    environment.write_text(f"{environment.read_text(encoding='utf-8')}REG_PASS='secret'\n", encoding="utf-8")
    assert install(OPTIONS, how=how, user="", root=root) == 0
    again = capsys.readouterr()
    assert "all of it was there already" in again.out
    assert "fill in" not in again.err
    assert "REG_PASS='secret'" in environment.read_text(encoding="utf-8")

    assert uninstall(OPTIONS, root=root) == 0
    assert below(root) == []
    capsys.readouterr()
    assert uninstall(OPTIONS, root=root) == 0
    assert "nothing is installed" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["cron", pytest.param("systemd", marks=systemctl)])
def test_status_tells_the_next_night_and_a_schedule_that_was_changed_since(
    site: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = site / "root"
    status(OPTIONS, last=7, root=root)
    assert "not installed" in capsys.readouterr().out
    install(OPTIONS, how=how, user="", root=root)
    capsys.readouterr()
    status(OPTIONS, last=7, root=root)
    told = capsys.readouterr()
    assert "02:30" in told.out
    assert told.err == ""
    (site / "prod.yaml").write_text(INVENTORY % "04:00", encoding="utf-8")
    status(OPTIONS, last=7, root=root)
    assert "otherwise than the inventory says (04:00)" in capsys.readouterr().err


def test_a_check_prints_the_files_and_writes_none(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(Options(inventory=("prod.yaml",), check=True), how="systemd", user="", root=site / "root") == 0
    assert "OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 02:30:00" in capsys.readouterr().out
    assert below(site / "root") == []


def test_somebody_elses_file_and_another_directorys_timer_are_left_alone(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = site / "root"
    install(OPTIONS, how="cron", user="", root=root)
    other = site / "other"
    other.mkdir()
    (other / "prod.yaml").write_text(INVENTORY % "02:30", encoding="utf-8")
    monkeypatch.chdir(other)
    with pytest.raises(UsageError, match="starts the nights of"):
        install(OPTIONS, how="cron", user="", root=root)
    with pytest.raises(UsageError, match="starts the nights of"):
        uninstall(OPTIONS, root=root)
    monkeypatch.chdir(site)
    (root / "etc/cron.d/fleet-nightly-prod").write_text("# mine\n", encoding="utf-8")
    with pytest.raises(UsageError, match="not of fleet"):
        uninstall(OPTIONS, root=root)


@systemctl
@systemd_analyze
def test_systemd_itself_finds_nothing_wrong_with_the_units(site: Path) -> None:
    install(OPTIONS, how="systemd", user="", root=site / "root")
    units = [str(site / "root" / path) for path in FILES["systemd"]]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@systemd_analyze
@pytest.mark.parametrize("schedule", ["02:30", "Mon..Fri 02:30", "Sat..Mon,Wed 23:59", "Sun 00:00"])
def test_systemd_reads_every_schedule(schedule: str) -> None:
    subprocess.run(["systemd-analyze", "calendar", calendar(schedule)], capture_output=True, check=True)


def test_crons_line_starts_the_program_with_the_secrets_and_only_once(site: Path) -> None:
    root = site / "root"
    (site / "prod.yaml").write_text(INVENTORY.replace('"%s"', '"02:30", jitter: 0'), encoding="utf-8")
    install(OPTIONS, how="cron", user="", root=root)
    environment = root / "etc/fleet/fleet-nightly-prod.env"
    environment.write_text(f"{environment.read_text(encoding='utf-8')}REG_PASS='it is $me'\n", encoding="utf-8")
    line = (root / "etc/cron.d/fleet-nightly-prod").read_text(encoding="utf-8").splitlines()[-1]
    program = str(Path(sys.executable).with_name("fleet"))
    script = line.split(" ", 6)[6].replace(program, "sh -c 'echo \"$REG_PASS\"'").replace("\\%", "%")
    subprocess.run(["sh", "-c", script], check=True)
    log = site / ".fleet/nights/fleet-nightly-prod.log"
    assert log.read_text(encoding="utf-8") == "it is $me\n"
    held = subprocess.run(
        ["flock", str(log.with_suffix(".cron")), "sh", "-c", script], capture_output=True, check=False
    )
    assert held.returncode == 1
    assert uninstall(OPTIONS, root=root) == 0
    assert not log.exists()
