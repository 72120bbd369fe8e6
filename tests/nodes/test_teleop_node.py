"""The teleop node and the real safety node on real DDS. The robot is blocked: it only says where it is."""

from __future__ import annotations

import os
import pty
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core import graph
from policy_bringup.core.config import load
from policy_bringup.core.decoding import chunk_of, values_of
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.robot import Robot
from policy_bringup.core.types import ActionChunk, StateSample
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.beat import Beat
from policy_bringup.nodes.runtime import BringupNode
from policy_bringup.nodes.safety_node import SafetyNode
from policy_bringup.nodes.teleop_devices import split
from policy_bringup.nodes.teleop_node import TeleopNode

DEADMAN, LEFT_Y = 5, 1


class Cell:
    """Everything around the two nodes: joint states, a policy that stands still if asked to, a recorder's services."""

    def __init__(self, config_folder: Path) -> None:
        self.node, self.policy, self.arm = Node("robot"), Node("policy"), Node("arm")
        self.robot = load(config_folder / "robot.yaml", Robot)
        self.spec = load_deployment(config_folder / "grasp.yaml")[0].contract.action
        self.joints = np.array([*self.robot.home, 0.04])
        self.asked: list[str] = []
        self.tables: list[ActionChunk] = []
        self.emitted: list[ActionChunk] = []
        self.states: list[dict[str, str]] = []
        self.policy_stands = False
        self.leader: np.ndarray | None = None
        self.arm_says = "holding"
        self._outputs: dict[str, Any] = {}
        self._beats = 0
        self._hear("teleop/action", JointTrajectory, lambda m: self.tables.append(chunk_of(m, "teleop", 0)))
        self._hear("safety/action", JointTrajectory, lambda m: self.emitted.append(chunk_of(m, "safety", 0)))
        self._hear("safety/state", DiagnosticArray, lambda m: self.states.append(values_of(m.status[0])))
        for name in ("start", "stop", "discard"):
            self._serve(Trigger, f"recorder/{name}")
        for name in ("recorder/success", "arm/hand_guide", "arm/grip"):
            self._serve(SetBool, name)
        self._beat = Beat(0.01, self._say_joints, lambda error: self.asked.append(repr(error)))

    @property
    def state(self) -> tuple[str, str]:
        return (self.states[-1]["state"], self.states[-1]["source"]) if self.states else ("", "")

    def say(self, topic: str, message: object) -> None:
        if topic not in self._outputs:
            entry = graph.topic(topic)
            kind, qos = endpoints.interface(entry.type), endpoints.profile(entry.qos)
            owner = {"policy/action": self.policy, "arm/state": self.arm}.get(topic, self.node)
            self._outputs[topic] = owner.create_publisher(kind, topic, qos)
        self._outputs[topic].publish(message)

    def close(self) -> None:
        self._beat.stop()

    def _say_joints(self) -> None:
        self._beats += 1
        now_ns = time.time_ns()
        names = (*self.robot.joint_names, self.robot.gripper.joint)
        flicker = np.append(1e-9 * (self._beats % 2), np.zeros(7))  # as the last bits of an encoder do
        sample = StateSample(now_ns, 0, names, self.joints + flicker)
        self.say("joint_states", messages.joint_state(sample, np.zeros(8), np.zeros(8), "base"))
        if self._beats % 10 == 0 and self.arm_says:
            arm = messages.status("arm", "ok", self.arm_says, {"state": self.arm_says, "follows": False})
            self.say("arm/state", messages.diagnostics(now_ns, arm))
        if self.leader is not None:
            led = StateSample(now_ns, 0, (*(f"leader_{n}" for n in names[:-1]), "leader_gripper"), self.leader)
            self.say("leader/joint_states", messages.joint_state(led, np.zeros(8), np.zeros(8), "base"))
        if self.policy_stands and self.emitted and self._beats % 5 == 0:
            times = self.spec.dt_s * np.arange(1.0, self.spec.steps + 1.0)
            values = np.tile(self.emitted[-1].values[0], (self.spec.steps, 1))
            table = ActionChunk("policy", now_ns, 0, self.spec.names, times, values, np.zeros(self.spec.steps))
            self.say("policy/action", messages.table_message(table, "base"))

    def _hear(self, topic: str, kind: type, take: Callable[[Any], None]) -> None:
        qos = endpoints.profile(graph.topic(topic).qos)
        self.node.create_subscription(kind, topic, take, qos)

    def _serve(self, kind: type, name: str) -> None:
        def answer(request: Any, response: Any) -> Any:
            self.asked.append(f"{name} {request.data}" if hasattr(request, "data") else name)
            response.success, response.message = True, "heard"
            return response

        self.node.create_service(kind, name, answer)


class Terminal:
    """Where the operator types."""

    def __init__(self) -> None:
        self.master, self._slave = pty.openpty()
        self.path = os.ttyname(self._slave)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def close(self) -> None:
        for file in (self.master, self._slave):
            if file >= 0:
                os.close(file)
        self.master = self._slave = -1


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def start(patient_config: Path) -> Iterator[Callable[[str], tuple[TeleopNode, Cell]]]:
    """Starts both nodes, and the cell around them, with the given device."""
    ends: list[Callable[[], object]] = []

    def begin(device: str) -> tuple[TeleopNode, Cell]:
        choices = {"deployment": patient_config / "grasp.yaml", "source": "expert", "teleop_device": device}
        rclpy.init(args=["--ros-args", *(f for k, v in choices.items() for f in ("-p", f"{k}:={v}"))])
        ends.append(rclpy.try_shutdown)
        cell, nodes = Cell(patient_config), (SafetyNode(), TeleopNode())
        for node in (cell.node, cell.policy, cell.arm, *nodes):
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            thread = threading.Thread(target=executor.spin)
            ends.extend((node.destroy_node, thread.join, executor.shutdown))
            thread.start()
        for node in nodes:
            assert node.trigger_configure() is TransitionCallbackReturn.SUCCESS, node.refusal
            assert node.trigger_activate() is TransitionCallbackReturn.SUCCESS
            ends.append(node.wind_down)
        ends.append(cell.close)
        until(lambda: cell.state[0] == "READY")
        until(lambda: all(client.service_is_ready() for client in nodes[1].clients))
        return nodes[1], cell

    yield begin
    for end in reversed(ends):
        end()


def until(condition: Callable[[], object], meanwhile: Callable[[], object] = lambda: None) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        meanwhile()
        time.sleep(0.01)


def states_during(cell: Cell, states: int) -> set[tuple[str, str]]:
    """What safety says in its next so many messages."""
    begin = len(cell.states)
    until(lambda: len(cell.states) >= begin + states)
    return {(values["state"], values["source"]) for values in cell.states[begin:]}


def test_the_operator_takes_the_arm_moves_it_lets_go_and_it_is_held(start, terminal: Terminal):
    node, cell = start(f"keyboard:{terminal.path}")
    assert not cell.tables
    terminal.type("t")
    until(lambda: cell.state == ("ACTIVE", "teleop"))
    home = cell.emitted[-1].values[0]
    until(lambda: cell.emitted[-1].values[0, 0] > home[0] + 0.03, lambda: terminal.type("w"))
    np.testing.assert_allclose(cell.emitted[-1].values[0, 1:6], home[1:6], atol=1e-3)
    until(lambda: not node._deadman)
    assert states_during(cell, 10) == {("ACTIVE", "teleop")}
    assert node.health()[0] == "ok"
    table = cell.tables[-1]
    assert table.names == cell.spec.names
    np.testing.assert_allclose(table.values, np.tile(table.values[0], (len(table.values), 1)), atol=1e-6)
    assert node.health()[2]["in_charge"]


def test_with_nobody_at_the_keyboard_nothing_is_proposed(start, terminal: Terminal):
    _, cell = start(f"keyboard:{terminal.path}")
    states_during(cell, 5)
    assert not cell.tables


def test_the_dead_man_takes_over_from_the_policy_and_a_key_hands_the_arm_back(start, terminal: Terminal):
    node, cell = start(f"keyboard:{terminal.path}")
    cell.policy_stands = True
    until(lambda: cell.states[-1]["offered"] == "policy")
    node._ask("safety/arm", SetBool.Request(data=True))
    until(lambda: cell.state == ("ACTIVE", "policy"))
    terminal.type("a")
    until(lambda: cell.state == ("ACTIVE", "teleop"))
    until(lambda: not node._deadman)
    assert states_during(cell, 8) == {("ACTIVE", "teleop")}
    terminal.type("h")
    until(lambda: cell.state == ("ACTIVE", "policy"))
    until(lambda: node.health()[1] == "policy has the arm")
    assert states_during(cell, 8) == {("ACTIVE", "policy")}


def test_keys_record_label_and_stop(start, terminal: Terminal):
    _, cell = start(f"keyboard:{terminal.path}")

    def press(key: str, *asked: str) -> None:
        terminal.type(key)
        until(lambda: cell.asked == [*before, *asked])
        before.extend(asked)

    before: list[str] = []
    press("\n", "recorder/start")
    recording = messages.status("recorder", "ok", "recording", {"state": "recording"})
    cell.say("recorder/state", messages.diagnostics(0, recording))
    wait_a_hold()
    press("\n", "recorder/stop")
    press("1", "recorder/success True")
    press("0", "recorder/success False")
    press("x", "recorder/discard")
    terminal.type("e")
    until(lambda: cell.state[0] == "ESTOP")


def wait_a_hold() -> None:
    """A key that is pressed twice within its hold is one that repeats."""
    held_s = time.monotonic() + 0.7
    until(lambda: time.monotonic() > held_s)


def test_a_key_lets_a_hand_lead_the_arm_and_meanwhile_space_is_the_grippers_button(start, terminal: Terminal):
    node, cell = start(f"keyboard:{terminal.path}")
    terminal.type("g")
    until(lambda: cell.asked == ["arm/hand_guide True"])
    cell.arm_says = "guided"
    until(lambda: node.health()[1] == "the arm is led by hand")
    terminal.type(" ")
    until(lambda: cell.asked[1:] == ["arm/grip True"])
    until(lambda: node._deadman)
    until(lambda: not node._deadman)
    terminal.type(" ")
    until(lambda: cell.asked[2:] == ["arm/grip False"])
    wait_a_hold()
    terminal.type("g")
    until(lambda: cell.asked[3:] == ["arm/hand_guide False"])
    assert not cell.tables, "nothing is proposed while a hand leads the arm"


def test_while_a_hand_leads_the_arm_no_key_takes_or_moves_it(start, terminal: Terminal):
    node, cell = start(f"keyboard:{terminal.path}")
    cell.arm_says = "guided"
    until(lambda: node.health()[1] == "the arm is led by hand")
    for key in "wt h":
        terminal.type(key)
        states_during(cell, 5)
    assert cell.state[0] == "READY"
    assert not cell.tables
    assert cell.asked == ["arm/grip True"]
    cell.arm_says = "holding"
    until(lambda: node.health()[1] != "the arm is led by hand")
    until(lambda: cell.tables, lambda: terminal.type("w"))


def test_an_arm_that_has_fallen_silent_is_not_taken_for_one_that_is_led(start, terminal: Terminal):
    node, cell = start(f"keyboard:{terminal.path}")
    cell.arm_says = "guided"
    until(lambda: node.health()[1] == "the arm is led by hand")
    cell.arm_says = ""
    until(lambda: node.health()[1] == "ready")
    terminal.type("g")
    until(lambda: cell.asked == ["arm/hand_guide True"])


def test_the_buttons_of_a_pad_do_the_same_while_its_dead_man_is_held(start):
    node, cell = start("joy")
    close, open_, guide = 0, 1, 8

    def say(*held: int) -> None:
        cell.say("joy", Joy(axes=[0.0] * 8, buttons=[int(number in held) for number in range(11)]))

    until(lambda: node.count_publishers("joy"), say)
    until(lambda: node._hand._device._heard_ns is not None, say)
    until(lambda: cell.asked, lambda: say(guide))
    assert cell.asked == ["arm/hand_guide True"]
    cell.arm_says = "guided"
    until(lambda: node.health()[1] == "the arm is led by hand", say)
    for _ in range(20):
        say(close)  # without the dead-man
        time.sleep(0.01)
    assert cell.asked[1:] == []
    until(lambda: node._deadman, lambda: say(DEADMAN))
    until(lambda: cell.asked[1:] == ["arm/grip True"], lambda: say(DEADMAN, close))
    until(lambda: cell.asked[2:] == ["arm/grip False"], lambda: say(DEADMAN, open_))
    assert not cell.tables


def test_a_terminal_that_is_closed_lets_go_and_the_arm_is_held(start, terminal: Terminal):
    node, cell = start(f"keyboard:{terminal.path}")
    terminal.type("t")
    until(lambda: cell.state == ("ACTIVE", "teleop"))
    terminal.type("w")
    until(lambda: node._deadman)
    terminal.close()
    until(lambda: node.health()[0] == "error")
    assert "keyboard: " in node.health()[1]
    assert not node._deadman
    assert states_during(cell, 8) == {("ACTIVE", "teleop")}


def test_a_joy_topic_drives_and_its_silence_lets_go(start):
    node, cell = start("joy")

    def say(*held: int) -> None:
        axes = [1.0 if number == LEFT_Y else 0.0 for number in range(8)]
        cell.say("joy", Joy(axes=axes, buttons=[int(number in held) for number in range(11)]))

    until(lambda: node.count_publishers("joy"), say)
    until(lambda: cell.tables, lambda: say(DEADMAN))
    until(lambda: cell.tables[-1].values[-1, 0] > cell.tables[-1].values[0, 0] + 0.01, lambda: say(DEADMAN))
    until(lambda: not node._deadman)  # and says nothing any more
    count = len(cell.tables)
    until(lambda: node._handover.proposes(time.monotonic_ns()) is False)
    states_during(cell, 3)
    after = len(cell.tables)
    states_during(cell, 5)
    assert len(cell.tables) == after >= count


def test_a_leader_arm_is_followed_once_it_matches(start, terminal: Terminal):
    node, cell = start(f"leader+keyboard:{terminal.path}")
    off = np.zeros(8)
    off[0] = 0.3
    cell.leader = np.append(cell.robot.home, 0.8) + off
    until(lambda: cell.tables and "is off by" in node.health()[1], lambda: terminal.type("w"))
    standing = cell.tables[-1].values
    np.testing.assert_allclose(standing, np.tile(standing[0], (len(standing), 1)), atol=1e-9)
    cell.leader = np.append(cell.robot.home, 0.8)
    until(lambda: node.health()[0] == "ok", lambda: terminal.type("w"))
    cell.leader = cell.leader - 0.2 * off
    until(lambda: np.ptp(cell.tables[-1].values[:, 1]) > 0.001, lambda: terminal.type("w"))
    cell.leader = None
    until(lambda: "no fresh leader/joint_states" in node.health()[1], lambda: terminal.type("w"))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("joy", (False, "joy")),
        ("leader", (True, "joy")),
        ("keyboard:/dev/pts/3", (False, "keyboard:/dev/pts/3")),
        ("leader+gamepad:/dev/input/js0", (True, "gamepad:/dev/input/js0")),
    ],
)
def test_a_device_is_named_by_kind_and_path(name: str, found):
    assert split(name) == found


@pytest.mark.parametrize("name", ["", "mouse", "keyboard", "gamepad:", "leader+leader", "leader+", "joy+leader"])
def test_a_device_that_does_not_exist_is_refused_with_those_that_do(name: str):
    with pytest.raises(ConfigError, match="'teleop_device' must be keyboard:TERMINAL"):
        split(name)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("gamepad:/dev/input/js77", "gamepad: /dev/input/js77 cannot be opened (No such file or directory)"),
        ("mouse", "parameter 'teleop_device' must be"),
    ],
)
def test_a_node_without_its_device_refuses_to_start(config_folder: Path, device: str, words: str):
    rclpy.init(
        args=["--ros-args", "-p", f"deployment:={config_folder / 'grasp.yaml'}", "-p", f"teleop_device:={device}"]
    )
    node: BringupNode = TeleopNode()
    try:
        assert node.trigger_configure() is TransitionCallbackReturn.FAILURE
        assert words in str(node.refusal)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
