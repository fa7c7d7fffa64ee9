"""Memory that nobody holds is believed only when it stays."""

from pathlib import Path

from fleet.preflight.needs import Needs
from fleet.preflight.vram import dirty
from fleet.settled import PAUSES, settled
from tests.unit.facts.test_parse import Said, Session

CLEAN = (Path(__file__).parents[1] / "data/probe/live-mi300x8.txt").read_text("utf-8")
TAKEN = CLEAN.replace("mem_info_vram_used:299892736", "mem_info_vram_used:185866000000", 1)


class Changing(Session):
    """Answers each script with the next text; the last one for good."""

    def __init__(self, *texts: str) -> None:
        super().__init__(texts[-1])
        self.texts = list(texts)

    def script(self, text: str, **options: object) -> Said:
        self.asked.append(((), True))
        return Said(self.texts.pop(0) if len(self.texts) > 1 else self.texts[0])


def test_a_clean_host_is_asked_once() -> None:
    session = Changing(CLEAN)
    settled(session, Needs(), sleep=lambda _: None)
    assert len(session.asked) == 1


def test_memory_that_comes_back_between_two_looks_was_never_taken() -> None:
    session, times = Changing(TAKEN, TAKEN, CLEAN), iter(range(100))
    facts, now = settled(session, Needs(), lambda: float(next(times)), sleep=lambda _: None)
    assert dirty(facts) == ()
    assert len(session.asked) == 3
    assert now == 4.5  # the middle of the third look, by which the host's clock is judged


def test_memory_that_stays_is_told_after_the_last_pause() -> None:
    slept: list[float] = []
    facts, _ = settled(Changing(TAKEN), Needs(), sleep=slept.append)
    assert [one.gpu.render_minor for one in dirty(facts)] == [128]
    assert slept == list(PAUSES)
