from __future__ import annotations

from itertools import combinations

import pytest

from policy_bringup.core.errors import ConfigError
from policy_bringup.core.startup import TRIAL_SEED
from policy_bringup.pipeline.seeds import BLOCKS, seeds


def test_no_seed_serves_two_purposes():
    for one, other in combinations(BLOCKS.values(), 2):
        assert one.stop <= other.start or other.stop <= one.start


def test_a_deployments_own_scenes_are_none_that_a_policy_was_made_from_or_judged_on():
    assert all(TRIAL_SEED not in block for block in BLOCKS.values())


def test_a_purpose_begins_at_its_own_seeds():
    assert seeds("evaluation", 3) == range(1_000_000, 1_000_003)
    assert seeds("calibration", 2) == range(500_000, 500_002)
    assert seeds("training", 1) == range(1)


@pytest.mark.parametrize("first", [1_000_000, 1_999_998])
def test_seeds_up_to_the_edge_are_accepted(first):
    assert seeds("evaluation", 2, first) == range(first, first + 2)


@pytest.mark.parametrize("first", [0, 999_999, 1_999_999])
def test_a_range_that_touches_another_purpose_is_refused(first):
    with pytest.raises(ConfigError, match=r"seeds must be from 1000000 to 1999999.*training and calibration"):
        seeds("evaluation", 2, first)


def test_no_episode_at_all_is_refused():
    with pytest.raises(ConfigError, match="at least one episode"):
        seeds("training", 0)
