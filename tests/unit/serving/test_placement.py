from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.serving.command import serve_arguments
from fleet.serving.placement import Gpu, place
from tests.unit.serving.make import gpus, service


@pytest.mark.parametrize(
    ("heads", "count", "size", "said"),
    [
        (64, 8, 8, ""),
        (32, 8, 8, ""),
        (12, 8, 6, "tensor-parallel-size 6 (12 attention heads) leaves 2 GPUs of 8 unused"),
        (28, 8, 7, "leaves 1 GPU of 8 unused"),
        (40, 3, 2, "leaves 1 GPU of 3 unused"),
        (25, 8, 5, "leaves 3 GPUs of 8 unused"),
        (None, 8, 8, "attention heads unknown, tensor-parallel-size 8 is the largest power of two"),
        (None, 6, 4, "attention heads unknown, tensor-parallel-size 4 is the largest power of two"),
        (7, 1, 1, ""),
    ],
)
def test_auto_is_the_largest_size_that_divides_the_heads(heads: int | None, count: int, size: int, said: str) -> None:
    one = service()
    placement = place([one], gpus(count), {one.model: heads} if heads else {})
    assert placement.replicas[0].tensor_parallel == size
    assert said in " ".join(placement.notes)
    assert bool(said) == bool(placement.notes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tensor_parallel_size": 16}, "chat-0: tensor-parallel-size 16 needs 16 GPUs, the replica has 8"),
        ({"tensor_parallel_size": 3}, "chat-0: tensor-parallel-size 3 does not divide the model's 32 attention heads"),
        ({"tensor_parallel_size": 2, "args": {"tensor-parallel-size": 4}}, "set twice"),
        (
            {"args": {"tensor-parallel-size": "many"}},
            "tensor-parallel-size 'many' is neither a number above 0 nor auto",
        ),
        ({"args": {"pipeline-parallel-size": 16}}, "pipeline and data parallel need 16 GPUs, the replica has 8"),
        ({"nodes": 2}, "chat: one model over 2 nodes is planned, not there yet"),
        ({"gpus": 9}, "not enough GPUs: chat 1 x 9 need at least 9, the host has 8"),
        ({"replicas": 9}, "not enough GPUs: chat 9 x an even share need at least 9, the host has 8"),
    ],
)
def test_what_cannot_be_placed_is_refused_in_words(changes: dict[str, Any], problem: str) -> None:
    one = service(**changes)
    placement = place([one], gpus(8), {one.model: 32})
    assert any(problem in found for found in placement.problems), placement.problems


def test_other_parallel_sizes_leave_less_for_tensor_parallel() -> None:
    one = service(args={"data_parallel_size": 2, "pipeline-parallel-size": 2})
    assert place([one], gpus(8), {one.model: 32}).replicas[0].tensor_parallel == 2


def test_a_tensor_parallel_size_among_the_arguments_is_honoured() -> None:
    one = service(args={"tensor-parallel-size": 4})
    placement = place([one], gpus(8), {one.model: 32})
    assert placement.replicas[0].tensor_parallel == 4
    assert placement.notes == ("chat-0: tensor-parallel-size 4 leaves 4 GPUs of 8 unused",)


@pytest.mark.parametrize("flag", ["tensor-parallel-size", "tensor_parallel_size"])
def test_auto_among_the_arguments_is_the_settings_auto(flag: str) -> None:
    one = service(args={flag: "auto", "max-model-len": 4096})
    (replica,) = place([one], gpus(8), {one.model: 32}).replicas
    assert replica.tensor_parallel == 8
    words = serve_arguments(one, replica)
    assert words[words.index("--tensor-parallel-size") + 1] == "8"
    assert "auto" not in words


def test_replicas_share_evenly_and_ports_count_up() -> None:
    placement = place([service(replicas=4)], gpus(8))
    assert [(r.name, r.port, [g.index for g in r.gpus]) for r in placement.replicas] == [
        ("chat-0", 8000, [0, 1]),
        ("chat-1", 8001, [2, 3]),
        ("chat-2", 8002, [4, 5]),
        ("chat-3", 8003, [6, 7]),
    ]
    assert not any(replica.whole_host for replica in placement.replicas)


def test_a_service_without_a_count_gets_what_the_others_leave() -> None:
    placement = place([service("small", gpus=2, port=9000), service("big")], gpus(8))
    assert [(r.name, len(r.gpus)) for r in placement.replicas] == [("small-0", 2), ("big-0", 6)]


def test_unused_gpus_are_said_by_index() -> None:
    placement = place([service(gpus=6)], gpus(8), {"Llama-3.1-8B": 6})
    assert placement.notes == ("2 GPUs of 8 left unused: index 6, 7",)
    placement = place([service(gpus=5)], gpus(64), {"Llama-3.1-8B": 5})
    assert placement.notes == ("59 GPUs of 64 left unused: index 5 to 63",)


def test_neighbours_of_one_numa_node_come_first() -> None:
    mixed = tuple(Gpu(n, "gfx942", 128 + n, "hive", n % 2) for n in range(4))
    placement = place([service(replicas=2)], mixed)
    assert [[gpu.index for gpu in replica.gpus] for replica in placement.replicas] == [[0, 2], [1, 3]]


def test_two_services_on_one_port_and_gpus_of_two_kinds_are_problems() -> None:
    placement = place([service("a", gpus=1), service("b", gpus=1)], gpus(2))
    assert placement.problems == ("port 8000 is wanted by a-0 and b-0: move the port of one service",)
    two_kinds = (*gpus(1), Gpu(1, "gfx90a", 200))
    assert "different kinds (gfx90a, gfx942)" in place([service()], two_kinds).problems[0]


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=4),
    st.integers(0, 64),
)
def test_no_gpu_is_ever_in_two_replicas(wanted: list[tuple[int, int]], count: int) -> None:
    services = [
        service(f"s{n}", replicas=replicas, gpus=each, port=8000 + 100 * n) for n, (replicas, each) in enumerate(wanted)
    ]
    placement = place(services, gpus(count) if count else ())
    given_out = [gpu.index for replica in placement.replicas for gpu in replica.gpus]
    assert len(given_out) == len(set(given_out))
    assert placement.problems or len(placement.replicas) == sum(replicas for replicas, _ in wanted)
