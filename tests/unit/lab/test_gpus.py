"""The pretended GPUs have the shape of the real dumps in tests/data/kfd."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import UsageError
from fleet.lab import gpu_model, gpus

KFD = "/sys/class/kfd/kfd/topology"
DUMPS = Path(__file__).parents[2] / "data" / "kfd"
GPU_PROFILES = tuple(name for name in gpus.PROFILES if name != "none")


def keys(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()]


def properties(tree: gpus.Tree, node: int) -> dict[str, int]:
    lines = tree.files[f"{KFD}/nodes/{node}/properties"].splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def nodes(tree: gpus.Tree) -> dict[int, dict[str, int]]:
    numbers = {int(found[1]) for path in tree.files if (found := re.match(rf"{KFD}/nodes/(\d+)/", path))}
    return {number: properties(tree, number) for number in sorted(numbers)}


def gpu_nodes(tree: gpus.Tree) -> list[dict[str, int]]:
    return [node for node in nodes(tree).values() if node["gfx_target_version"]]


@pytest.mark.parametrize("profile", GPU_PROFILES)
@pytest.mark.parametrize("dump", ["mi210x8-xgmi-pcie", "mi300x8-cpx", "mi300x-x8-spx-semisynthetic"])
def test_properties_have_the_keys_of_a_real_dump_in_its_order(profile: str, dump: str) -> None:
    tree = gpus.tree(profile, "n1")
    real = DUMPS / dump / KFD.lstrip("/") / "nodes"
    for node in ("0", "2"):
        ours = tree.files[f"{KFD}/nodes/{node}/properties"]
        assert keys(ours) == keys((real / node / "properties").read_text())


@pytest.mark.parametrize("profile", GPU_PROFILES)
@pytest.mark.parametrize("kind", ["io_links", "p2p_links"])
def test_links_have_the_keys_of_a_real_dump(profile: str, kind: str) -> None:
    tree = gpus.tree(profile, "n1")
    real = (DUMPS / "mi210x8-xgmi-pcie" / KFD.lstrip("/") / "nodes/2" / kind / "0/properties").read_text()
    assert keys(tree.files[f"{KFD}/nodes/2/{kind}/0/properties"]) == keys(real)


def test_the_cpx_profile_agrees_with_the_real_dump_where_hardware_decides() -> None:
    tree = gpus.tree("mi300x-8-cpx-63", "n1")
    real = DUMPS / "mi300x8-cpx" / KFD.lstrip("/") / "nodes"
    decided = (
        "simd_count",
        "array_count",
        "num_xcc",
        "gfx_target_version",
        "device_id",
        "location_id",
        "drm_render_minor",
        "io_links_count",
        "p2p_links_count",
        "wave_front_size",
    )
    for number, ours in nodes(tree).items():
        lines = (real / str(number) / "properties").read_text().splitlines()
        theirs = {name: int(value) for name, value in (line.split() for line in lines)}
        assert {key: ours[key] for key in decided if key in ours} == {
            key: theirs[key] for key in decided if key in theirs
        }, number


@pytest.mark.parametrize(
    ("profile", "minors", "units", "vram_gib"),
    [
        ("mi300x-8", list(range(128, 192, 8)), 304, 192),
        ("mi300x-8-cpx", list(range(128, 192)), 38, 24),
        ("mi300x-8-cpx-63", list(range(128, 191)), 38, 24),
        ("mi250-4", list(range(128, 136)), 104, 64),
    ],
)
def test_each_profile_has_its_minors_compute_units_and_vram(
    profile: str, minors: list[int], units: int, vram_gib: int
) -> None:
    tree = gpus.tree(profile, "n1")
    assert [node["drm_render_minor"] for node in gpu_nodes(tree)] == minors
    assert {node["simd_count"] // node["simd_per_cu"] for node in gpu_nodes(tree)} == {units}
    bank = tree.files[f"{KFD}/nodes/2/mem_banks/0/properties"]
    assert keys(bank) == ["heap_type", "size_in_bytes", "flags", "width", "mem_clk_max"]
    assert round(int(bank.splitlines()[1].split()[1]) / 2**30) == vram_gib


@pytest.mark.parametrize("profile", GPU_PROFILES)
def test_every_gpu_node_has_its_device_and_its_drm_entry(profile: str) -> None:
    tree = gpus.tree(profile, "n1")
    devices = {device.path for device in tree.devices}
    assert "/dev/kfd" in devices
    for node in gpu_nodes(tree):
        minor = node["drm_render_minor"]
        assert f"/dev/dri/renderD{minor}" in devices
        assert f"/sys/class/drm/renderD{minor}/device/uevent" in tree.files


@pytest.mark.parametrize("profile", GPU_PROFILES)
def test_link_counts_match_the_links(profile: str) -> None:
    tree = gpus.tree(profile, "n1")
    links = (re.match(rf"{KFD}/nodes/(\d+)/(io_links|p2p_links)/.*[^/]$", path) for path in tree.files)
    found = Counter((int(link[1]), link[2]) for link in links if link)
    for number, node in nodes(tree).items():
        for kind in ("io_links", "p2p_links"):
            assert found[number, kind] == node[f"{kind}_count"]


def test_partitions_of_a_card_share_its_unique_id_and_differ_in_location() -> None:
    found = gpu_nodes(gpus.tree("mi300x-8-cpx", "n1"))
    assert len({node["unique_id"] for node in found}) == 8
    assert len({(node["unique_id"], node["location_id"]) for node in found}) == 64


def test_only_a_cards_first_partition_has_pci_files() -> None:
    tree = gpus.tree("mi300x-8-cpx", "n1")
    assert "/sys/class/drm/renderD128/device/mem_info_vram_used" in tree.files
    assert "/sys/class/drm/renderD129/device/mem_info_vram_used" not in tree.files


def test_card0_can_be_the_bmc() -> None:
    tree = gpus.tree("mi300x-8", "n1")
    assert tree.files["/sys/class/drm/card0/device/vendor"] == "0x1a03\n"
    assert "/sys/class/drm/card0/device/mem_info_vram_used" not in tree.files
    assert "/dev/dri/card0" in {device.path for device in tree.devices}


def test_the_drm_unique_id_is_the_kfd_one_in_hex() -> None:
    tree = gpus.tree("mi250-4", "n1")
    for node in gpu_nodes(tree):
        text = tree.files[f"/sys/class/drm/renderD{node['drm_render_minor']}/device/unique_id"]
        assert int(text, 16) == node["unique_id"]


def test_a_node_keeps_its_identities_and_differs_from_its_neighbour() -> None:
    assert gpus.tree("mi300x-8", "n1") == gpus.tree("mi300x-8", "n1")
    first, second = (gpu_nodes(gpus.tree("mi300x-8", name)) for name in ("n1", "n2"))
    assert {node["unique_id"] for node in first}.isdisjoint(node["unique_id"] for node in second)


def test_gpu_ids_are_distinct_and_never_zero() -> None:
    for profile in GPU_PROFILES:
        tree = gpus.tree(profile, "n1")
        ids = [tree.files[f"{KFD}/nodes/{number}/gpu_id"] for number in nodes(tree) if number >= 2]
        assert len(set(ids)) == len(ids)
        assert "0\n" not in ids


def test_no_gpus_means_no_kfd_and_no_driver() -> None:
    tree = gpus.tree("none", "n1")
    assert not tree.under("/sys/class/kfd")
    assert not tree.under("/sys/module/amdgpu")
    assert tree.devices == ()


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="mi250-4"):
        gpus.tree("mi999", "n1")


def test_a_lost_gpu_shifts_the_rest_down() -> None:
    after = gpus.render(gpu_model.without_one_gpu(gpus.machine("mi300x-8", "n1")))
    assert len(gpu_nodes(after)) == 7
    assert gpu_nodes(after)[-1]["drm_render_minor"] == 176


def test_other_gpus_have_another_gfx() -> None:
    for profile, version in (("mi300x-8", 90010), ("mi250-4", 90008)):
        after = gpus.render(gpu_model.with_other_gpus(gpus.machine(profile, "n1")))
        assert {node["gfx_target_version"] for node in gpu_nodes(after)} == {version}


def test_without_the_driver_nothing_of_it_is_left() -> None:
    after = gpus.render(gpu_model.without_driver(gpus.machine("mi300x-8", "n1")))
    assert not after.under("/sys/module/amdgpu")
    assert not after.under("/sys/class/kfd")
    assert [device.path for device in after.devices] == ["/dev/dri/card0"]


def test_the_driver_in_the_kernel_tree_has_no_version() -> None:
    after = gpus.render(gpu_model.with_driver_in_tree(gpus.machine("mi300x-8", "n1")))
    assert "/sys/module/amdgpu/version" not in after.files
    assert after.files["/sys/module/amdgpu/initstate"] == "live\n"


def test_other_partitions_turn_spx_into_cpx_and_back() -> None:
    before = gpus.machine("mi300x-8", "n1")
    split = gpu_model.with_other_partition(before)
    assert len(gpu_nodes(gpus.render(split))) == 64
    assert gpu_model.with_other_partition(split) == before
    with pytest.raises(UsageError, match="cannot be partitioned"):
        gpu_model.with_other_partition(gpus.machine("mi250-4", "n1"))


def test_written_files_turn_into_another_tree_and_back(tmp_path: Path) -> None:
    before = gpus.Tree(gpus.tree("mi300x-8", "n1").files)
    faulty = gpu_model.without_driver(gpus.machine("mi300x-8", "n1"))
    after = gpus.Tree(gpus.render(replace(faulty, numa_balancing=True)).files)
    gpus.write(before.files, tmp_path)
    start = snapshot(tmp_path)
    gpus.apply(before, after, tmp_path)
    assert not (tmp_path / "sys/module/amdgpu").exists()
    assert (tmp_path / "proc/sys/kernel/numa_balancing").read_text() == "1\n"
    gpus.apply(after, before, tmp_path)
    assert snapshot(tmp_path) == start


def test_applying_keeps_what_the_accountant_counted(tmp_path: Path) -> None:
    tree = gpus.Tree(gpus.tree("mi250-4", "n1").files)
    gpus.write(tree.files, tmp_path)
    used = tmp_path / "sys/class/drm/renderD128/device/mem_info_vram_used"
    used.write_text("12345\n")
    gpus.apply(tree, tree, tmp_path)
    assert used.read_text() == "12345\n"


def snapshot(root: Path) -> dict[str, str]:
    return {str(path): path.read_text() if path.is_file() else "" for path in sorted(root.rglob("*"))}
