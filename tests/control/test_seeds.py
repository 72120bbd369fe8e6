from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policy_bringup.control.ik import residual
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.seeds import Seeds
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.robot import Robot


def test_every_seed_is_within_limits_and_most_are_near(chain: Chain, robot: Robot, random_joints: np.ndarray) -> None:
    seeds = Seeds(chain, robot.lower, robot.upper, 10000)
    found = []
    for q in random_joints:
        near = seeds.near(chain.forward(q), robot.home, 10)
        assert len(near) > 0
        assert ((near >= robot.lower) & (near <= robot.upper)).all()
        found.append(residual(chain, near[0], chain.forward(q)))
    position, rotation = np.median(found, axis=0)
    assert position < 0.15
    assert rotation < 0.4


def test_the_first_and_last_joint_are_exact_for_an_entry_of_the_table(chain: Chain, robot: Robot) -> None:
    seeds = Seeds(chain, robot.lower, robot.upper, 500)
    entry = seeds._joints[100].copy()
    entry[0], entry[-1] = 1.3, -2.1
    near = seeds.near(chain.forward(entry), entry, 1)[0]
    np.testing.assert_allclose(near, entry, atol=1e-6)


def test_the_table_is_always_the_same(chain: Chain, robot: Robot) -> None:
    first, second = (Seeds(chain, robot.lower, robot.upper, 300) for _ in range(2))
    target = chain.forward(robot.home + 0.2)
    np.testing.assert_array_equal(first.near(target, robot.home, 8), second.near(target, robot.home, 8))


def test_of_two_starts_each_gets_seeds_nearer_to_itself(chain: Chain, robot: Robot) -> None:
    seeds = Seeds(chain, robot.lower, robot.upper, 10000)
    target = chain.forward(robot.home)
    one, other = robot.home, robot.home + np.array([1.5, 0.0, -1.5, 0.0, 0.0, 0.0, 0.0])
    distance = [[np.abs(seeds.near(target, start, 5) - end).max() for end in (one, other)] for start in (one, other)]
    assert distance[0][0] <= distance[1][0]
    assert distance[1][1] <= distance[0][1]


def test_a_chain_that_begins_with_a_slide_is_refused(chain: Chain, robot: Robot) -> None:
    sliding = Chain(chain.names, chain.offsets, chain.tip, (True, *chain.sliding[1:]))
    with pytest.raises(ConfigError, match="begins and ends revolute"):
        Seeds(sliding, robot.lower, robot.upper, 100)


def test_a_chain_of_two_joints_is_refused(urdf: Path) -> None:
    short = Chain.from_urdf(urdf, "panda_link0", "panda_link2")
    with pytest.raises(ConfigError, match="three or more joints"):
        Seeds(short, np.full(2, -1.0), np.full(2, 1.0), 100)
