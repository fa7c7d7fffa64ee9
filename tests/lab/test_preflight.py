"""The command line against the whole lab: facts and preflight as an operator runs them, whole and broken."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.lab import Lab

pytestmark = pytest.mark.lab

FLEET = Path(sys.executable).with_name("fleet")
GPU_NODES = ("mi300x-01", "mi250-01", "mi300x-cpx-01", "mi300x-off-01")
# What an operator would call a change: containers, images, volumes, files of the system and of ours.
SNAPSHOT = (
    "docker ps -aq --no-trunc; docker images -aq --no-trunc; docker volume ls -q;"
    "find /etc /srv /opt /var/tmp /usr/local -type f -exec md5sum {} + | sort; ls -A /root /home"
)


def fleet(lab: Lab, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    verb, *rest = words
    argv = (str(FLEET), verb, "--inventory", str(lab.inventory), *rest)
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment}
    )


def findings(lab: Lab, host: str) -> tuple[int, dict[str, str]]:
    """Exit code, and severity by finding id, of one host's preflight."""
    done = fleet(lab, "preflight", "--limit", host, "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, {found["id"]: found["severity"] for found in document["hosts"][host]["findings"]}


@pytest.fixture
def mended(lab: Lab) -> Iterator[Lab]:
    yield lab
    for host in GPU_NODES:
        lab.mend(host)


def test_a_whole_lab_is_fit_and_nothing_is_changed_by_looking(lab: Lab) -> None:
    before = {host: lab.node(host).exec(("sh", "-c", SNAPSHOT)).stdout for host in GPU_NODES}
    for _ in range(2):
        done = fleet(lab, "preflight")
        assert done.returncode == 0, done.stdout + done.stderr
        for host in GPU_NODES:
            assert f"{host} " in done.stdout
        assert "failed=1" not in done.stdout
        assert "bastion" in done.stdout  # it has no part in the fleet, and that is said
        assert "skipped=1" in done.stdout
    assert {host: lab.node(host).exec(("sh", "-c", SNAPSHOT)).stdout for host in GPU_NODES} == before


def test_facts_tell_each_kind_of_node(lab: Lab) -> None:
    done = fleet(lab, "facts", "--limit", "gpu", "--json")
    assert done.returncode == 0, done.stderr
    hosts = json.loads(done.stdout)["hosts"]
    kinds = {
        name: (len(facts["gpus"]), facts["gpus"][0]["model"], facts["gpus"][0]["gfx"], facts["gpus"][0]["partition"])
        for name, facts in hosts.items()
    }
    assert kinds["mi300x-01"] == (8, "MI300X", "gfx942", "SPX")
    assert kinds["mi300x-cpx-01"] == (64, "MI300X", "gfx942", "CPX")
    count, model, gfx, _ = kinds["mi250-01"]
    assert (count, gfx) == (8, "gfx90a")
    assert model.startswith("MI250")
    assert hosts["mi250-01"]["docker"]["version"].startswith("20.10")
    assert hosts["mi300x-cpx-01"]["docker"]["image_store"] == "containerd"
    assert all(191 << 30 < gpu["vram_bytes"] <= 192 << 30 for gpu in hosts["mi300x-01"]["gpus"])


def test_captured_hosts_are_read_back_as_the_same_facts_and_hold_no_secret(lab: Lab, tmp_path: Path) -> None:
    node = lab.node("mi300x-01")
    # 127.0.0.2 keeps clear of the services' ports; the listener makes its command line part of the facts.
    script = "import socket,time;s=socket.create_server(('127.0.0.2',8899));time.sleep(300)"
    shown = node.exec(("sh", "-c", f'python3 -c "{script}" --api-key s3cret-key >/dev/null 2>&1 & echo $!'))
    try:
        time.sleep(1)
        done = fleet(lab, "facts", "--limit", "mi300x-01,mi250-01", "--capture", str(tmp_path / "bug"), "--json")
    finally:
        node.exec(("kill", shown.stdout.strip()))
    assert done.returncode == 0, done.stderr
    live = json.loads(done.stdout)["hosts"]
    for host in ("mi300x-01", "mi250-01"):
        command = (FLEET, "facts", "--root", tmp_path / "bug" / host, "--json")
        again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(again.stdout) == live[host]
    assert live["mi250-01"]["user"]["sudo_user"] == "ops"
    assert any("--api-key ***" in (entry["command"] or "") for entry in live["mi300x-01"]["listeners"])
    kept = [path.read_text("utf-8") for path in (tmp_path / "bug").rglob("*") if path.is_file()]
    assert not [text for text in kept if "s3cret" in text]
    refused = fleet(lab, "facts", "--limit", "mi300x-01", "--capture", str(tmp_path / "bug"))
    assert refused.returncode == 2


# Fault -> its finding; those of one row hide nothing of each other.
FAULTS = (
    {"kfd-missing": "kfd_present"},
    {
        "kfd-0600": "kfd_permission",
        "driver-in-tree": "driver_in_tree",
        "numa-balancing-on": "numa_balancing",
        "clock-off": "time_skew",
        "docker-disk-full": "space_engine",
    },
    {"amdgpu-absent": "amdgpu_state", "docker-stopped": "docker_running"},
    {"gpu-missing": "gpu_count", "ras-ue": "ras_uncorrectable", "driver-pending-reboot": "driver_pending_reboot"},
    {"gfx-wrong": "gpu_gfx", "gpu-busy": "gpu_foreign"},
    {"partition-changed": "partition_compute"},
)


@pytest.mark.parametrize("found", FAULTS, ids=", ".join)
def test_faults_are_named_by_their_findings(mended: Lab, found: dict[str, str]) -> None:
    for fault in found:
        mended.break_(fault, "mi300x-01")
    code, severities = findings(mended, "mi300x-01")
    assert set(found.values()) <= set(severities)
    assert code == int("fail" in severities.values())


def test_one_unreachable_host_does_not_spoil_the_others(mended: Lab) -> None:
    mended.break_("sshd-down", "mi300x-01")
    done = fleet(mended, "preflight", "--limit", "gpu", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert document["failed"]["mi300x-01"]["unreachable"] is True
    assert set(document["hosts"]) == set(GPU_NODES) - {"mi300x-01"}


def test_a_changed_host_key_is_refused_with_its_fingerprint(mended: Lab) -> None:
    mended.break_("hostkey-changed", "mi300x-01")
    done = fleet(mended, "preflight", "--limit", "mi300x-01")
    assert done.returncode == 1
    assert "SHA256:" in done.stderr
    assert "unreachable=1" in done.stdout
    assert "Traceback" not in done.stderr


def test_an_unknown_host_key_needs_a_word_and_is_then_remembered(lab: Lab, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    config, other = tmp_path / "ssh_config", tmp_path / "other.yaml"
    for source, target, old, new in (
        (lab.paths.ssh_config, config, lab.paths.known_hosts, known),
        (lab.inventory, other, lab.paths.ssh_config, config),
    ):
        text = source.read_text(encoding="utf-8")
        assert str(old) in text
        target.write_text(text.replace(str(old), str(new)), encoding="utf-8")
    command = (FLEET, "preflight", "-i", other, "-l", "mi300x-01")
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "--accept-new" in refused.stderr
    accepted = subprocess.run((*command, "--accept-new"), capture_output=True, text=True, timeout=60, check=False)
    assert accepted.returncode == 0, accepted.stderr
    assert "mi300x-01" in accepted.stderr  # said, per host
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def test_ctrl_c_ends_cleanly_with_130(mended: Lab) -> None:
    mended.node("mi300x-01").link_down()
    try:
        command = (FLEET, "preflight", "-i", mended.inventory, "-l", "mi300x-01")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    finally:
        mended.node("mi300x-01").link_up()
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_bad_flags_and_patterns_touch_nothing(lab: Lab) -> None:
    nobody = fleet(lab, "preflight", "--limit", "mi300x-99")
    assert nobody.returncode == 2
    forks = fleet(lab, "preflight", FLEET_FORKS="many")
    assert forks.returncode == 2
    missing = subprocess.run((FLEET, "preflight", "-i", "no-such"), capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert "no-such" in missing.stderr
