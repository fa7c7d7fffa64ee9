"""New containers that are no good."""

from typing import Any

from tests.lab.faults.world import ONE, TWO, World, fault

BACK = "the old container serves again, the next host is not touched, exit code 1"
BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "new container crashes": (
        "it ends while it loads weights",
        {"env": {"STANDIN_FAIL": "no_hip_gpus"}},
        "No HIP GPUs are available",
    ),
    "new container hangs": (
        "it stands still at 50 % of the weights; progress_deadline 2 s",
        {"env": {"STANDIN_HANG": "weights"}, "progress_deadline": 2},
        "made no progress",
    ),
    "new container answers wrongly": ("it answers garbage", {"env": {"STANDIN_GARBAGE": "1"}}, "does not serve"),
    "new container serves the wrong model": (
        "/v1/models names another",
        {"env": {"STANDIN_WRONG_MODEL": "other"}},
        "other",
    ),
}
TWO_BY_TWO = """\
- {name: roll, hosts: all, canary: 1, stages: [preflight, image, distribute, serve, verify], min_healthy_time: 0s}
"""


def _bad(name: str, how: str, chat: dict[str, Any], said: str) -> None:
    @fault(name, how, BACK, ONE, TWO)
    def _(world: World) -> None:
        before = world.serving(ONE, TWO)
        told = world.roll(world.wants(**chat), (ONE, TWO), playbook=TWO_BY_TWO)
        told.fails(said, "the canary n1 failed", "chat-0 was put back and serves again")
        assert world.serving(ONE, TWO) == before
        assert world.fleet.answers(ONE)


for _name, (_how, _chat, _said) in BAD.items():
    _bad(_name, _how, _chat, _said)


@fault(
    "new container dies after it answered",
    "killed while it is watched (min_healthy_time 20 s)",
    "the old container serves again",
)
def _(world: World) -> None:
    before = world.serving(ONE)
    book = "- {name: roll, hosts: all, stages: [image, serve, verify], min_healthy_time: 20s}\n"
    told = world.roll(
        world.wants(),
        (ONE,),
        at="watch chat-0-new",
        then=lambda _p: world.sh(ONE, "docker kill chat-0-new"),
        playbook=book,
    )
    told.fails("did not stay healthy", "serves again")
    world.serves_again(ONE, before)


@fault("new container answers slowly", "0.2 s a token", "it is taken, and its speed is told")
def _(world: World) -> None:
    code, document = world.wants(env={"STANDIN_SLOW_TOKENS": "0.2"}).ask("deploy", "--limit", ONE)
    assert (code, document["failed"]) == (0, {})
    assert 0 < document["hosts"][ONE]["proofs"]["chat-0"]["tokens_per_s"] < 10
