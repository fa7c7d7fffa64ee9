"""The stand-in answers, refuses, fails and ends as vLLM does."""

import json
import signal
from pathlib import Path

import pytest

from fleet.lab.vllm_repo import SOURCE
from fleet.serving.startup import Startup
from fleet.serving.verify import Question, verify
from fleet.signatures import catalogue, match

from .conftest import Run

PARIS = {"model": "m", "prompt": "The capital of France is", "temperature": 0}
FAILURES = json.loads((SOURCE / "tree/vllm/failures.json").read_text())


def test_passes_the_fleets_own_verification(serve: Run) -> None:
    standin = serve("--served-model-name", "m").ready()
    proof = verify("127.0.0.1", standin.port, Question("m"))
    assert proof.answer.startswith(" Paris.")
    assert proof.tokens > 3


def test_its_log_walks_through_all_phases(serve: Run) -> None:
    standin, seen, startup = serve().ready(), [], Startup()
    for line in standin.said.splitlines():
        startup.feed(line)
        if startup.phase not in seen:
            seen.append(startup.phase)
    assert startup.ready
    assert seen[-7:] == [
        "loading weights",
        "weights loaded",
        "compiling kernels",
        "measuring memory",
        "capturing graphs",
        "starting the server",
        "ready",
    ]
    assert not startup.fatal


def test_shows_the_routes_of_vllm(serve: Run) -> None:
    standin = serve("--served-model-name", "m", "alias").ready()
    assert standin.ask("/health") == (200, b"")
    assert standin.ask("/ping", {})[0] == 200
    assert set(standin.json("/version")) == {"version"}
    assert standin.json("/load") == {"server_load": 0}
    assert [one["id"] for one in standin.json("/v1/models")["data"]] == ["m", "alias"]
    assert standin.json("/tokenize", {"model": "m", "prompt": "a b c"})["count"] == 3
    whole = standin.json("/v1/completions", PARIS | {"max_tokens": 2})
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"] == {"prompt_tokens": 5, "total_tokens": 7, "completion_tokens": 2}
    chat = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "max_tokens": 99}
    first, second = (standin.json("/v1/chat/completions", chat)["choices"][0] for _ in range(2))
    assert first == second
    assert first["finish_reason"] == "stop"
    assert b'vllm:generation_tokens_total{engine="0",model_name="m"}' in standin.ask("/metrics")[1]
    assert standin.ask("/nowhere")[0] == 404
    assert standin.ask("/v1/completions")[0] == 405


def test_refuses_what_vllm_refuses(serve: Run) -> None:
    standin = serve("--served-model-name", "m").ready()
    status, body = standin.ask("/v1/completions", PARIS | {"model": "other"})
    assert (status, json.loads(body)["error"]["type"]) == (404, "NotFoundError")
    assert standin.ask("/v1/completions", PARIS | {"max_tokens": 5000})[0] == 400
    assert standin.ask("/v1/embeddings", {"model": "m", "input": "a"})[0] == 400
    assert standin.ask("/v1/completions", [])[0] == 400


@pytest.mark.parametrize(("flags", "environment"), [(("--api-key", "k"), {}), ((), {"VLLM_API_KEY": "k"})])
def test_a_key_guards_v1_alone(serve: Run, flags: tuple[str, ...], environment: dict[str, str]) -> None:
    standin = serve(*flags, **environment).ready()
    assert standin.ask("/v1/models") == (401, b'{"error":"Unauthorized"}')
    assert standin.ask("/v1/models", key="k")[0] == 200
    assert {standin.ask(path)[0] for path in ("/health", "/metrics", "/version", "/load", "/ping")} == {200}


def test_an_old_release_shows_its_key_in_the_log(serve: Run) -> None:
    assert "hunter2" in serve("--api-key", "hunter2", release="v0.10.2").ready().said
    assert "hunter2" not in serve("--api-key", "hunter2", release="v0.12.0").ready().said


def test_flags_differ_between_releases(serve: Run) -> None:
    serve("--swap-space", "4", "--max_model_len=2k", release="v0.11.0").ready()
    refused = serve("--swap-space", "4", release="v0.12.0")
    assert refused.ended() == 2
    assert "vllm serve: error: unrecognized arguments: --swap-space 4" in refused.said
    assert [one.id for one in match(refused.said, "container")] == ["bad_cli_argument"]


def test_stops_gracefully(serve: Run) -> None:
    standin = serve().ready()
    standin.process.terminate()
    assert standin.ended() == 0
    assert "Application shutdown complete." in standin.said


def test_a_hanging_start_still_obeys_sigterm(serve: Run) -> None:
    standin = serve(STANDIN_HANG="weights")
    standin.until(" 50% Completed")
    standin.process.send_signal(signal.SIGTERM)
    assert standin.ended() == 143
    assert "100% Completed" not in standin.said


def test_holds_the_devices_of_its_gpus(serve: Run) -> None:
    standin = serve("--tensor-parallel-size", "2", HIP_VISIBLE_DEVICES="1,3").ready()
    held = {path.readlink().name for path in Path(f"/proc/{standin.process.pid}/fd").iterdir()}
    assert {"kfd", "renderD136", "renderD152"} <= held
    assert not {"renderD128", "renderD144"} & held


def test_misses_devices_as_rocm_does(serve: Run, dev: Path) -> None:
    many = serve("--tensor-parallel-size", "8")
    assert many.ended() == 1
    assert "invalid_device_ordinal" in {one.id for one in match(many.said, "container")}
    (dev / "kfd").unlink()
    none = serve()
    assert none.ended() == 1
    assert "no_hip_gpus" in {one.id for one in match(none.said, "container")}


def test_a_taken_port_ends_the_start(serve: Run) -> None:
    first = serve().ready()
    second = serve("--port", str(first.port))
    assert second.ended() == 1
    assert match(second.said, "container")[0].id == "port_in_use"


def test_refuses_models_in_the_words_of_vllm(serve: Run, model: Path) -> None:
    odd = serve("--tensor-parallel-size", "3")
    assert odd.ended() == 1
    assert "attention heads (32) must be divisible by tensor parallel size (3)" in odd.said
    absent = serve(tag="meta-llama/Llama-3.1-8B")
    assert absent.ended() == 1
    assert match(absent.said, "container")[0].id == "hf_offline"
    long = serve("--max-model-len", "8192")
    assert long.ended() == 1
    assert "greater than the derived max_model_len" in long.said
    (model / "config.json").unlink()
    assert serve().ended() == 1


def test_a_file_beside_the_model_sets_its_behaviour(serve: Run, model: Path) -> None:
    (model / "standin.json").write_text(json.dumps({"garbage": True, "wrong_model": "other", "slow_tokens": 0.001}))
    standin = serve("--served-model-name", "m").ready()
    assert [one["id"] for one in standin.json("/v1/models")["data"]] == ["other"]
    answer = standin.json("/v1/completions", {"prompt": "x", "max_tokens": 8})
    assert answer["choices"][0]["text"] == "!" * 8


@pytest.mark.parametrize("task", ["embed", "score", "classify"])
def test_serves_other_tasks(serve: Run, task: str) -> None:
    standin = serve("--served-model-name", "m", STANDIN_TASK=task).ready()
    assert verify("127.0.0.1", standin.port, Question("m", task=task)).task == task


@pytest.mark.parametrize("identity", sorted(FAILURES))
def test_every_failure_shows_its_signature(identity: str) -> None:
    found = match("\n".join(FAILURES[identity]["lines"]), "container")
    # The umbrella has no line of its own: the process that waited for the engine says it.
    assert identity in [one.id for one in found] or identity == "engine_core_failed"


def test_there_is_a_failure_for_every_signature_of_a_container() -> None:
    assert {one.id for one in catalogue() if one.where == "container"} == set(FAILURES)


@pytest.mark.parametrize(
    ("identity", "code"), [("not_enough_free_vram", 1), ("memory_access_fault", 134), ("device_type_not_inferred", 1)]
)
def test_a_failed_start_ends_as_the_real_one(serve: Run, identity: str, code: int) -> None:
    standin = serve(STANDIN_FAIL=identity)
    assert standin.ended() == code
    assert identity in {one.id for one in match(standin.said, "container")}


def test_a_warning_does_not_stop_it(serve: Run) -> None:
    assert "iommu=pt" in serve(STANDIN_FAIL="rccl_iommu_warning").ready().said


@pytest.mark.parametrize(("name", "value"), [("STANDIN_FAIL", "nothing"), ("STANDIN_HANG", "lunch")])
def test_a_setting_that_does_not_exist_is_said(serve: Run, name: str, value: str) -> None:
    standin = serve(**{name: value})
    assert standin.ended() == 1
    assert f"ValueError: {name}={value}: there are " in standin.said
