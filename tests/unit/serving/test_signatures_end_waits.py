"""Every known failure of a container, as it comes in a log, is told with its own cause and fix."""

import pytest

from fleet import signatures
from fleet.errors import HostError
from fleet.serving.diagnose import diagnose
from fleet.serving.startup import UMBRELLA
from fleet.serving.wait import Look, wait_ready

BEFORE = (
    "(EngineCore_DP0 pid=90) INFO 11-20 10:00:20 [gpu_model_runner.py:2602] Starting to load model /app/models/m..."
)
AFTER = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
FATAL = [one for one in signatures.catalogue() if one.where == "container" and one.fatal]
UNDER = [one for one in FATAL if not UMBRELLA.search(one.example)]


def end(*lines: str, state: str = "running") -> HostError:
    with pytest.raises(HostError) as caught:
        wait_ready(
            "n1",
            "chat-0",
            lambda: Look(lines, state, 1),
            deadline=10,
            diagnose=lambda text: diagnose(text, "container"),
            on_phase=lambda _phase: None,
            clock=lambda: 0.0,
            sleep=lambda _seconds: pytest.fail("a known fatal line has to end the wait at once"),
        )
    return caught.value


@pytest.mark.parametrize("signature", FATAL, ids=lambda one: one.id)
def test_a_fatal_line_ends_the_wait_at_once_with_its_cause_and_fix(signature: signatures.Signature) -> None:
    error = end(BEFORE, *signature.example.splitlines())
    assert signature.cause in error.message
    assert error.hint == signature.fix


@pytest.mark.parametrize("signature", UNDER, ids=lambda one: one.id)
def test_the_cause_is_told_and_not_the_umbrella_over_it(signature: signatures.Signature) -> None:
    error = end(BEFORE, *signature.example.splitlines(), AFTER, state="exited")
    assert signature.cause in error.message
    assert error.hint == signature.fix
