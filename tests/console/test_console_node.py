"""The node on real DDS: a robot made of publishers and services on one side, a browser on the other."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from policy_bringup.core import graph
from policy_bringup.core.startup import environment
from policy_bringup.core.types import Pose, StateSample
from policy_bringup.nodes import endpoints, image_messages, messages
from policy_bringup.nodes.console_node import ConsoleNode

JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))


class Robot:
    """Publishes what the other nodes would, and serves what the buttons ask for; `asked` lists the requests."""

    def __init__(self, serves: bool) -> None:
        self.node = Node("robot")
        self.asked: list[str] = []
        self._publishers: dict[str, object] = {}
        if serves:
            for name in ("safety/arm", "safety/stop", "sim/cover"):
                self.node.create_service(SetBool, name, lambda request, reply, n=name: self._answer(request, reply, n))
            self.node.create_service(
                Trigger, "safety/reset", lambda request, reply: self._answer(request, reply, "reset")
            )

    def _answer(self, request, reply, name: str):
        self.asked.append(f"{name} {request.data}" if hasattr(request, "data") else name)
        reply.success, reply.message = name != "reset", f"{name} was heard"
        return reply

    def say(self, topic: str, message: object) -> None:
        if topic not in self._publishers:
            entry = graph.topic(topic)
            kind, qos = endpoints.interface(entry.type), endpoints.profile(entry.qos)
            self._publishers[topic] = self.node.create_publisher(kind, topic, qos)
        self._publishers[topic].publish(message)


@pytest.fixture
def console(config_folder: Path, domain_id: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsoleNode]:
    for name, value in environment(config_folder, domain_id, pictures=True).items():
        monkeypatch.setitem(os.environ, name, value)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    deployment = config_folder / "grasp.yaml"
    rclpy.init(
        args=["--ros-args", "-p", f"deployment:={deployment}", "-p", f"port:={port}", "-p", "answer_timeout_s:=0.5"]
    )
    node = ConsoleNode()
    assert node.trigger_configure() == rclpy.lifecycle.TransitionCallbackReturn.SUCCESS, node.refusal
    yield node
    node.close()
    node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture
def spin(console: ConsoleNode) -> Iterator[Callable[[Node], None]]:
    """Spins the console, and each node that is handed over, in a thread of its own until the test ends."""
    executor = SingleThreadedExecutor()
    executor.add_node(console)
    others = SingleThreadedExecutor()
    threads = [threading.Thread(target=each.spin) for each in (executor, others)]
    for thread in threads:
        thread.start()
    yield others.add_node
    executor.shutdown()
    others.shutdown()
    for thread in threads:
        thread.join()


def until(condition: Callable[[], object], meanwhile: Callable[[], object] = lambda: None) -> None:
    """Does `meanwhile` again and again, as a running robot does, until `condition` holds."""
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        meanwhile()


def shows(browser, condition: Callable[[], object]) -> bool:
    """Whether the browser shows it within a moment."""
    try:
        browser.wait(condition, timeout_s=0.05)
    except TimeoutError:
        return False
    return True


def test_what_the_robot_says_is_on_the_page(console: ConsoleNode, spin, browse):
    robot = Robot(serves=False)
    spin(robot.node)
    values = {"state": "FALLBACK", "source": "policy", "rule": "BOUNDS"}
    transition = {"who": "policy", "from": "RETRY", "to": "FALLBACK", "rule": "BOUNDS"}
    joints = StateSample(0, 0, JOINTS, np.full(7, 0.5))
    pixels = np.full((128, 128, 3), 180, dtype=np.uint8)

    def say() -> None:
        now_ns = time.time_ns()
        sentence = "tool.z is too low"
        status = messages.status("safety", "error", sentence, values)
        robot.say("safety/state", messages.diagnostics(now_ns, status))
        record = messages.status("transition", "error", sentence, transition)
        robot.say("safety/verdict", messages.diagnostics(now_ns, status, record))
        robot.say("/diagnostics", messages.diagnostics(now_ns, messages.status("arm", "warn", "refused", {})))
        robot.say("sim/state", messages.diagnostics(now_ns, messages.status("sim", "ok", "", {"episode": 12})))
        robot.say("joint_states", messages.joint_state(joints, np.zeros(7), np.zeros(7), "panda_link0"))
        robot.say("sim/object_pose", messages.pose_message(Pose(np.full(3, 0.1), np.eye(3)), now_ns, "panda_link0"))
        robot.say("camera/front/image_raw", image_messages.image_message(pixels, now_ns, "front"))

    parts = (">FALLBACK<", "Why it stopped last", "tool.z is too low", ">BOUNDS<", "refused", "<b>12</b>")
    with browse(console._page.url) as browser:
        black = browser.picture("front")
        turned = next(name for name in browser.nodes if name.endswith("/panda_link1"))
        until(lambda: shows(browser, lambda: all(part in browser.text for part in parts)), say)
        until(lambda: shows(browser, lambda: browser.picture("front") != black), say)
        until(lambda: shows(browser, lambda: browser.nodes["/object"]["visible"]), say)
        half = pytest.approx(np.cos(0.25))
        until(lambda: shows(browser, lambda: browser.nodes[turned].get("wxyz", [1.0])[0] == half), say)


def test_states_that_say_nothing_harm_nobody(console: ConsoleNode, spin, browse):
    robot = Robot(serves=False)
    spin(robot.node)
    nothing = messages.diagnostics(1), messages.diagnostics(1, messages.status("it", "ok", "", {}))

    def say(sentence: str) -> None:
        for topic in ("safety/state", "safety/verdict", "sim/state", "recorder/state", "/diagnostics"):
            for message in nothing:
                robot.say(topic, message)
        status = messages.status("safety", "ok", sentence, {"state": "READY", "source": ""})
        robot.say("safety/state", messages.diagnostics(1, status))

    with browse(console._page.url) as browser:
        for sentence in ("heard", "still heard", "heard to the end"):
            until(lambda: shows(browser, lambda: sentence in browser.text), lambda: say(sentence))  # noqa: B023


def test_an_object_without_an_orientation_is_not_drawn_and_harms_nobody(console: ConsoleNode, spin, browse):
    robot = Robot(serves=False)
    spin(robot.node)
    broken = messages.pose_message(Pose(np.full(3, 0.1), np.eye(3)), 0, "panda_link0")
    broken.pose.orientation.w = 0.0
    with browse(console._page.url) as browser:
        until(lambda: robot.node.count_subscribers("sim/object_pose"), lambda: robot.say("sim/object_pose", broken))
        state = messages.status("safety", "ok", "still here", {"state": "READY", "source": ""})

        def say() -> None:
            robot.say("sim/object_pose", broken)
            robot.say("safety/state", messages.diagnostics(0, state))

        until(lambda: shows(browser, lambda: "still here" in browser.text), say)
        assert browser.nodes["/object"]["visible"] is False


def test_pictures_and_joints_are_only_received_while_somebody_looks(console: ConsoleNode, spin, browse):
    robot = Robot(serves=False)
    spin(robot.node)
    heavy = ("camera/front/image_raw", "camera/wrist/image_raw", "joint_states", "sim/object_pose")

    def readers() -> set[int]:
        return {robot.node.count_subscribers(name) for name in heavy}

    assert readers() == {0}
    with browse(console._page.url):
        until(lambda: readers() == {1})
    until(lambda: readers() == {0})


@pytest.mark.parametrize(
    ("label", "asked", "answer"),
    [
        ("Arm", ["safety/arm True"], "done: safety/arm was heard"),
        ("Disarm", ["safety/arm False"], "done: safety/arm was heard"),
        ("Soft stop", ["safety/stop True"], "done: safety/stop was heard"),
        ("Reset", ["safety/stop False", "reset"], "refused: reset was heard"),
        ("Cover the cameras", ["sim/cover True"], "done: sim/cover was heard"),
    ],
)
def test_a_button_asks_its_service_and_shows_what_it_says(
    console: ConsoleNode, spin, browse, label: str, asked: list[str], answer: str
):
    robot = Robot(serves=True)
    spin(robot.node)
    with browse(console._page.url) as browser:
        for client in console.clients:
            assert not client.srv_name.startswith(("safety", "sim")) or client.wait_for_service(10.0)
        browser.press(label)
        browser.wait(lambda: answer in browser.text)
    assert robot.asked == asked


def test_a_service_that_nobody_serves_is_named(console: ConsoleNode, spin, browse):
    with browse(console._page.url) as browser:
        browser.press("Home")
        browser.wait(lambda: "nobody serves arm/home" in browser.text)


def test_a_service_that_does_not_answer_is_given_up(console: ConsoleNode, spin, browse):
    robot = Robot(serves=True)  # served, but never spun
    with browse(console._page.url) as browser:
        for client in console.clients:
            assert not client.srv_name.startswith(("safety", "sim")) or client.wait_for_service(10.0)
        browser.press("Arm")
        browser.wait(lambda: "safety/arm did not answer within 0.5 s" in browser.text)
    assert robot.asked == []
    robot.node.destroy_node()
