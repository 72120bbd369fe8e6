"""The motion by which lateness is measured, through monitor and arm on simulated physics, without ROS."""

from dataclasses import replace

import numpy as np
import pytest

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core.config import load
from policy_bringup.core.delays import Signal, delay_between
from policy_bringup.core.thumbnail import thumbnail
from policy_bringup.core.types import StateSample
from policy_bringup.inference.sway import Sway, SwayPolicy
from policy_bringup.sim.rollout import ClosedLoop, load_stack

SEED = 2_000_000


class Watcher:
    """Takes notes, as the node that measures does."""

    def __init__(self, proprioception, action, column):
        self._proprioception, self._action, self._column = proprioception, action, column
        self.moved, self.asked, self.seen = [], [], {"front": [], "wrist": []}

    def on_world(self, now_ns, joints, pose, outcome):
        measured = self._proprioception.measured(
            StateSample(now_ns, now_ns, joints.names, joints.positions), self._action
        )
        self.moved.append((now_ns / 1e9, measured[self._column]))

    def on_image(self, sample):
        self.seen[sample.camera].append((sample.stamp_ns / 1e9, thumbnail(sample.pixels).ravel()))

    def on_chunk(self, chunk, now_ns):
        self.asked.append((chunk.stamp_ns / 1e9 + chunk.times_s[0], chunk.values[0, self._column]))

    def on_command(self, command, now_ns):
        pass

    def on_verdict(self, verdict, offered, now_ns):
        pass


def signal(samples, late_s=0.0):
    return Signal(
        np.array([time for time, _ in samples]) + late_s, np.array([value for _, value in samples], np.float64)
    )


@pytest.fixture(scope="module")
def swayed(config_folder):
    """What was asked, done and seen; no stop of the monitor and no refusal on the way."""
    stack = load_stack(config_folder)
    deployment = replace(
        stack.deployment, cameras=tuple(replace(c, width=64, height=64) for c in stack.deployment.cameras)
    )
    stack = replace(stack, deployment=deployment)
    sway = load(config_folder / "latency.yaml", Sway)
    chain = Chain.from_urdf(stack.urdf, stack.robot.base_frame, stack.robot.tool_frame, stack.robot.joint_names)
    action = deployment.contract.action
    watcher = Watcher(Proprioception(stack.robot, chain), action, action.names.index(sway.column))
    loop = ClosedLoop(stack, SwayPolicy(deployment.contract, sway, deployment.limits), 0.5, "raycast")
    rollout = loop.run(SEED, sway.duration_s + 1.0, observer=watcher)
    loop.close()
    assert (rollout.stops, rollout.refused) == ((), 0)
    return watcher, 0.2 * sway.amplitude


@pytest.mark.parametrize("late_s", [0.0, 0.05, 0.12])
@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_either_camera_is_found_as_late_as_it_is_made_to_within_5_ms(swayed, camera, late_s):
    watcher, least = swayed
    delay = delay_between(signal(watcher.moved), signal(watcher.seen[camera], late_s), 0.5, least, camera)
    assert delay.seconds == pytest.approx(late_s, abs=0.005)
    assert delay.uncertainty_s < 0.015


@pytest.mark.parametrize("late_s", [0.0, 0.06, 0.2])
def test_an_arm_is_found_as_much_later_as_it_is_made_to_within_2_ms(swayed, late_s):
    watcher, least = swayed
    own = delay_between(signal(watcher.asked), signal(watcher.moved), 0.5, least, "actuator")
    delay = delay_between(signal(watcher.asked), signal(watcher.moved, late_s), 0.5, least, "actuator")
    assert 0.0 < own.seconds < 0.15
    assert delay.seconds - own.seconds == pytest.approx(late_s, abs=0.002)
