"""GPUs out of recorded answers of the probe: real dumps, and the odd machines that the field has."""

from pathlib import Path

import pytest

from fleet.facts import Facts, parse
from fleet.facts.cards import gfx_of_model, gfx_of_version, mode_of, model_of

RECORDS = Path(__file__).parents[2] / "data/probe"


def facts_of(name: str) -> Facts:
    return parse((RECORDS / f"{name}.txt").read_text("utf-8"))


@pytest.mark.parametrize(
    ("record", "count", "model", "gfx", "cus", "minors"),
    [
        ("mi210x8-xgmi-pcie", 8, "MI210", "gfx90a", 104, list(range(128, 136))),
        ("mi300x-x8-spx-semisynthetic", 8, "MI300X", "gfx942", 304, list(range(128, 192, 8))),
        ("mi300x8-cpx", 63, "MI300X", "gfx942", 38, list(range(128, 191))),
        ("mi250x4-synthetic", 8, "MI250", "gfx90a", 104, list(range(128, 136))),
        ("live-mi300x8", 8, "MI300X", "gfx942", 304, list(range(128, 192, 8))),
        ("live-mi250x4-sudo", 8, "MI250", "gfx90a", 104, None),
    ],
)
def test_every_dump_gives_its_gpus(
    record: str, count: int, model: str, gfx: str, cus: int, minors: list[int] | None
) -> None:
    gpus = facts_of(record).gpus
    assert len(gpus) == count
    assert {(gpu.model, gpu.gfx, gpu.cus) for gpu in gpus} == {(model, gfx, cus)}
    assert [gpu.index for gpu in gpus] == list(range(count))
    assert [gpu.node for gpu in gpus] == sorted(gpu.node for gpu in gpus)
    if minors is not None:
        assert [gpu.render_minor for gpu in gpus] == minors


def test_hives_and_links_of_the_mi210_dump_are_two_groups_of_four() -> None:
    gpus = facts_of("mi210x8-xgmi-pcie").gpus
    hives = {gpu.hive for gpu in gpus}
    assert len(hives) == 2
    for gpu in gpus:
        mates = {other.node for other in gpus if other.hive == gpu.hive and other is not gpu}
        assert {link.to_node for link in gpu.links or () if link.kind == "xgmi"} == mates
        assert {link.bandwidth_mbps for link in gpu.links or () if link.kind == "xgmi"} == {50000}


def test_a_dump_without_links_or_memory_says_so_with_none() -> None:
    gpu = facts_of("mi300x8-cpx").gpus[0]
    assert (gpu.links, gpu.vram_bytes, gpu.vram_used_bytes, gpu.ras, gpu.bad_pages) == (None,) * 5


def test_partitions_of_one_card_share_its_identity_and_differ_in_place() -> None:
    gpus = facts_of("mi300x8-cpx").gpus
    assert len({gpu.card for gpu in gpus}) == 8
    assert len({(gpu.unique_id, gpu.bdf) for gpu in gpus}) == 63
    assert {gpu.compute_partition for gpu in gpus} == {"CPX"}


def test_cards_are_found_by_place_and_never_by_number() -> None:
    """The tree has a BMC as card0, so GPU 0 is card1."""
    gpus = facts_of("mi250x4-synthetic").gpus
    assert [gpu.drm for gpu in gpus] == [f"card{number}" for number in range(1, 9)]
    assert {gpu.vram_bytes for gpu in gpus} == {68702699520}
    assert {gpu.vram_used_bytes for gpu in gpus} == {10960896}
    assert {gpu.bad_pages for gpu in gpus} == {0}
    assert {gpu.numa_node for gpu in gpus} == {0, 1}
    assert {(gpu.pcie_speed, gpu.pcie_width, gpu.temperature_c) for gpu in gpus} == {(16.0, 16, 41.0)}


def test_an_old_kernel_leaves_fields_none_and_still_shows_its_gpu() -> None:
    facts = facts_of("mi100x1-old-kernel-synthetic")
    (gpu,) = facts.gpus
    assert (gpu.model, gpu.gfx, gpu.cus, gpu.bdf) == ("MI100", "gfx908", 120, "0000:03:00.0")
    assert (gpu.unique_id, gpu.hive, gpu.xccs, gpu.compute_partition) == (None,) * 4
    assert gpu.vram_bytes == 34342961152
    assert facts.driver.state == "builtin"
    assert facts.driver.in_tree is True


def test_nodes_that_refuse_to_be_read_are_hidden_and_named() -> None:
    facts = facts_of("eperm-mi210x8")
    assert facts.topology.hidden_nodes == (3, 4)
    assert [gpu.node for gpu in facts.gpus] == [2, 5, 6, 7, 8, 9]
    errors = {entry.path.rpartition("nodes/")[2]: entry.error for entry in facts.unread}
    assert errors["3/properties"] == "EPERM"
    assert errors["4/properties"] == "EIO"


def test_a_partition_without_drm_files_shares_those_of_its_card() -> None:
    text = """T start tree
T nodes
0 1
T node
0/properties:simd_count 152
0/properties:simd_per_cu 4
0/properties:gfx_target_version 90402
0/properties:device_id 29857
0/properties:location_id 1280
0/properties:drm_render_minor 128
0/properties:unique_id 7
1/properties:simd_count 152
1/properties:simd_per_cu 4
1/properties:gfx_target_version 90402
1/properties:device_id 29857
1/properties:location_id 1281
1/properties:drm_render_minor 129
1/properties:unique_id 7
T drm_map
T drm
renderD128/device/uevent:DRIVER=amdgpu
renderD128/device/uevent:PCI_SLOT_NAME=0000:05:00.0
renderD128/device/mem_info_vram_used:12
renderD128/device/current_memory_partition:NPS4
renderD129/device/uevent:MODALIAS=platform:amdgpu_xcp
T end
"""
    first, second = parse(text).gpus
    assert (first.drm, first.drm_shared) == ("renderD128", False)
    assert (second.drm, second.drm_shared) == ("renderD128", True)
    assert second.vram_used_bytes == 12
    assert second.memory_partition == "NPS4"


def card(node: int, function: int = 0, more: str = "") -> str:
    """KFD's words of a GPU, as kernels say them that know nothing of render nodes and memory banks."""
    place = f"{node}/properties:location_id {1280 + function}\n{node}/properties:unique_id 7\n"
    return f"{node}/properties:simd_count 152\n{node}/properties:device_id 29857\n{place}{more}"


DEVICE = """T drm_map
card1 renderD128
T drm
card1/device/uevent:PCI_SLOT_NAME=0000:05:00.0
card1/device/vendor:0x1002
card1/device/mem_info_vram_total:206141652992
T end
"""


def test_a_render_node_that_kfd_does_not_tell_is_that_of_the_card_in_its_place() -> None:
    (gpu,) = parse(f"T start tree\nT nodes\n0\nT node\n{card(0)}{DEVICE}").gpus
    assert (gpu.drm, gpu.render_minor, gpu.vram_bytes) == ("card1", 128, 206141652992)


def test_partitions_without_memory_banks_do_not_each_have_the_whole_cards_memory() -> None:
    """Which part of it is whose depends on the memory mode, so none is guessed; nor is the card's render node given twice."""
    for functions in ((0, 1), (0, 0)):  # where kernels tell partitions apart, and where they do not
        nodes = "".join(card(number, function) for number, function in enumerate(functions))
        first, second = parse(f"T start tree\nT nodes\n0 1\nT node\n{nodes}{DEVICE}").gpus
        assert (first.vram_bytes, second.vram_bytes) == (None, None)
        assert (first.render_minor, second.render_minor) == (None, None)
        assert first.drm_shared is False


def test_memory_banks_are_believed_for_partitions() -> None:
    bank = "0/mem_banks/0/properties:heap_type 1\n0/mem_banks/0/properties:size_in_bytes 25769803776\n"
    first, second = parse(f"T start tree\nT nodes\n0 1\nT node\n{card(0, 0, bank)}{card(1, 1)}{DEVICE}").gpus
    assert (first.vram_bytes, second.vram_bytes) == (25769803776, None)


def test_firmware_is_what_the_driver_loaded_with_the_vbios_and_null_where_it_shows_none() -> None:
    shown = (
        "card1/device/fw_version/smc_fw_version:0x00557300\n"
        "card1/device/fw_version/ta_xgmi_fw_version:0x20000014\n"
        "card1/device/fw_version/ce_fw_version:0x00000000\n"
        "card1/device/vbios_version:113-M3000100-102\n"
    )
    (gpu,) = parse(f"T start tree\nT nodes\n0\nT node\n{card(0)}{DEVICE.replace('T end', shown + 'T end')}").gpus
    assert gpu.firmware == {"smc": "0x00557300", "ta_xgmi": "0x20000014", "vbios": "113-M3000100-102"}
    (gpu,) = parse(f"T start tree\nT nodes\n0\nT node\n{card(0)}{DEVICE}").gpus
    assert gpu.firmware is None


def test_error_counters_that_are_inaccessible_are_left_out() -> None:
    text = """T start tree
T nodes
0
T node
0/properties:simd_count 8
0/properties:drm_render_minor 128
T drm_map
pages renderD128
T drm
renderD128/device/vendor:0x1002
renderD128/device/mem_info_vram_total:99
renderD128/device/ras/umc_err_count:ue: 2
renderD128/device/ras/umc_err_count:ce: 5
renderD128/device/ras/gfx_err_count:Query currently inaccessible
renderD128/device/ras/gpu_vram_bad_pages:0x00000001 : 0x00001000 : R
renderD128/device/ras/gpu_vram_bad_pages:0x00000002 : 0x00001000 : P
T end
"""
    (gpu,) = parse(text).gpus
    assert gpu.ras == {"umc": {"ue": 2, "ce": 5}}
    assert gpu.bad_pages == 2
    assert gpu.vram_bytes == 99


@pytest.mark.parametrize(
    ("version", "gfx"), [(90402, "gfx942"), (90010, "gfx90a"), (90500, "gfx950"), (90008, "gfx908"), (0, None)]
)
def test_target_versions_decode(version: int, gfx: str | None) -> None:
    assert gfx_of_version(version) == gfx


@pytest.mark.parametrize(
    ("model", "xccs", "mode"),
    [
        ("MI300X", 4, "DPX"),
        ("MI300A", 2, "TPX"),
        ("MI308X", 1, "CPX"),
        ("MI350X", 8, "SPX"),
        ("MI355X", 2, "QPX"),
        ("MI210", 1, None),
    ],
)
def test_the_mode_of_a_card_is_told_by_its_compute_dies(model: str, xccs: int, mode: str | None) -> None:
    assert mode_of(model, xccs) == mode


def test_cards_are_known_by_id_and_by_compute_units() -> None:
    assert model_of(0x740C, 104) == "MI250"
    assert model_of(0x740C, 110) == "MI250X"
    assert model_of(0xFFFF, 1) is None
    assert gfx_of_model("MI250") == "gfx90a"
    assert gfx_of_model("mi300x") == "gfx942"
    assert gfx_of_model("H100") is None
