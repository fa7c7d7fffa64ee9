"""Verification on real engines: known answers, garbage, answers beside those of the canary, and speed under load.

The stand-in is told how to behave by a file beside its model, so image, arguments and environment stay equal.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.lab import NodeSpec
from tests.lab.conftest import REGISTRY
from tests.lab.small import Site, small_site

pytestmark = pytest.mark.lab

FIRST, SECOND = "mi300x-01", "mi300x-02"
PROMPT = "The capital of France is"
STANDIN = "/srv/models/tiny-chat/standin.json"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    specs = (REGISTRY, *(NodeSpec(name, profile="mi300x-8") for name in (FIRST, SECOND)))
    with small_site("ver", tmp_path_factory.mktemp("verify"), *specs) as made:
        done = made.controller.run("deploy")
        assert done.returncode == 0, done.stderr
        yield made


@pytest.fixture
def site(small: Site) -> Iterator[Site]:
    yield small
    for host in (FIRST, SECOND):
        behave(small, host)


def behave(site: Site, host: str, **settings: Any) -> None:
    """The replica there starts again and behaves like this; without settings well."""
    script = f"cat > {STANDIN}" if settings else f"test -e {STANDIN} && rm {STANDIN}"
    done = site.lab.node(host).exec(("sh", "-c", script), check=False, stdin=json.dumps(settings))
    if done.returncode == 0:
        site.docker(host, "restart", "-t", "5", "chat-0")


def wanting(site: Site, **verify: Any) -> Any:
    """The controller whose inventory asks for this of every answer."""
    return site.over(json.dumps({"gpu": {"vars": {"fleet": {"services": {"chat": {"verify": verify}}}}}}))


KNOWN = [{"prompt": PROMPT, "expect": "Paris"}, {"prompt": PROMPT, "expect": {"contains": "Seine"}}]


def test_a_wrong_known_answer_fails_only_its_host_and_says_what_came(site: Site) -> None:
    behave(site, SECOND, wrong_answers=True)
    code, document = wanting(site, known=KNOWN).ask("verify")
    assert code == 1
    assert set(document["failed"]) == {SECOND}
    told = document["failed"][SECOND]["message"]
    assert f"2 of 2 known answers are wrong: to '{PROMPT}' expected 'Paris', got '" in told
    assert PROMPT in document["hosts"][FIRST]["proofs"]["chat-0"]["answers"]
    behave(site, SECOND)
    assert wanting(site, known=KNOWN).run("verify").returncode == 0


def test_the_pass_rule_lets_a_share_be_wrong(site: Site) -> None:
    known = [*KNOWN, {"prompt": PROMPT, "expect": {"one_of": ["London", "Rome"]}}]
    assert wanting(site, known=known).run("verify").returncode == 1
    done = wanting(site, known=known, **{"pass": "60%"}).run("verify")
    assert done.returncode == 0, done.stderr


def test_garbage_is_never_an_answer(site: Site) -> None:
    behave(site, FIRST, garbage=True)
    done = site.controller.run("verify")
    assert done.returncode == 1
    assert "with garbage: nothing but exclamation marks" in done.stdout + done.stderr


def test_an_answer_unlike_the_firsts_is_a_warning_or_a_failure_as_the_inventory_says(site: Site) -> None:
    behave(site, SECOND, wrong_answers=True)
    said = f"chat-0 answers prompt '{PROMPT}' differently from {FIRST}"
    code, document = site.controller.ask("verify")
    assert (code, document["failed"]) == (0, {})
    assert document["hosts"][SECOND]["verification"][0].startswith(said)
    assert document["hosts"][FIRST]["verification"] == []
    assert wanting(site, compare="off").ask("verify")[1]["hosts"][SECOND]["verification"] == []
    done = wanting(site, compare="fail").run("verify")
    assert done.returncode == 1
    assert said in " ".join((done.stdout + done.stderr).split())


def test_the_slow_one_is_named_under_load_and_the_tunnel_is_mentioned(site: Site) -> None:
    behave(site, FIRST, slow_tokens=0.002)
    behave(site, SECOND, slow_tokens=0.05)
    done = site.controller.run("verify", "--load", "3s")
    assert done.returncode == 0, done.stderr
    told = " ".join((done.stdout + done.stderr).split())
    assert "the SSH tunnel is in it" in told
    assert f"{SECOND}: chat-0 is slow: " in told
    print(done.stdout)  # noqa: T201
    code, document = wanting(site, on_slow="fail").ask("verify", "--load", "3s")
    assert (code, set(document["failed"])) == (1, {SECOND})
    speed = document["hosts"][SECOND]["proofs"]["chat-0"]["speed"]
    assert speed["errors"] == 0
    assert speed["requests"] >= 4
    assert 0 < speed["tokens_per_s"] < document["hosts"][FIRST]["proofs"]["chat-0"]["speed"]["tokens_per_s"]


def test_a_roll_measures_and_compares_with_the_hosts_of_earlier_batches(site: Site) -> None:
    behave(site, FIRST, slow_tokens=0.002)
    behave(site, SECOND, slow_tokens=0.05, wrong_answers=True)
    play = Path(site.folder / "measured.yaml")
    play.write_text("- {name: measure, hosts: all, serial: 1, stages: [{verify: {load: 2s}}]}\n")
    done = site.controller.run("play", str(play))
    told = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, told
    assert f"chat-0 answers prompt '{PROMPT}' differently from {FIRST}" in told
    assert f"{SECOND}: chat-0 is slow: " in told
