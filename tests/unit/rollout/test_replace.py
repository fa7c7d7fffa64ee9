"""What replacing a host's containers takes away."""

from types import SimpleNamespace
from typing import Any

from fleet.rollout.replace import cost
from fleet.serving.inspection import replaces_label
from fleet.serving.plan import plan
from fleet.serving.planning import held_as
from tests.unit.serving.make import built, image, service, serving


def test_a_candidate_that_may_be_the_one_that_serves_is_not_taken_for_nothing() -> None:
    old, half, new = (built(service(), of=image(name)).spec for name in ("r1", "r2", "r3"))
    held = serving(old, state="exited", restart="no")
    label = replaces_label((held_as(held),))
    candidate = serving(half, name="chat-0-new", restart="unless-stopped", labels={**half.labels, **label})
    site: Any = SimpleNamespace(
        containers=lambda: (held, candidate), plan=SimpleNamespace(serving=plan([new], [held, candidate]))
    )
    assert cost(site) == {"chat": 1}
