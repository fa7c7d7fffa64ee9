"""Every check of the catalogue passes on a well host, speaks up on a bad one, and never passes on silence."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fleet.facts import Container, Facts, Gpu, parse
from fleet.facts.model import (
    Chain,
    DeviceNode,
    EngineConfig,
    Firewall,
    KernelLog,
    Link,
    Listener,
    Model,
    PciGpu,
    Process,
    Space,
    Unread,
    User,
)
from fleet.image.release import Release
from fleet.inventory.settings import Gpus
from fleet.preflight import CHECKS, Blind, Finding, ImageFacts, Needs, ServiceNeeds, Targets, catalogue, check, verdict
from fleet.preflight.checks.words import GIB
from fleet.rollout.images import weight

RECORD = Path(__file__).parents[2] / "data/probe/live-mi300x8.txt"
CHAT = ServiceNeeds("chat", "tiny-chat", (8000,), guarded=True)
NEEDS = Needs(
    host="gpu-1",
    gpus=Gpus("MI300X", 8, "SPX", "NPS1"),
    image=ImageFacts((Targets(("gfx90a", "gfx942"), "7.2.1", ("chat",)),), 10 * GIB, 0),
    services=(CHAT,),
    epoch=1000.0,
)
THEIRS = Container("c" * 64, "other-llm", "llm:1", "sha256:1", 7, "vllm serve x", "", "host", (), ())
OURS = replace(THEIRS, id="b" * 64, name="chat-0", service="chat")

WHOLE = Model("tiny-chat", weights=True, attention_heads=8, weights_bytes=600 * GIB, missing=())
SHUT = Chain("nft", "inet filter", "input", base=True, policy="drop", rules=("tcp dport 22 accept",))

Change = Callable[[Facts], Facts]
Case = tuple[Change, Needs]


@cache
def well() -> Facts:
    """A recorded node of the lab, with the settings that the lab's machine cannot have."""
    facts = parse(RECORD.read_text("utf-8"))
    room = {key: replace(space, free_bytes=900 * GIB, exists=True) for key, space in facts.space.items()}
    return replace(
        facts,
        system=replace(facts.system, epoch_s=1001.0, flock=True, cmdline="ro iommu=pt pci=realloc=off", cpus=192),
        tuning=replace(
            facts.tuning, memlock_kib=-1, nofile_hard=1048576, shm_bytes=500 * GIB, cgroup=2, engine_nofile=-1,
            governor="performance", numa_balancing=0, selinux="disabled",
        ),
        topology=replace(facts.topology, pci=tuple(PciGpu(gpu.bdf or "", 0x74A1, True) for gpu in facts.gpus)),
        space=room,
        models=(WHOLE,),
        firewall=Firewall(("nft",), ()),
        docker=replace(facts.docker, config=EngineConfig(log_max_size="50m")),
        kernel_log=KernelLog(()),
    )  # fmt: skip


def part(name: str, **changes: Any) -> Change:
    return lambda facts: replace(facts, **{name: replace(getattr(facts, name), **changes)})


def whole(**changes: Any) -> Change:
    return lambda facts: replace(facts, **changes)


def gpu0(**changes: Any) -> Change:
    return lambda facts: with_gpus(facts, (replace(facts.gpus[0], **changes), *facts.gpus[1:]))


def every_gpu(**changes: Any) -> Change:
    return lambda facts: with_gpus(facts, tuple(replace(gpu, **changes) for gpu in facts.gpus))


def with_gpus(facts: Facts, gpus: tuple[Gpu, ...]) -> Facts:
    return replace(facts, topology=replace(facts.topology, gpus=gpus))


def fewer(count: int) -> Change:
    return lambda facts: with_gpus(facts, facts.gpus[:count])


def cpx63(facts: Facts) -> Facts:
    return with_gpus(facts, tuple(replace(facts.gpus[index % 8], index=index, node=index + 2) for index in range(63)))


def then(*changes: Change) -> Change:
    def all_of(facts: Facts) -> Facts:
        for change in changes:
            facts = change(facts)
        return facts

    return all_of


def kfd(**changes: Any) -> Change:
    node = DeviceNode("/dev/kfd", is_char=True, mode=0o660, uid=0, gid=105, owner="root", group="render")
    return part("devices", kfd=replace(node, **changes))


def render(**changes: Any) -> Change:
    return lambda facts: part("devices", render=tuple(replace(n, **changes) for n in facts.devices.render or ()))(facts)


def process(
    pid: int = 9, command: str | None = "python3 train.py", size: int = 90 * GIB, container: str = ""
) -> Change:
    return lambda facts: part(
        "topology", processes=(Process(pid, command, {facts.gpus[0].gpu_id or 0: size}, container),)
    )(facts)


def containers(*found: Container) -> Change:
    return part("docker", containers=found)


def listening(port: int = 8000, pid: int | None = 9, command: str | None = "nginx", container: str = "") -> Change:
    return whole(listeners=(Listener("0.0.0.0", port, pid, command, container),))  # noqa: S104  as a host would say it


def space(name: str, **changes: Any) -> Change:
    return lambda facts: replace(facts, space={**facts.space, name: replace(facts.space[name], **changes)})


def no_space(name: str) -> Change:
    return lambda facts: replace(facts, space={key: value for key, value in facts.space.items() if key != name})


def service(**changes: Any) -> Needs:
    return replace(NEEDS, services=(replace(CHAT, **changes),))


def model(**changes: Any) -> Change:
    return whole(models=(replace(WHOLE, **changes),))


def filtered(*chains: Chain) -> Change:
    return whole(firewall=Firewall(("nft",), chains))


def image(**changes: Any) -> Needs:
    return replace(NEEDS, image=ImageFacts((Targets(**{"gfx": ("gfx942",), "rocm": "7.2", **changes}),)))


def same(facts: Facts) -> Facts:
    return facts


def mi300a(facts: Facts) -> Facts:
    return part("tuning", transparent_hugepage="always")(every_gpu(model="MI300A")(facts))


OPEN = service(host="0.0.0.0", guarded=False)  # noqa: S104  the very thing to be found
SIDELOAD = replace(NEEDS, delivery="sideload")
A_NEEDS = replace(NEEDS, gpus=Gpus("MI300A", 8))

# Where the well MI300X host with NEEDS would not ask the question at all.
PASSES: dict[str, Case] = {
    "api_exposed": (filtered(SHUT), OPEN),
    "port_blocked": (same, OPEN),
    "space_models": (then(model(missing=("b",), index_bytes=1400 * GIB), space("models", free_bytes=900 * GIB)), NEEDS),
    "transparent_hugepage": (mi300a, A_NEEDS),
    "space_staging": (same, SIDELOAD),
    "gpu_foreign": (then(containers(OURS), process(container=OURS.id)), NEEDS),
    "port_free": (then(containers(OURS), listening(container=OURS.id)), NEEDS),
}

BARE = Needs(host="bastion", serves=False, epoch=1000.0)

FAILS: dict[str, list[Case]] = {
    "no_role": [(lambda _facts: Facts(), BARE)],
    "amdgpu_state": [(part("driver", state="absent"), NEEDS), (part("driver", state="going"), NEEDS)],
    "kfd_present": [(part("devices", kfd_present=False, kfd=None), NEEDS)],
    "kfd_char_device": [(kfd(is_char=False), NEEDS)],
    "kfd_permission": [(kfd(mode=0o600), NEEDS), (kfd(mode=0o640), NEEDS)],
    "render_present": [(part("devices", render=()), NEEDS)],
    "render_count": [(lambda f: part("devices", render=(f.devices.render or ())[1:])(f), NEEDS)],
    "render_permission": [(render(mode=0o600), NEEDS)],
    "driver_in_tree": [(part("driver", version=None), NEEDS)],
    "driver_pending_reboot": [
        (part("driver", disk_version="6.19.14"), NEEDS),
        (part("driver", version=None, disk_version=None, srcversion="A", disk_srcversion="B"), NEEDS),
    ],
    "driver_rocm": [(part("driver", version="6.8.5"), image(rocm="7.2.3")), (same, image(rocm="6.2"))],
    "driver_rocm_unknown": [(same, image(rocm="10.0")), (part("driver", version="9.9.9"), NEEDS)],
    "image_rocm_minimum": [(same, image(rocm="6.2.4")), (every_gpu(gfx="gfx950"), image(rocm="6.4"))],
    "gpu_nodes_readable": [(part("topology", hidden_nodes=(4,)), NEEDS)],
    "gpu_unbound": [(part("topology", pci=(PciGpu("0000:05:00.0", 0x74A1, False),)), NEEDS)],
    "gpu_model": [(every_gpu(model="MI325X"), NEEDS), (same, replace(NEEDS, gpus=Gpus("MI250", 8)))],
    "gpu_count": [(fewer(7), NEEDS), (fewer(0), NEEDS), (fewer(0), replace(NEEDS, gpus=Gpus()))],
    "gpu_count_cpx63": [(cpx63, replace(NEEDS, gpus=Gpus("MI300X", 64)))],
    "gpu_gfx": [(gpu0(gfx="gfx90a"), NEEDS), (gpu0(gfx="gfx950"), replace(NEEDS, gpus=Gpus()))],
    "partition_compute": [(gpu0(compute_partition="CPX"), NEEDS)],
    "partition_memory": [(every_gpu(memory_partition="NPS4"), NEEDS)],
    "partition_uniform": [(gpu0(compute_partition="DPX"), NEEDS), (gpu0(memory_partition="NPS4"), NEEDS)],
    "image_gfx": [(same, image(gfx=("gfx90a",))), (gpu0(gfx="gfx950"), NEEDS)],
    "aiter_gfx90a": [(every_gpu(gfx="gfx90a"), service(aiter=True))],
    "gpus_enough": [(same, service(gpus=4, ports=(1, 2, 3))), (fewer(1), service(ports=(1, 2)))],
    "vram_uniform": [(gpu0(vram_bytes=64 * GIB), NEEDS)],
    "unique_ids": [(lambda f: gpu0(unique_id=f.gpus[1].unique_id, bdf=f.gpus[1].bdf)(f), NEEDS)],
    "gpu_foreign": [
        (process(), NEEDS),
        (then(containers(THEIRS), process(container=THEIRS.id)), NEEDS),
        (part("topology", processes=(Process(9, "python3 x.py"),)), NEEDS),
    ],
    "gpu_idle_process": [(process(size=1024), NEEDS)],
    "kfd_leftovers": [(process(command=None), NEEDS)],
    "vram_free": [(gpu0(vram_used_bytes=100 * GIB), NEEDS)],
    "vram_residue": [(gpu0(vram_used_bytes=3 * GIB), NEEDS)],
    "ras_uncorrectable": [(gpu0(ras={"umc": {"ue": 1, "ce": 0}}), NEEDS)],
    "ras_correctable": [(gpu0(ras={"umc": {"ue": 0, "ce": 3}}), NEEDS)],
    "bad_pages": [(gpu0(bad_pages=2), NEEDS)],
    "pcie_link": [(gpu0(pcie_width=8), NEEDS), (gpu0(pcie_speed=16.0), NEEDS)],
    "pcie_replays": [(gpu0(pcie_replays=5), NEEDS)],
    "xgmi_links": [(gpu0(links=(Link(3, "xgmi"),)), NEEDS), (gpu0(hive=None), NEEDS)],
    "temperature": [(gpu0(temperature_c=97.0), NEEDS)],
    "power_cap": [(gpu0(power_cap_w=500.0), NEEDS)],
    "kernel_log": [(whole(kernel_log=KernelLog(("amdgpu 0000:26:00.0: amdgpu: GPU reset begin!",))), NEEDS)],
    "numa_balancing": [(part("tuning", numa_balancing=1), NEEDS)],
    "iommu_pt": [
        (part("system", cmdline="ro pci=realloc=off"), NEEDS),
        (part("system", cmdline="iommu=pt amd_iommu=off", cpus=384), NEEDS),
    ],
    "pci_realloc": [(part("system", cmdline="iommu=pt pci=realloc"), NEEDS)],
    "governor": [(part("tuning", governor="schedutil"), NEEDS)],
    "transparent_hugepage": [(then(mi300a, part("tuning", transparent_hugepage="madvise")), A_NEEDS)],
    "memlock": [(part("tuning", memlock_kib=8192), NEEDS)],
    "nofile": [(part("tuning", nofile_hard=4096), NEEDS)],
    "shm": [(part("tuning", shm_bytes=8 * GIB), NEEDS)],
    "selinux": [(part("tuning", selinux="enforcing"), NEEDS)],
    "cgroup": [(part("tuning", cgroup=1), NEEDS)],
    "time_skew": [(part("system", epoch_s=1100.0), NEEDS), (part("system", epoch_s=900.0), NEEDS)],
    "flock": [(part("system", flock=False), NEEDS)],
    "docker_cli": [(part("docker", state="no-cli", error="there is no `docker` in PATH"), NEEDS)],
    "docker_running": [(part("docker", state="stopped", error="Cannot connect"), NEEDS)],
    "docker_permission": [(part("docker", state="forbidden"), NEEDS)],
    "docker_version": [(part("docker", version="19.03.15"), NEEDS)],
    "docker_rootless": [(part("docker", rootless=True), NEEDS)],
    "docker_userns": [(part("docker", security=("name=userns",)), NEEDS)],
    "docker_desktop": [(part("docker", desktop=True), NEEDS)],
    "storage_driver": [(part("docker", storage_driver="vfs"), NEEDS)],
    "docker_logs": [
        (part("docker", config=EngineConfig()), NEEDS),
        (part("docker", config=EngineConfig(log_driver="json-file", flags=("--log-driver",))), NEEDS),
    ],
    "registry_ca": [(same, replace(NEEDS, registries=("registry:5000",)))],
    "registry_insecure": [
        (same, replace(NEEDS, insecure=("registry:5000",))),
        (part("docker", insecure=("10.0.0.0/8", "registry:5001")), replace(NEEDS, insecure=("registry:5000",))),
        (part("docker", insecure=("10.0.0.0/8",)), replace(NEEDS, insecure=("192.168.0.1:5000",))),
    ],
    "user_groups": [
        (whole(user=User("root", 0, ("root",), "ops", ("ops",))), NEEDS),
        (whole(user=User("ops", 1000, ("ops", "video"))), NEEDS),
    ],
    "engine_limits": [(part("tuning", engine_nofile=20000), NEEDS)],
    "space_engine": [(space("root", free_bytes=GIB), NEEDS)],
    "space_image": [
        (space("root", free_bytes=40 * GIB), NEEDS),
        (then(space("root", free_bytes=50 * GIB, device=5), space("staging", free_bytes=50 * GIB, device=5)), SIDELOAD),
        (then(part("docker", image_store="containerd"), space("containerd", free_bytes=GIB)), NEEDS),
    ],
    "space_inodes": [(space("root", free_inodes=1000), NEEDS)],
    "space_staging": [(space("staging", free_bytes=GIB), SIDELOAD)],
    "models_dir": [(space("models", exists=False), NEEDS)],
    "model_present": [(same, service(model="Llama")), (whole(models=(Model("tiny-chat", weights=False),)), NEEDS)],
    "model_complete": [(model(missing=("model-00002-of-00003.safetensors",)), NEEDS)],
    "model_sizes": [(model(weights_bytes=GIB, index_bytes=2 * GIB), NEEDS), (model(weights_bytes=0), NEEDS)],
    "space_models": [
        (then(model(weights=False, index_bytes=800 * GIB, weights_bytes=0), space("models", free_bytes=GIB)), NEEDS),
        (then(model(missing=("b",), index_bytes=2000 * GIB), space("models", free_bytes=GIB)), NEEDS),
    ],
    "model_vram": [
        (model(weights_bytes=1400 * GIB), NEEDS),
        (same, service(gpus=2)),
        (same, service(tensor_parallel=2)),
        (same, service(memory_share=0.3)),
        (model(attention_heads=3), NEEDS),
    ],
    "model_vram_tight": [(model(weights_bytes=1330 * GIB), NEEDS)],
    "port_free": [
        (listening(), NEEDS),
        (listening(pid=None, command=None), NEEDS),
        (then(containers(THEIRS), listening(container=THEIRS.id)), NEEDS),
        (then(containers(replace(THEIRS, ports=(8000,), network="bridge")), listening(pid=None)), NEEDS),
    ],
    "ports_distinct": [(same, replace(NEEDS, services=(CHAT, replace(CHAT, name="embed"))))],
    "api_exposed": [(same, OPEN), (whole(firewall=Firewall()), OPEN)],
    "port_blocked": [(filtered(SHUT), OPEN)],
    "unread": [(whole(unread=(Unread("sys/x", "EIO"),)), NEEDS)],
}

# Facts that are missing, with the checks that must then say so.
BLINDS: dict[str, Case] = {
    "amdgpu_state": (part("driver", state=None), NEEDS),
    "kfd_present": (part("devices", kfd_present=None), NEEDS),
    "kfd_char_device": (part("devices", kfd=None), NEEDS),
    "kfd_permission": (part("devices", kfd=None), NEEDS),
    "render_present": (part("devices", render=None), NEEDS),
    "render_count": (gpu0(render_minor=None), NEEDS),
    "render_permission": (part("devices", render=None), NEEDS),
    "driver_in_tree": (part("driver", state=None), NEEDS),
    "driver_pending_reboot": (part("driver", disk_version=None, disk_srcversion=None), NEEDS),
    "driver_rocm_unknown": (same, image(rocm="")),
    "image_rocm_minimum": (same, image(rocm="")),
    "gpu_unbound": (part("topology", pci=None), NEEDS),
    "gpu_model": (gpu0(model=None), NEEDS),
    "gpu_count": (part("topology", kfd=None), NEEDS),
    "gpu_gfx": (gpu0(gfx=None), NEEDS),
    "partition_compute": (gpu0(compute_partition=None), NEEDS),
    "partition_memory": (gpu0(memory_partition=None), NEEDS),
    "partition_uniform": (gpu0(compute_partition=None), NEEDS),
    "image_gfx": (same, image(gfx=())),
    "aiter_gfx90a": (fewer(0), service(aiter=True)),
    "gpus_enough": (fewer(0), NEEDS),
    "vram_uniform": (gpu0(vram_bytes=None), NEEDS),
    "unique_ids": (gpu0(unique_id=None), NEEDS),
    "gpu_foreign": (part("topology", processes=None), NEEDS),
    "kfd_leftovers": (part("topology", processes=None), NEEDS),
    "vram_free": (gpu0(vram_used_bytes=None), NEEDS),
    "ras_uncorrectable": (gpu0(ras=None), NEEDS),
    "ras_correctable": (gpu0(ras=None), NEEDS),
    "bad_pages": (gpu0(bad_pages=None), NEEDS),
    "pcie_link": (gpu0(pcie_speed=None), NEEDS),
    "pcie_replays": (gpu0(pcie_replays=None), NEEDS),
    "xgmi_links": (gpu0(links=None), NEEDS),
    "temperature": (gpu0(temperature_c=None), NEEDS),
    "power_cap": (gpu0(power_cap_w=None), NEEDS),
    "kernel_log": (whole(kernel_log=KernelLog()), NEEDS),
    "numa_balancing": (part("tuning", numa_balancing=None), NEEDS),
    "iommu_pt": (part("system", cmdline=None), NEEDS),
    "pci_realloc": (part("system", cmdline=None), NEEDS),
    "governor": (part("tuning", governor=None), NEEDS),
    "transparent_hugepage": (then(mi300a, part("tuning", transparent_hugepage=None)), A_NEEDS),
    "memlock": (part("tuning", memlock_kib=None), NEEDS),
    "nofile": (part("tuning", nofile_hard=None), NEEDS),
    "shm": (part("tuning", shm_bytes=None), NEEDS),
    "selinux": (part("tuning", selinux=None), NEEDS),
    "cgroup": (part("tuning", cgroup=None), NEEDS),
    "time_skew": (part("system", epoch_s=None), NEEDS),
    "flock": (part("system", flock=None), NEEDS),
    "docker_cli": (part("docker", state=None), NEEDS),
    "docker_running": (part("docker", state=None), NEEDS),
    "docker_permission": (part("docker", state=None), NEEDS),
    "docker_version": (part("docker", version=None), NEEDS),
    "docker_rootless": (part("docker", rootless=None), NEEDS),
    "docker_userns": (part("docker", rootless=None), NEEDS),
    "docker_desktop": (part("docker", desktop=None), NEEDS),
    "storage_driver": (part("docker", storage_driver=None), NEEDS),
    "docker_logs": (part("docker", config=None), NEEDS),
    "registry_ca": (part("docker", config=None), replace(NEEDS, registries=("registry:5000",))),
    "registry_insecure": (part("docker", insecure=None), replace(NEEDS, insecure=("registry:5000",))),
    "user_groups": (whole(user=User("root", 0, ("root",), "ops")), NEEDS),
    "engine_limits": (part("tuning", engine_nofile=None), NEEDS),
    "space_engine": (no_space("root"), NEEDS),
    "space_image": (no_space("root"), NEEDS),
    "space_inodes": (no_space("root"), NEEDS),
    "space_staging": (no_space("staging"), SIDELOAD),
    "models_dir": (no_space("models"), NEEDS),
    "model_present": (whole(models=None), NEEDS),
    "model_complete": (model(missing=None), NEEDS),
    "model_sizes": (model(weights_bytes=None), NEEDS),
    "space_models": (then(model(missing=("b",), index_bytes=2000 * GIB), no_space("models")), NEEDS),
    "model_vram": (model(weights_bytes=None), NEEDS),
    "port_free": (whole(listeners=None), NEEDS),
}
# These have nothing that could be missing: a sibling says it for them, or they judge the inventory alone.
SEES_ENOUGH = {
    "no_role",
    "driver_rocm",  # driver_rocm_unknown
    "gpu_nodes_readable",
    "gpu_count_cpx63",  # gpu_count
    "gpu_idle_process",  # gpu_foreign
    "vram_residue",  # vram_free
    "ports_distinct",
    "model_vram_tight",  # model_vram
    "api_exposed",
    "port_blocked",  # api_exposed
    "unread",
}


def found(facts: Facts, needs: Needs) -> dict[str, Finding]:
    return {finding.id: finding for finding in check(facts, needs)}


def test_every_check_has_its_row_in_every_table() -> None:
    ids = set(catalogue())
    assert len(ids) >= 36
    assert set(CHECKS) == ids
    assert set(FAILS) == ids
    assert set(BLINDS) | SEES_ENOUGH == ids


def test_a_well_host_has_no_finding_at_all() -> None:
    assert check(well(), NEEDS) == ()


@pytest.mark.parametrize("name", list(catalogue()))
def test_passes_where_all_is_well(name: str) -> None:
    change, needs = PASSES.get(name, (same, NEEDS))
    facts = change(well())
    assert CHECKS[name](facts, needs) is None
    assert name not in found(facts, needs)


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in FAILS.items() for case in cases])
def test_finds_what_is_wrong(name: str, case: Case) -> None:
    finding = found(case[0](well()), case[1]).get(name)
    assert finding is not None
    assert finding.evidence
    assert not finding.evidence.startswith("could not be read")
    assert finding.severity == catalogue()[name].severity


@pytest.mark.parametrize("name", list(BLINDS))
def test_what_could_not_be_read_is_a_finding_and_never_a_pass(name: str) -> None:
    change, needs = BLINDS[name]
    facts = change(well())
    assert isinstance(CHECKS[name](facts, needs), Blind)
    seen = found(facts, needs)
    assert name in seen or set(catalogue()[name].after) & set(seen)


def test_a_host_that_said_nothing_fails() -> None:
    assert not verdict(check(Facts(), NEEDS), strict=False)
    assert not verdict(check(Facts(), Needs()), strict=False)


def test_a_cause_silences_what_only_follows_from_it() -> None:
    """Without a driver there is one root, not twenty complaints about missing temperatures."""
    facts = then(
        part("driver", state="absent", version=None),
        part("devices", kfd_present=False, kfd=None, render=()),
        part("topology", gpus=(), kfd=False, processes=None),
    )(well())
    severe = {finding.id for finding in check(facts, NEEDS)}
    assert {"amdgpu_state", "kfd_present", "gpu_count"} <= severe
    assert not severe & {"temperature", "vram_free", "kfd_permission", "gpu_model", "bad_pages", "ras_uncorrectable"}


def test_an_accepted_finding_keeps_its_reason_and_no_longer_counts() -> None:
    needs = replace(NEEDS, accept={"selinux": "container_use_devices is on", "gpu_count": "card 3 is at the maker's"})
    findings = check(then(part("tuning", selinux="enforcing"), fewer(7))(well()), needs)
    reasons = {finding.id: finding.accepted for finding in findings}
    assert reasons["selinux"] == "container_use_devices is on"
    assert reasons["gpu_count"] == "card 3 is at the maker's"
    rest = [finding for finding in findings if not finding.accepted]
    assert verdict([f for f in findings if f.accepted], strict=True)
    assert verdict(findings, strict=True) == (not [f for f in rest if f.severity != "info"])


def test_warnings_count_only_when_strict() -> None:
    findings = check(part("tuning", numa_balancing=1)(well()), NEEDS)
    assert verdict(findings, strict=False)
    assert not verdict(findings, strict=True)


def test_findings_stand_in_the_catalogues_order() -> None:
    ids = [finding.id for finding in check(Facts(), NEEDS)]
    assert ids == [name for name in catalogue() if name in ids]


def test_63_of_64_partitions_warn_and_do_not_fail() -> None:
    seen = found(cpx63(well()), replace(NEEDS, gpus=Gpus("MI300X", 64)))
    assert "gpu_count" not in seen
    assert seen["gpu_count_cpx63"].severity == "warn"


def test_a_foreign_process_is_named_with_its_command_line_and_container() -> None:
    evidence = found(then(containers(THEIRS), process(container=THEIRS.id))(well()), NEEDS)["gpu_foreign"].evidence
    assert "python3 train.py" in evidence
    assert "other-llm" in evidence
    assert "90.0 GiB" in evidence


def test_a_foreign_container_on_our_port_is_named_and_may_be_taken_over() -> None:
    facts = then(containers(THEIRS), listening(container=THEIRS.id))(well())
    evidence = found(facts, NEEDS)["port_free"].evidence
    assert "other-llm" in evidence
    assert "vllm serve x" in evidence
    assert "port_free" not in found(facts, replace(NEEDS, take_over=("other-llm",)))


def test_our_own_service_is_no_stranger_even_where_owners_cannot_be_seen() -> None:
    facts = then(containers(OURS), listening(pid=None, command=None))(well())
    assert "port_free" not in found(facts, NEEDS)


def test_memory_held_by_a_known_process_is_judged_by_who_it_is() -> None:
    facts = then(containers(OURS), process(container=OURS.id), gpu0(vram_used_bytes=91 * GIB))(well())
    assert not {"vram_free", "gpu_foreign"} & set(found(facts, NEEDS))


def test_an_image_that_nobody_knows_yet_is_not_judged() -> None:
    seen = found(well(), replace(NEEDS, image=None))
    assert not seen


OTHERS = {
    "wrong as well": Targets(("gfx950",), "6.2.4", ("b",)),
    "that does not tell": Targets((), "", ("b",)),
    "that fits": Targets(("gfx942",), "7.2", ("b",)),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("first", [True, False])
def test_each_image_of_a_host_is_judged_by_itself(other: str, first: bool) -> None:
    images = (Targets(("gfx90a",), "6.2", ("a",)), OTHERS[other])
    seen = found(well(), replace(NEEDS, image=ImageFacts(images if first else images[::-1])))
    assert seen["image_gfx"].severity == seen["driver_rocm"].severity == "fail"
    assert "a: the host has gfx942, the image was built for gfx90a" in seen["image_gfx"].evidence
    assert ("b: the image does not tell its gfx targets" in seen["image_gfx"].evidence) == ("not tell" in other)


def test_weighing_keeps_what_each_release_was_built_for() -> None:
    def release(gfx: str, rocm: str) -> Release:
        digest = f"sha256:{gfx[3:].ljust(64, '0')}"
        return Release("v", digest, digest, (), (), (), "prebuilt", gfx=(gfx,), rocm=rocm)

    old, new = release("gfx90a", "6.4"), release("gfx942", "7.0")
    told = weight({"a": old, "b": new, "c": old}, ())
    assert told is not None
    assert told.targets == (Targets(("gfx90a",), "6.4", ("a", "c")), Targets(("gfx942",), "7.0", ("b",)))


def test_room_is_added_up_where_two_places_share_a_disk() -> None:
    facts = then(space("root", free_bytes=50 * GIB, device=5), space("staging", free_bytes=50 * GIB, device=5))(well())
    assert "space_image" not in found(facts, NEEDS)
    evidence = found(facts, SIDELOAD)["space_image"].evidence
    assert "57.0 GiB needed" in evidence  # 10 staged, 10 + 32 in the engine, 5 kept free


def test_what_is_staged_already_needs_no_room_again() -> None:
    facts = then(space("root", free_bytes=50 * GIB, device=5), space("staging", free_bytes=50 * GIB, device=5))(well())
    assert SIDELOAD.image
    resumed = replace(SIDELOAD, image=replace(SIDELOAD.image, staged_bytes=9 * GIB))
    assert "space_image" not in found(facts, resumed)


def test_a_place_that_is_its_own_disk_counts_alone() -> None:
    facts = then(space("root", free_bytes=50 * GIB, device=5), space("staging", free_bytes=16 * GIB, device=6))(well())
    assert "space_image" not in found(facts, SIDELOAD)


def test_mi250_has_no_partition_modes_to_complain_about() -> None:
    facts = parse((RECORD.parent / "live-mi250x4-sudo.txt").read_text("utf-8"))
    assert not {"partition_uniform", "pci_realloc"} & set(found(facts, replace(NEEDS, gpus=Gpus("MI250", 8))))


def test_a_space_is_measured_even_where_the_directory_is_missing() -> None:
    assert isinstance(well().space["staging"], Space)


def test_a_bastion_is_not_blamed_for_having_no_gpus() -> None:
    facts = then(part("driver", state="absent"), part("topology", gpus=(), pci=(), kfd=False))(well())
    assert set(found(part("docker", state="no-cli")(facts), BARE)) == {"no_role"}


def test_a_builder_needs_its_engine_and_no_gpus() -> None:
    facts = parse((RECORD.parent / "live-builder.txt").read_text("utf-8"))
    builder = replace(BARE, builds=True, epoch=facts.system.epoch_s)
    assert not found(facts, builder)
    assert set(found(part("docker", state="stopped")(facts), builder)) == {"docker_running"}


def test_gpus_that_nobody_declared_are_judged_all_the_same() -> None:
    assert "numa_balancing" in found(part("tuning", numa_balancing=1)(well()), BARE)


def test_logs_of_another_driver_or_by_flags_of_dockerd_are_left_to_it() -> None:
    for config in (EngineConfig(log_driver="local"), EngineConfig(flags=("--log-opt",))):
        assert CHECKS["docker_logs"](part("docker", config=config)(well()), NEEDS) is None
    elsewhere = part("docker", config=EngineConfig(flags=("--config-file",)))(well())
    assert isinstance(CHECKS["docker_logs"](elsewhere, NEEDS), Blind)


def test_a_login_in_the_devices_groups_and_root_need_nothing() -> None:
    for user in (User("root", 0, ("root",), "ops", ("ops", "render")), User("root", 0), User("root", 0, (), "root")):
        assert CHECKS["user_groups"](whole(user=user)(well()), NEEDS) is None


def test_a_registry_with_its_ca_in_place_is_well() -> None:
    placed = part("docker", config=EngineConfig(cas=("registry:5000",)))(well())
    assert CHECKS["registry_ca"](placed, replace(NEEDS, registries=("registry:5000",))) is None


@pytest.mark.parametrize(
    "registry", ["registry:5000", "10.1.2.3:5000", "127.0.0.1:5000", "localhost:5000", "[::1]:5000"]
)
def test_an_engine_that_is_told_of_a_registry_without_tls_pulls_from_it(registry: str) -> None:
    told = part("docker", insecure=("registry:5000", "10.0.0.0/8", "127.0.0.0/8", "::1/128"))(well())
    assert CHECKS["registry_insecure"](told, replace(NEEDS, insecure=(registry,))) is None


def test_the_fix_for_a_registry_without_tls_has_the_lines_for_the_engine() -> None:
    asked = replace(NEEDS, insecure=("registry:5000",))
    finding = found(well(), asked)["registry_insecure"]
    assert '{"insecure-registries": ["registry:5000"]} in /etc/docker/daemon.json' in finding.fix
    there = replace(asked, image=ImageFacts((Targets(("gfx942",), "7.2"),)))
    assert "registry_insecure" not in found(well(), there)


def test_weights_are_measured_against_what_the_replicas_own_gpus_give() -> None:
    evidence = found(well(), service(gpus=2))["model_vram"].evidence
    assert "600.0 GiB" in evidence
    assert "2 x 192.0 GiB" in evidence
    assert "345" in evidence  # 2 x 192 GiB x 0.9
    assert "model_vram" not in found(well(), service(gpus=2, resized=True))
    assert "model_vram" not in found(model(dtype="float32")(well()), service(gpus=2))  # halved while loading


def test_a_missing_model_is_told_with_what_is_known_of_it() -> None:
    facts = then(model(weights=False, index_bytes=140 * GIB, weights_bytes=0))(well())
    evidence = found(facts, NEEDS)["model_present"].evidence
    assert "140.0 GiB" in evidence
    assert "900.0 GiB free" in evidence


def test_an_incomplete_model_is_told_by_the_names_of_its_missing_files() -> None:
    evidence = found(model(missing=("model-00002-of-00003.safetensors",))(well()), NEEDS)["model_complete"].evidence
    assert "model-00002-of-00003.safetensors" in evidence


def test_an_open_api_is_told_with_what_the_firewall_does() -> None:
    assert "lets everybody in" in found(well(), OPEN)["api_exposed"].evidence
    unknown = found(whole(firewall=Firewall(("nft",), None))(well()), OPEN)
    assert "could not be read" in unknown["api_exposed"].evidence
    limited = replace(SHUT, rules=("ip saddr 10.0.0.0/8 tcp dport 8000 accept",))
    assert not {"api_exposed", "port_blocked"} & set(found(filtered(limited)(well()), OPEN))


def test_a_topology_that_refuses_to_be_listed_is_not_taken_for_a_host_without_gpus() -> None:
    facts = part("topology", gpus=(), nodes=None, kfd=True)(well())
    finding = found(facts, NEEDS)["gpu_count"]
    assert (finding.severity, finding.evidence) == ("fail", "could not be read: the KFD topology")
