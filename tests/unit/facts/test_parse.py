"""Everything but the GPUs, out of recorded and composed answers of the probe."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet.errors import FleetError, HostError
from fleet.facts import PROBE, capture, collect, parse, read_tree
from fleet.facts.frames import split
from fleet.facts.model import Facts
from fleet.facts.parse import SYSCTLS
from fleet.facts.words import redact

RECORDS = Path(__file__).parents[2] / "data/probe"
ID = "a" * 64


def framed(**sections: str) -> Facts:
    body = "".join(f"T {name.replace('__', '.')}\n{text}\n" for name, text in sections.items())
    return parse(f"T start 1\n{body}T end\n")


def live() -> Facts:
    return parse((RECORDS / "live-mi300x8.txt").read_text("utf-8"))


def test_a_live_host_tells_its_system_driver_and_devices() -> None:
    facts = live()
    assert (facts.source, facts.system.os, facts.system.os_version) == ("live", "debian", "12")
    assert facts.system.boot_id
    assert facts.system.epoch_s is not None
    assert (facts.driver.state, facts.driver.version) == ("live", "6.16.13")
    assert (facts.driver.in_tree, facts.driver.pending_reboot) == (False, False)
    assert facts.devices.kfd is not None
    assert (facts.devices.kfd.is_char, facts.devices.kfd.mode, facts.devices.kfd.gid) == (True, 0o660, 105)
    assert len(facts.devices.render or ()) == 8
    assert facts.gids == (105,)


def test_registries_that_the_engine_asks_without_tls_are_known() -> None:
    assert live().docker.insecure == ("127.0.0.0/8",)
    info = {"IndexConfigs": {"r.corp:5000": {"Secure": False}, "docker.io": {"Secure": True}}, "Mirrors": []}
    text = json.dumps({"Driver": "overlay2", "RegistryConfig": {**info, "InsecureRegistryCIDRs": ["10.0.0.0/8"]}})
    assert framed(docker="/usr/bin/docker", docker__info=text).docker.insecure == ("r.corp:5000", "10.0.0.0/8")
    assert framed(docker="/usr/bin/docker", docker__info="{}").docker.insecure is None


def test_a_live_host_tells_its_engine_space_and_models() -> None:
    facts = live()
    docker = facts.docker
    assert (docker.state, docker.version, docker.api_version) == ("running", "20.10.24+dfsg1", "1.41")
    assert (docker.storage_driver, docker.image_store, docker.containers) == ("overlay2", "classic", ())
    assert facts.space["root"].path == "/var/lib/docker"
    assert facts.space["root"].free_bytes > 0
    assert facts.space["staging"].exists is False
    assert [(model.name, model.weights) for model in facts.models or ()] == [("tiny-chat", True)]
    assert facts.models is not None
    assert facts.models[0].attention_heads
    assert facts.topology.processes == ()
    assert {listener.port for listener in facts.listeners or ()} == {22}
    assert all("sshd" in (listener.command or "") for listener in facts.listeners or ())


def test_a_newer_engine_and_its_buildx_are_read() -> None:
    docker = parse((RECORDS / "live-builder.txt").read_text("utf-8")).docker
    assert docker.version == "26.1.5+dfsg1"
    assert docker.buildx == "0.13.1+ds1"


def test_sudo_shows_who_asked() -> None:
    facts = parse((RECORDS / "live-mi250x4-sudo.txt").read_text("utf-8"))
    assert (facts.user.uid, facts.user.sudo_user) == (0, "ops")


def test_json_has_stable_keys_and_survives_a_round_trip() -> None:
    document = json.loads(json.dumps(live().to_json()))
    assert set(document) == {
        "source", "gpus", "kfd", "system", "tuning", "devices", "driver", "docker", "space", "models", "listeners",
        "firewall", "kernel_log", "user", "unread",
    }  # fmt: skip
    wanted = {
        "index", "node", "model", "gfx", "cus", "vram_bytes", "vram_used_bytes", "render_minor", "unique_id", "bdf",
        "numa_node", "compute_partition", "memory_partition", "partition", "hive",
    }  # fmt: skip
    assert wanted <= set(document["gpus"][0])
    assert document["gpus"][0]["partition"] == "SPX"


def test_nothing_read_is_none_everywhere() -> None:
    facts = framed()
    assert facts.driver.state is None
    assert facts.devices.kfd_present is False  # a live host without the file has none
    assert facts.docker.state is None
    assert (facts.models, facts.listeners, facts.kernel_log.lines, facts.topology.processes) == (None,) * 4
    assert facts.tuning.numa_balancing is None
    assert facts.tuning.selinux is None


def test_a_tree_says_nothing_of_devices() -> None:
    facts = parse("T start tree\nT present\nT end\n")
    assert facts.devices.kfd_present is None
    assert facts.devices.render is None


@pytest.mark.parametrize("text", ["", "bash: sh: not found", "T start 1\nT files\n"])
def test_what_is_not_the_probes_whole_answer_is_refused(text: str) -> None:
    with pytest.raises(FleetError):
        parse(text)


def test_a_login_banner_is_skipped() -> None:
    assert parse("Welcome to node 7\nT start tree\nT end\n").source == "tree"


def test_errors_become_errno_names_and_unmatched_globs_are_dropped() -> None:
    frames = split(
        "T start 1\nT files!\ngrep: proc/cmdline: Permission denied\n/usr/bin/grep: a/b: c: Input/output error\n"
        "grep: sys/x/*/y: No such file or directory\ngrep: odd: Something new\nT end\n"
    )
    assert [(entry.path, entry.error) for entry in frames.unread] == [
        ("proc/cmdline", "EACCES"),
        ("a/b: c", "EIO"),
        ("odd", "Something new"),
    ]


@pytest.mark.parametrize(
    ("present", "files", "state"),
    [
        ("sys/module", "", "absent"),
        ("sys/module\nsys/module/amdgpu", "", "builtin"),
        ("sys/module\nsys/module/amdgpu", "sys/module/amdgpu/initstate:live", "live"),
        ("sys/module\nsys/module/amdgpu", "sys/module/amdgpu/initstate:going", "going"),
    ],
)
def test_driver_states(present: str, files: str, state: str) -> None:
    assert framed(files=files, present=present).driver.state == state


def test_a_module_on_disk_that_differs_waits_for_a_reboot() -> None:
    facts = framed(
        files="sys/module/amdgpu/initstate:live\nsys/module/amdgpu/version:6.12.12",
        present="sys/module\nsys/module/amdgpu\nvar/lib/dkms/amdgpu/6.14.14-2204008\nvar/lib/dkms/amdgpu/kernel-6.8",
        modinfo="filename:       /lib/x.ko\nversion:        6.14.14\nsrcversion:     ABC",
    )
    assert facts.driver.pending_reboot is True
    assert facts.driver.dkms == ("6.14.14-2204008",)


@pytest.mark.parametrize(
    ("present", "state"),
    [("docker.sock", "forbidden"), ("docker.sock\ndocker.sock:writable", "stopped"), ("", "stopped")],
)
def test_stopped_and_forbidden_engines_are_told_apart_by_the_socket(present: str, state: str) -> None:
    facts = framed(
        present=present,
        docker="/usr/bin/docker",
        docker__version='{"Client":{"Version":"20.10.24"},"Server":null}\nsomething went wrong',
        docker__info="something went wrong",
    )
    assert (facts.docker.state, facts.docker.error) == (state, "something went wrong")
    assert facts.docker.cli_version == "20.10.24"


def test_no_cli() -> None:
    assert framed(docker="").docker.state == "no-cli"


def container(**fields: object) -> str:
    row = {
        "id": ID,
        "name": "/theirs",
        "image": "llm:1",
        "image_id": "sha256:1",
        "pid": 77,
        "entrypoint": ["vllm", "serve"],
        "cmd": ["m", "--api-key", "s3cret", "--port=8000"],
        "labels": {"io.fleet.service": "chat"},
        "network": "host",
        "ports": {"8000/tcp": [{"HostIp": "", "HostPort": "8001"}], "9000/tcp": None},
        "devices": [{"PathOnHost": "/dev/kfd"}],
        "privileged": False,
    }
    return json.dumps(row | fields)


def engine(**info: object) -> dict[str, str]:
    known = {"Driver": "overlay2", "SecurityOptions": ["name=seccomp"], "OperatingSystem": "Debian"}
    return {
        "docker": "/usr/bin/docker",
        "docker__version": '{"Client":{},"Server":{"Version":"29.0.1","ApiVersion":"1.52"}}',
        "docker__info": "WARNING: something\n" + json.dumps(known | info),
    }


def test_containers_are_read_without_their_secrets() -> None:
    facts = framed(**engine(), docker__containers=container())
    assert facts.docker.containers is not None
    (found,) = facts.docker.containers
    assert (found.name, found.service, found.ports, found.devices) == ("theirs", "chat", (8001,), ("/dev/kfd",))
    assert "s3cret" not in json.dumps(facts.to_json())
    assert found.command == "vllm serve m --api-key *** --port=8000"


def test_rootless_desktop_and_the_containerd_store_are_seen() -> None:
    docker = framed(
        **engine(
            SecurityOptions=["name=rootless", "name=cgroupns"],
            OperatingSystem="Docker Desktop",
            DriverStatus=[["driver-type", "io.containerd.snapshotter.v1"]],
            CgroupVersion="2",
        )
    ).docker
    assert (docker.rootless, docker.desktop, docker.image_store, docker.cgroup_version) == (True, True, "containerd", 2)


def test_processes_on_a_gpu_have_memory_command_line_and_container() -> None:
    facts = framed(
        present="sys/class/kfd/kfd/proc",
        pids="41 42",
        process="41/vram_101:1048576\n41/vram_102:2097152",
        commands="41 python3\x1ftrain.py\x1f--token=abc",
        cgroups=f"proc/41/cgroup:0::/system.slice/docker-{ID}.scope",
    )
    assert facts.topology.processes is not None
    first, second = facts.topology.processes
    assert (first.command, first.vram) == ("python3 train.py --token=***", {101: 1048576, 102: 2097152})
    assert first.container == ID
    assert (second.pid, second.command, second.vram, second.container) == (42, None, {}, "")


def test_listeners_come_from_the_kernel_and_owners_from_ss() -> None:
    facts = framed(
        present="proc/net/tcp",
        listeners="proc/net/tcp:   0: 0100007F:1F40 00000000:0000 0A 0\n"
        "proc/net/tcp6:   1: 00000000000000000000000000000000:0016 0000:0000 0A 0\n"
        "proc/net/tcp6:   1: 0000000000000000FFFF00000100007F:0017 0000:0000 0A 0\n"
        "proc/net/tcp6:   1: B80D0120000000000000000001000000:0018 0000:0000 0A 0",
        sockets='LISTEN 0 128 127.0.0.1:8000 0.0.0.0:* users:(("python3",pid=9,fd=3))',
        commands="9 python3\x1fserve.py",
    )
    assert facts.listeners is not None
    assert [(entry.address, entry.port, entry.pid) for entry in facts.listeners] == [
        ("::", 22, None),
        ("127.0.0.1", 23, None),
        ("2001:db8:0:0:0:0:0:1", 24, None),
        ("127.0.0.1", 8000, 9),
    ]
    assert facts.listeners[-1].command == "python3 serve.py"


def test_listeners_without_ss_are_noted_as_unread() -> None:
    facts = framed(present="proc/net/tcp", listeners="proc/net/tcp: 0: 0100007F:1F40 00000000:0000 0A 0")
    assert [entry.path for entry in facts.unread] == ["/proc/listeners"]


def test_models_by_one_and_two_levels_with_heads_of_nested_configs() -> None:
    facts = framed(
        models="config weights meta/Tiny 1B\nconfig - half\n- weights gguf",
        configs='meta/Tiny 1B/config.json:{"text_config":\nmeta/Tiny 1B/config.json: {"num_attention_heads": 24}}\n'
        "half/config.json:not json",
    )
    assert facts.models is not None
    assert [(m.name, m.weights, m.attention_heads) for m in facts.models] == [
        ("meta/Tiny 1B", True, 24),
        ("half", False, None),
        ("gguf", True, None),
    ]


def test_limits_and_settings() -> None:
    facts = framed(
        files="proc/sys/kernel/numa_balancing:1\nsys/kernel/mm/transparent_hugepage/enabled:always [madvise] never\n"
        "sys/devices/system/cpu/online:0-63,128-191\nsys/fs/selinux/enforce:1\nsys/fs/cgroup/cgroup.controllers:cpu\n"
        "proc/7/limits:Max open files            1024                 524288               files",
        limits="memlock unlimited\nnofile 1024\nnofile_hard 4096",
        present="sys/module\nsys/class/iommu/ivhd0",
    )
    tuning = facts.tuning
    assert (tuning.numa_balancing, tuning.transparent_hugepage, tuning.selinux, tuning.cgroup) == (
        1,
        "madvise",
        "enforcing",
        2,
    )
    assert (tuning.memlock_kib, tuning.nofile_hard, tuning.engine_nofile) == (-1, 4096, 524288)
    assert tuning.iommu_present is True
    assert facts.system.cpus == 128


def test_flock_is_there_or_not_or_nobody_looked() -> None:
    assert [framed(tools="flock").system.flock, framed(tools="").system.flock, framed().system.flock] == [
        True,
        False,
        None,
    ]


def test_secrets_on_command_lines_are_hidden() -> None:
    shown = redact(["HF_TOKEN=hf_x", "vllm", "--api-key", "k", "--hf-token=t", "two words"])
    assert shown == "HF_TOKEN=*** vllm --api-key *** --hf-token=*** 'two words'"


@dataclass(frozen=True)
class Said:
    stdout: str
    exit_code: int = 0
    stderr: str = ""


@dataclass(frozen=True)
class Named:
    name: str = "gpu-1"


@dataclass
class Session:
    """Answers one script with recorded text, and remembers how it was asked."""

    text: str
    host: Named = field(default_factory=Named)
    asked: list[tuple[tuple[str, ...], bool]] = field(default_factory=list)

    def script(
        self,
        text: str,
        *,
        args: Sequence[str] = (),
        sudo: bool = False,
        timeout: float | None = None,
        check: bool = True,
    ) -> Said:
        self.asked.append((tuple(args), sudo))
        return Said(self.text)


@dataclass(frozen=True)
class Places:
    models_dir: str = "/srv/models"
    staging_dir: str = "/var/tmp/fleet"


def test_collect_asks_once_with_sudo_and_the_directories() -> None:
    session = Session((RECORDS / "live-mi300x8.txt").read_text("utf-8"))
    assert len(collect(session, Places()).gpus) == 8
    ((args, sudo),) = session.asked
    assert args[1:] == ("", "/srv/models", "/var/tmp/fleet")
    assert sudo is True


def test_collect_names_the_host_that_answered_nonsense() -> None:
    with pytest.raises(HostError) as caught:
        collect(Session("-sh: permission denied\n"), Places())
    assert caught.value.host == "gpu-1"
    assert caught.value.tail == ("-sh: permission denied",)


def test_a_capture_is_a_tree_that_replays_the_same_facts(tmp_path: Path) -> None:
    session = Session((RECORDS / "live-mi300x8.txt").read_text("utf-8"))
    facts = capture(session, Places(), tmp_path / "bug")
    assert read_tree(tmp_path / "bug") == facts
    assert (tmp_path / "bug/sys/class/kfd/kfd/topology/nodes/2/properties").is_file()


def test_a_capture_holds_no_secret_of_a_command_line(tmp_path: Path) -> None:
    text = (
        "T start 1\nT docker\n/usr/bin/docker\n"
        f"T docker.containers\n{container()}\nT commands\n7 vllm\x1f--api-key\x1fs3cret\x1f--hf-token=s3cret\n"
        "8 env\x1fHF_TOKEN=s3cret\nT end\n"
    )
    capture(Session(text), Places(), tmp_path)
    kept = (tmp_path / "probe.txt").read_text("utf-8")
    assert "s3cret" not in kept
    assert kept.count("***") == 4


def test_kernel_settings_are_told_by_name_and_null_where_the_kernel_has_none() -> None:
    told = framed(files="proc/sys/vm/swappiness:60\nproc/sys/net/core/somaxconn:4096").tuning.sysctls
    assert {name: value for name, value in told.items() if value} == {
        "vm.swappiness": "60",
        "net.core.somaxconn": "4096",
    }
    assert set(told) == set(SYSCTLS)


def test_the_probe_asks_for_every_kernel_setting_that_is_read() -> None:
    assert not [name for name in SYSCTLS if f"proc/sys/{name.replace('.', '/')} " not in PROBE]
