"""Ansible as the oracle over seeded random inventories, and over patterns; all asked in one process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import UsageError
from fleet.inventory import load, select
from tests.oracle.make_inventories import make

SEEDS = range(60)
HERE = Path(__file__).parent
PATTERN_FILE = str(Path(__file__).parents[1] / "data/inventories/patterns.yaml")
# Patterns that name nothing, such as `[` and `,`, are every host to Ansible and an error to us.
PATTERNS = """all|*|web|db|web:db|web,db|db:web|web:&prod|web:!canary|all:!web|!web|&prod|&prod:!canary|web-*|*.dc1
~web-0[12]|~(web|db)-.*|~^p|web[0]|web[-1]|web[0:1]|web[1:]|web[0:0]|web[-2]|prod[2]|web-01|web-01:web-02|web-01,db-a
nosuch|web:nosuch|nosuch:!web|we?-01|web-0[!1]|web-[0]*|all[0]|all[0:3]|*[1]|web[9]|web[9:12]|web:db:&prod:!web-01
!web-01:web:&prod|web, db|web,,db|ungrouped|loner|10.1.1.1|10.1.1.*|~.*\\.1|prod:&web[0]|all:&~web.*|web:&db|~[|web[1-2]
parent|parent[0]|parent:!web|~parent|web-01:!web-01|canary:db[0]|*-a|~.*01""".replace("\n", "|").split("|")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    root = tmp_path_factory.mktemp("inventories")
    return [make(seed, root / str(seed)) for seed in SEEDS]


@pytest.fixture(scope="module")
def oracle(sources: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    empty = tmp_path_factory.mktemp("cwd")
    (empty / "ansible.cfg").touch()
    asked = {"cases": sources, "patterns": {"sources": [PATTERN_FILE], "patterns": PATTERNS}}
    done = subprocess.run(
        [sys.executable, str(HERE / "ansible_side.py")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        cwd=empty,
        env={**os.environ, "ANSIBLE_CONFIG": str(empty / "ansible.cfg"), "ANSIBLE_HOME": str(empty)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("seed", SEEDS)
def test_hosts_groups_and_variables_are_those_of_ansible(
    seed: int, sources: list[list[str]], oracle: dict[str, Any]
) -> None:
    ours, theirs = load(sources[seed]), oracle["cases"][seed]
    assert list(ours.hosts) == theirs["hosts"]
    # From the third level on Ansible walks a set, so the order within a group is not compared here.
    groups = {name: sorted(hosts) for name, hosts in ours.groups.items()}
    assert groups == {name: sorted(hosts) for name, hosts in theirs["groups"].items()}
    for name, host in ours.hosts.items():
        assert json.loads(json.dumps(host.variables, default=str)) == theirs["variables"][name], name


def test_seeded_inventories_are_worth_comparing(oracle: dict[str, Any]) -> None:
    values = [values for case in oracle["cases"] for values in case["variables"].values()]
    assert sum("fleet" in one for one in values) > 100
    assert sum(len(one) > 2 for one in values) > 100


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_select_what_ansible_selects_in_its_order(pattern: str, oracle: dict[str, Any]) -> None:
    theirs = oracle["patterns"][PATTERNS.index(pattern)]
    try:
        ours = [host.name for host in select(load([PATTERN_FILE]), pattern)]
    except UsageError:
        ours = []
    assert ours == (theirs if isinstance(theirs, list) else [])
