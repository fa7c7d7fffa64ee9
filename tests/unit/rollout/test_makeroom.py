"""Which hosts are pruned before an image is brought to them."""

from typing import Any, cast

from fleet.delivery.plan import Keep, Load, Step, Tag
from fleet.facts import Facts
from fleet.facts.stored import Space
from fleet.inventory.model import Connection, Host
from fleet.inventory.settings import Retention, Settings
from fleet.preflight import Finding
from fleet.rollout.hostplan import HostPlan
from fleet.rollout.makeroom import tell, tight
from fleet.rollout.run import Outcome
from fleet.rollout.site import Site

LOAD = Load("vllm:1", (0,), 100, "")


def finding(name: str) -> Finding:
    return Finding(name, "fail", f"{name}: 1 GB free", "", "", "", needs_reboot=False, source="")


def site(*steps: Step, free: int = 30 * 10**9, least: str = "", blocked: tuple[Finding, ...] = ()) -> Site:
    host = Host("n1", ("all",), Connection("10.0.0.1"), Settings(retention=Retention(free=least)), {}, {})
    facts = Facts(space={"root": Space("/var/lib/docker", True, free, 10**12, None, 1)})
    plan = HostPlan("n1", steps, blocked=blocked)
    return Site(host, cast("Any", None), cast("Any", None), facts, blocked, None, plan)


def test_a_host_with_less_than_the_threshold_is_tight_where_an_image_is_to_come() -> None:
    assert tight(site(LOAD, least="50GB")) == "/var/lib/docker: 30 GB free, and fleet.retention.free is 50 GB"
    assert tight(site(LOAD, least="30GB")) == ""
    assert tight(site(LOAD)) == ""
    assert tight(site(Keep("vllm:1", ""), Tag("i", "vllm:1", ""), least="50GB")) == ""


def test_a_host_on_which_the_image_does_not_fit_is_tight_whatever_the_threshold() -> None:
    assert tight(site(LOAD, blocked=(finding("kfd"), finding("space_image")))) == "space_image: 1 GB free"
    assert tight(site(LOAD, blocked=(finding("space_models"),))) == ""


def test_a_check_tells_it_and_a_host_that_was_not_reached_is_passed_over() -> None:
    said: list[tuple[str, str]] = []
    found = {"n1": Outcome("n1", site(LOAD, least="50GB")), "n2": Outcome("n2")}
    tell(found, lambda host, line: said.append((host, line)))
    assert [(host, line.partition(":")[0]) for host, line in said] == [("n1", "would be pruned first")]
