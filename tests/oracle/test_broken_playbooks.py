"""2,000 playbooks broken at random from good ones: every one loads or is refused in words."""

import random
from pathlib import Path

import pytest

from fleet.errors import InputError, UsageError
from fleet.playbook import batches, load
from tests.oracle.test_broken import broken

ROOT = Path(__file__).parents[2]
WHOLE = """
- name: roll
  hosts: mi300x:!vault
  serial: [1, 25%, "3"]
  canary: ~mi.*
  max_fail: 10%
  min_available: 75%
  min_healthy_time: 1m30s
  pause: 45
  stages:
    - preflight: {strict: true, accept: {iommu_pt: later}}
    - prepare: {only: [numa_balancing]}
    - image: {update: true}
    - distribute:
    - serve: {prune: true, take_over: [old-vllm]}
    - verify: {load: 30s}
"""
GOOD = [(ROOT / f"playbooks/{name}.yaml").read_text("utf-8") for name in ("deploy", "prepare")] + [WHOLE]


@pytest.mark.parametrize("batch", range(20))
def test_broken_playbooks_end_in_words(batch: int, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    refused = silent = 0
    for seed in range(batch * 100, batch * 100 + 100):
        path.write_bytes(broken(random.Random(seed), GOOD))  # noqa: S311  a generator of tests
        try:
            for play in load(path).plays:
                batches(("a", "b", "c"), play, canaries={"a"})
        except UsageError as error:
            raise AssertionError(seed) from error
        except InputError as error:
            refused += 1
            silent += not all(problem.message and problem.file for problem in error.problems)
    assert refused > 20
    assert silent == 0
