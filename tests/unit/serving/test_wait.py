import pytest

from fleet.errors import HostError
from fleet.serving.startup import Startup
from fleet.serving.wait import Diagnosis, Look, wait_ready

GOOD = """\
(APIServer pid=1) INFO 11-20 10:00:00 [api_server.py:1839] vLLM API server version 0.11.0
(EngineCore_DP0 pid=90) INFO 11-20 10:00:09 [core.py:77] Initializing a V1 LLM engine (v0.11.0) with config: model='m'
(EngineCore_DP0 pid=90) INFO 11-20 10:00:20 [gpu_model_runner.py:2602] Starting to load model /app/models/m...
Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:04<00:04,  2.1s/it]
Loading safetensors checkpoint shards: 100% Completed | 4/4 [00:08<00:00,  2.1s/it]
(EngineCore_DP0 pid=90) INFO 11-20 10:00:40 [default_loader.py:267] Loading weights took 8.61 seconds
(EngineCore_DP0 pid=90) INFO 11-20 10:00:50 [backends.py:559] Dynamo bytecode transform time: 5.27 s
(EngineCore_DP0 pid=90) INFO 11-20 10:01:50 [gpu_worker.py:298] Available KV cache memory: 150.10 GiB
Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  67%|######   | 45/67
(APIServer pid=1) INFO 11-20 10:02:00 [api_server.py:1912] Starting vLLM API server 0 on http://0.0.0.0:8000
(APIServer pid=1) INFO:     Application startup complete.
""".splitlines()
BAD = """\
(EngineCore_DP0 pid=90) INFO 11-20 10:00:20 [gpu_model_runner.py:2602] Starting to load model /app/models/m...
(EngineCore_DP0 pid=90) ERROR 11-20 10:00:30 [core.py:708] EngineCore failed to start.
(EngineCore_DP0 pid=90) ERROR 11-20 10:00:30 [core.py:708] Traceback (most recent call last):
(EngineCore_DP0 pid=90) ERROR 11-20 10:00:30 [core.py:708]     torch.cuda.set_device(device)
(EngineCore_DP0 pid=90) ERROR 11-20 10:00:30 [core.py:708] RuntimeError: HIP error: invalid device function
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
""".splitlines()


def feed(lines: list[str]) -> Startup:
    startup = Startup()
    for line in lines:
        startup.feed(line)
    return startup


def test_a_start_up_goes_through_its_phases_in_order() -> None:
    startup, phases = Startup(), list[str]()
    for line in GOOD:
        startup.feed(line)
        if not phases or startup.told != phases[-1]:
            phases.append(startup.told)
    assert phases == [
        "starting the engine",
        "loading weights",
        "loading weights 50%",
        "loading weights 100%",
        "weights loaded",
        "compiling kernels",
        "measuring memory",
        "capturing graphs 67%",
        "starting the server",
        "ready",
    ]
    assert startup.ready
    assert not startup.fatal


def test_a_phase_never_goes_back() -> None:
    assert feed([*GOOD[:8], GOOD[3]]).phase == "measuring memory"


def test_the_first_exception_above_the_umbrella_is_the_cause() -> None:
    startup = feed(BAD)
    assert startup.exception == "RuntimeError: HIP error: invalid device function"
    assert "Engine core initialization failed" in startup.fatal


def test_an_umbrella_alone_is_better_than_nothing() -> None:
    assert feed(BAD[-1:]).exception.startswith("RuntimeError: Engine core initialization failed")


def test_wrong_arguments_are_told_in_argparses_words() -> None:
    startup = feed(["usage: vllm serve [-h]", "vllm serve: error: unrecognized arguments: --max-modle-len 1"])
    assert startup.exception == "vllm serve: error: unrecognized arguments: --max-modle-len 1"
    assert startup.fatal


def test_a_line_that_only_repeats_itself_with_other_numbers_is_no_progress() -> None:
    startup = feed(["waiting 1 s for the port"])
    before = startup.marker
    startup.feed("waiting 2 s for the port")
    assert startup.marker == before
    startup.feed("something new")
    assert startup.marker != before


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def wait(looks: list[Look], *, deadline: float = 30, known: str = "\0", fatal: bool = True) -> tuple[list[str], float]:
    """Phases told and seconds waited. The last look repeats without its lines."""
    clock, phases, left = Clock(), list[str](), iter(looks)
    last = looks[-1]

    def look() -> Look:
        return next(left, Look((), last.state, last.exit_code, last.error, last.restarts, last.healthy))

    wait_ready(
        "node-1",
        "chat-0-new",
        look,
        deadline=deadline,
        diagnose=lambda text: Diagnosis("x", "The cause.", "the fix", fatal) if known in text else None,
        on_phase=phases.append,
        redact=lambda text: text.replace("hunter2", "***"),
        clock=clock,
        sleep=clock.sleep,
    )
    return phases, clock.now


def running(*lines: str, healthy: bool = False, restarts: int = 0) -> Look:
    return Look(lines, "running", healthy=healthy, restarts=restarts)


def test_health_ends_the_wait_and_only_changes_are_told() -> None:
    phases, seconds = wait([running(), running(), running(GOOD[2]), running(), running(healthy=True)])
    assert phases == ["starting", "loading weights"]
    assert seconds == 4


def test_no_fixed_clock_ends_a_start_that_makes_progress() -> None:
    slow = [
        look for n in range(60) for look in (running(f"Loading safetensors checkpoint shards: {n}%"), *[running()] * 20)
    ]
    assert wait([*slow, running(healthy=True)], deadline=25)[1] > 1000


@pytest.mark.parametrize(
    ("looks", "message"),
    [
        ([running(GOOD[2])], "made no progress for 30 s (progress_deadline) while loading weights"),
        ([Look((), "exited", 1)], "stopped by itself with exit code 1 while starting"),
        ([Look((), "exited", 137)], "exit code 137, SIGKILL while starting. Something on the host killed it"),
        ([running(), Look((), "exited", 137, out_of_memory=True)], "SIGKILL while starting. The kernel killed it"),
        ([Look(tuple(BAD), "exited", 139)], "exit code 139, SIGSEGV while loading weights: RuntimeError: HIP error"),
        ([Look((), "exited", 128, "exec: no such file")], "exit code 128 while starting: exec: no such file"),
        ([running(), Look((), "restarting", 1)], "keeps crashing (exit code 1)"),
        ([running(restarts=1), running(restarts=2)], "keeps crashing"),
        ([running(), Look((), "gone")], "was removed by somebody else"),
        ([running(*BAD)], "failed while loading weights: RuntimeError: HIP error: invalid device function"),
        ([Look(tuple(BAD), "exited", 1)], "exit code 1 while loading weights: RuntimeError: HIP error"),
    ],
)
def test_what_ends_a_wait_is_told_with_its_phase(looks: list[Look], message: str) -> None:
    with pytest.raises(HostError) as caught:
        wait(looks)
    assert message in caught.value.message
    assert caught.value.host == "node-1"


def test_a_known_fatal_line_ends_the_wait_at_once_with_cause_and_fix() -> None:
    with pytest.raises(HostError) as caught:
        wait([running("Memory access fault by GPU node-2")], known="access fault")
    assert caught.value.message == "chat-0-new failed while starting: Memory access fault by GPU node-2. The cause."
    assert caught.value.hint == "the fix"


def test_a_known_warning_does_not_end_it() -> None:
    assert wait([running("a warning"), running(healthy=True)], known="a warning", fatal=False)[1] == 1


def test_the_last_lines_come_along_without_secrets() -> None:
    with pytest.raises(HostError) as caught:
        wait([Look(("key is hunter2", "ValueError: hunter2"), "exited", 1)])
    assert caught.value.tail == ("key is ***", "ValueError: ***")
    assert "hunter2" not in str(caught.value)
