"""GPUs that keep their memory: which, explained by whom, and what to type."""

from dataclasses import replace

from fleet.facts import Facts, Gpu
from fleet.facts.model import Process, Topology
from fleet.preflight.vram import GIB, dirty, evidence, idle, remedy, summary


def gpu(number: int, used: int | None, **more: object) -> Gpu:
    base = Gpu(
        number,
        number + 2,
        gpu_id=100 + number,
        vram_bytes=192 * GIB,
        vram_used_bytes=used,
        render_minor=128 + 8 * number,
        unique_id=f"{number:016x}",
        bdf=f"0000:{number + 5:02x}:00.0",
        hive="938a",
        drm=f"renderD{128 + 8 * number}",
    )
    return replace(base, **more)  # type: ignore[arg-type]  # fields by name, as the tests give them


def facts(*gpus: Gpu, processes: tuple[Process, ...] = ()) -> Facts:
    return Facts(topology=Topology(kfd=True, gpus=gpus, processes=processes))


def cpx(used: int, *processes: Process) -> Facts:
    """One card in eight partitions, which share its one counter."""
    parts = (
        gpu(0, used if n == 0 else None, index=n, gpu_id=100 + n, vram_bytes=24 * GIB, render_minor=128 + n)
        for n in range(8)
    )
    return facts(*parts, processes=processes)


def test_an_idle_gpu_is_clean_and_only_gpus_that_were_asked_for_count() -> None:
    host = facts(gpu(0, GIB // 2), gpu(1, 170 * GIB))
    assert [one.gpu.render_minor for one in dirty(host)] == [136]
    assert dirty(host, {128}) == ()


def test_evidence_names_render_node_place_unique_id_bytes_baseline_and_holders() -> None:
    host = facts(gpu(0, 170 * GIB), gpu(1, 90 * GIB), processes=(Process(5, None, {101: GIB}),))
    told = evidence(dirty(host))
    assert "renderD128 (0000:05:00.0, unique id 0000000000000000): 170.0 of 192.0 GiB in use" in told
    assert f"at most {idle(192 * GIB) / GIB:.1f} when idle; held by no process that KFD knows" in told
    assert "held by pid 5 (gone)" in told


def test_a_reset_is_said_to_take_the_hive_and_its_gpus_are_named() -> None:
    host = facts(*(gpu(number, 170 * GIB if number == 2 else GIB // 2) for number in range(8)))
    told = remedy(host, dirty(host), "n1")
    assert "every GPU of the XGMI hive" in told
    assert "renderD128, renderD136, renderD144" in told
    assert "renderD184" in told
    assert "sudo amd-smi reset --gpureset -g 0000:07:00.0;" in told
    assert "nothing is reset by itself" in told
    assert "invoke stop --limit n1" in told


def test_without_a_hive_nothing_is_said_of_one() -> None:
    host = facts(gpu(0, 170 * GIB, hive=None))
    assert "hive" not in remedy(host, dirty(host), "n1")


def test_many_gpus_are_told_in_one_line() -> None:
    told = summary(dirty(facts(*(gpu(number, 170 * GIB) for number in range(8)))))
    assert told == "8 GPUs (renderD128 … renderD184) with up to 170.0 of 192.0 GiB in use and no process on them"


def test_what_neighbours_hold_on_other_partitions_of_a_card_is_not_ours() -> None:
    neighbour = Process(9, "vllm", {104: 20 * GIB})
    assert dirty(cpx(21 * GIB, neighbour), {128}) == ()
    (one,) = dirty(cpx(42 * GIB, neighbour), {128})
    assert (one.used, one.total) == (22 * GIB, 24 * GIB)
    assert not one.fits(0.9)


def test_a_neighbour_that_does_not_tell_what_it_holds_is_given_the_benefit_of_the_doubt() -> None:
    assert dirty(cpx(42 * GIB, Process(9, "vllm")), {128}) == ()


def test_fitting_is_judged_as_vllm_does_by_what_is_free_of_the_whole() -> None:
    (one,) = dirty(facts(gpu(0, 92 * GIB)))
    assert one.fits(0.5)
    assert not one.fits(0.6)
