"""Every effect of a roll goes through the seam, so that the crash tests reach it: what is asked beside it is listed, with why."""

import sys
from pathlib import Path

import pytest

from benchmarks.simulated.fleet import SimulatedFleet, simulated
from tests.seam_watch import BESIDE, LOOKS, askers
from tests.ssh.test_simulated_roll import PLAYBOOK, QUICK

ROOT = Path(__file__).parents[2]


def test_whatever_a_roll_changes_it_changes_through_the_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    file = tmp_path / "asked"
    program = (sys.executable, "-m", "tests.seam_watch", str(file))
    (tmp_path / "fleet/playbooks").mkdir(parents=True)
    with simulated(tmp_path / "fleet", 3, delays=QUICK) as fleet:
        for place in ("roll.yaml", "playbooks/deploy.yaml"):
            (fleet.folder / place).write_text(PLAYBOOK, encoding="utf-8")
        for release in (0, 1):
            assert roll(fleet, program, release=release) == 0
        fleet.happen("node-001", "break")
        assert roll(fleet, program, release=0) == 1  # and puts back
        fleet.happen("node-001", "mend")
        for words, release in ((("rollback",), 1), (("stop", "--limit", "node-003"), 0)):
            done = fleet.run(*words, release=release, program=program)
            assert done.code == 0, done.output
    asked = askers(file)
    assert set(asked) == {*LOOKS, *BESIDE}, asked


def roll(fleet: SimulatedFleet, program: tuple[str, ...], *, release: int) -> int:
    return fleet.run("play", str(fleet.folder / "roll.yaml"), release=release, program=program).code
