"""A person leads the arm of a whole deployment and presses the gripper's button; the bag tells, and gives actions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_srvs.srv import SetBool

from policy_bringup.core.decoding import command_of, joint_positions, values_of
from policy_bringup.core.deployment import load_deployment
from policy_bringup.episodes.driving import read_driving
from policy_bringup.episodes.frames import read_frames
from policy_bringup.episodes.journal import load_journal
from policy_bringup.episodes.layout import episodes
from policy_bringup.episodes.led import led_intervals
from policy_bringup.episodes.reader import open_bag
from policy_bringup.pipeline.hand_derivation import derive_all, load_hand_derivation

DEPLOYMENT = Path(__file__).resolve().parents[2] / "config" / "grasp.yaml"
COMMAND = "arm_controller/joint_trajectory"


class Person:
    """Leads the arm, and hears what it says."""

    def __init__(self, listener) -> None:
        self._listener, node = listener, listener.node
        self.arm = ""
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(DiagnosticArray, "arm/state", self._take_arm, latched)
        self._clients = {name: node.create_client(SetBool, name) for name in ("arm/hand_guide", "arm/grip")}

    def asks(self, name: str, data: bool) -> bool:
        return self._listener.call(self._clients[name], SetBool.Request(data=data), 30.0).success

    def leads(self, on: bool) -> None:
        self._listener.wait(lambda: self.asks("arm/hand_guide", on), 30.0, f"arm/hand_guide {on}")
        self._listener.wait(lambda: (self.arm == "guided") is on, 10.0, f"arm/state after arm/hand_guide {on}")

    def _take_arm(self, message: DiagnosticArray) -> None:
        self.arm = values_of(message.status[0])["state"]


def test_a_led_arm_is_recorded_and_its_episode_gets_the_actions_of_the_hand(deploy, listener, recorder, tmp_path: Path):
    live, out = tmp_path / "live", tmp_path / "derived"
    deployment, robot = load_deployment(DEPLOYMENT)
    person = Person(listener)
    with deploy(source="none", record=live, operator="7"):
        listener.wait(lambda: person.arm == "holding", 60.0, "the arm holding")
        recorder.begin()
        recorder.wait_for_more(1.0)
        assert not person.asks("arm/grip", True), "nobody leads the arm yet"
        person.leads(True)
        recorder.wait_for_more(1.0)
        assert person.asks("arm/grip", True)
        recorder.wait_for_more(4.0)
        person.leads(False)
        recorder.wait_for_more(1.0)
        recorder.press("stop")
    (folder,) = episodes(live)
    assert load_journal(folder).provenance.driver == "hand"
    with open_bag(folder) as bag:
        (led,) = led_intervals(bag)
        commands = [(each.publish_ns, command_of(bag.decode(each))) for each in bag.messages([COMMAND])]
        samples = [joint_positions(bag.decode(each), 0) for each in bag.messages(["joint_states"])]
    alone = [(ns, command) for ns, command in commands if command.names == (robot.gripper.joint,)]
    assert alone
    assert all(led.holds(ns) for ns, _ in alone)
    meanwhile = {command.names for ns, command in commands if led.holds(ns)}
    assert meanwhile == {(robot.gripper.joint,)}, "no joint of the arm was commanded while a hand led it"
    derivation = load_hand_derivation(DEPLOYMENT)
    report = derive_all([folder], out, derivation)
    assert report.failed == {}
    assert load_journal(out / folder.name).provenance == load_journal(folder).provenance
    with open_bag(out / folder.name) as bag:
        drove = read_driving(bag, deployment.contract)
    assert set(drove.drivers) == {"hand", ""}
    pressed_ns = alone[0][0]
    assert drove.action(pressed_ns - 20_000_000)[6] > 0.9 * robot.gripper.upper
    assert drove.action(led.ended_ns - 1)[6] == robot.gripper.lower
    where = derivation.proprioception.tool(next(s for s in samples if s.stamp_ns >= pressed_ns)).values
    np.testing.assert_allclose(drove.action(pressed_ns)[:3], where[:3], atol=0.005)
    frames = read_frames(out / folder.name, deployment.contract, 20.0, derivation.proprioception.tool)
    assert set(frames.driver) == {"hand"}
