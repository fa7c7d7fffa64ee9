"""Thirty nights of a small fleet, a day apart, with what happens in a month: `make month`, half an hour.

Everything is real but the GPUs and the calendar. What happens is drawn by chance from a seed that is logged; each kind comes
at least twice.
"""

import logging
import os
import random
from collections.abc import Iterator

import pytest

from tests.lab.night_events import EVENTS, Story, new_commit
from tests.lab.night_promise import assert_bounded, assert_kept, assert_told
from tests.lab.nights import night_site

pytestmark = [pytest.mark.lab, pytest.mark.month]

log = logging.getLogger(__name__)
NIGHTS = 30
SEED = int(os.environ.get("FLEET_MONTH_SEED", "1"))


@pytest.fixture
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with night_site("month", tmp_path_factory.mktemp("month")) as site:
        yield Story(site, NIGHTS, random.Random(SEED))  # noqa: S311  which nights come, no secret


def test_after_a_month_the_right_release_runs_and_nothing_has_piled_up(story: Story) -> None:
    """It begins and ends with commits, so that there is something to go back to and all hosts have the same."""
    log.info("seed %d", SEED)
    some = [*EVENTS, *EVENTS, *story.chance.choices(EVENTS, k=NIGHTS - 3 - 2 * len(EVENTS))]
    story.chance.shuffle(some)
    for event in (new_commit, *some, new_commit, new_commit):
        story.play(event)
    assert_kept(story.site)
    assert_told(story.site, NIGHTS)
    assert_bounded(story, NIGHTS // 2)
