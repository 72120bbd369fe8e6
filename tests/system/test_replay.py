"""A recorded motion is made again by a whole deployment: over topics, through safety and arm, without the hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_srvs.srv import SetBool

from policy_bringup.core.decoding import driver_of, values_of
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.trials import load_report
from policy_bringup.episodes.journal import Outcome, load_journal
from policy_bringup.episodes.layout import episodes
from policy_bringup.episodes.motion import RecordedMotion, read_motion
from policy_bringup.sim.kinesthetic import Kinesthetic, record_kinesthetic
from policy_bringup.sim.selfplay import SelfPlay, run_selfplay

SEED = 4


def test_a_motion_led_by_hand_is_made_again_without_it_and_recorded_anew(
    deploy, small_deployment: Path, tmp_path: Path
):
    config, contract = small_deployment.parent, load_deployment(small_deployment)[0].contract
    folder, outcome = record_kinesthetic(Kinesthetic(config, tmp_path / "hand", backend="raycast"), SEED)
    assert outcome.success
    choices = {"deployment": small_deployment, "source": "replay", "bundle": folder}
    with deploy(**choices, episodes=2, record=tmp_path / "clean") as runner:
        ending = runner.wait(120.0)
    assert ending is not None
    assert (ending.node, ending.code) == ("trial", 0)
    report = load_report(tmp_path / "report.json")
    assert report.stops == ()
    assert [episode.outcome for episode in report.episodes] == ["success", "success"]
    led = read_motion(folder, contract)
    for clean in episodes(tmp_path / "clean"):
        journal, made = load_journal(clean), read_motion(clean, contract)
        assert (journal.outcome, journal.provenance.driver) == (Outcome.SUCCESS, "replay")
        # The cube lay in the same place, the tool went the same way, and the gripper closed as long after the start.
        np.testing.assert_allclose(made.T_base_object.position, led.T_base_object.position, atol=1e-3)
        np.testing.assert_allclose(made.T_base_object.rotation, led.T_base_object.rotation, atol=1e-2)
        off = np.linalg.norm(made.values[:, None, :3] - led.values[None, :, :3], axis=2).min(axis=1)
        assert off.max() < 0.01
        assert closing_s(made) == pytest.approx(closing_s(led), abs=0.5)
        assert made.values[-1, 6] == pytest.approx(led.values[-1, 6])


def closing_s(motion: RecordedMotion) -> float:
    """When the gripper is told to close, s after the motion's beginning."""
    return float(motion.times_s[np.flatnonzero(motion.values[:, 6] < 0.04)[0]])


class Operator:
    """Hears what the policy node says of itself and who drives, and may disarm."""

    def __init__(self, listener) -> None:
        self._listener, node = listener, listener.node
        self.sentence, self.driver = "", ""
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._take_health, 50)
        node.create_subscription(DiagnosticArray, "safety/state", self._take_state, latched)
        self._arm = node.create_client(SetBool, "safety/arm")

    def waits(self, condition: Callable[[], object], what: str) -> None:
        self._listener.wait(condition, 60.0, f"{what}; the policy says: {self.sentence}")

    def disarms(self) -> None:
        assert self._listener.call(self._arm, SetBool.Request(data=False)).success

    def _take_health(self, message: DiagnosticArray) -> None:
        self.sentence = next((each.message for each in message.status if each.name == "policy"), self.sentence)

    def _take_state(self, message: DiagnosticArray) -> None:
        self.driver = driver_of(values_of(message.status[0]))


def test_at_its_end_the_arm_is_held_until_disarmed_and_from_there_it_does_not_begin_again(
    deploy, listener, small_deployment: Path, tmp_path: Path
):
    """Of a motion that ends before the cube is reached."""
    run_selfplay(SelfPlay(small_deployment.parent, tmp_path / "short", 1, patience_s=2.0, backend="raycast"))
    (folder,) = episodes(tmp_path / "short")
    operator = Operator(listener)
    with deploy(deployment=small_deployment, source="replay", bundle=folder) as runner:
        operator.waits(lambda: operator.driver == "policy", "the armed policy")
        operator.waits(lambda: "the motion is over" in operator.sentence, "the end of the motion")
        assert operator.driver == "policy"
        operator.disarms()
        operator.waits(lambda: "the motion begins elsewhere" in operator.sentence, "a refusal to begin")
        assert "bring the arm there" in operator.sentence
        assert operator.driver != "policy"
        assert all(child.poll() is None for child in runner.children.values())
