"""Nodes are lifecycle nodes: without autostart they wait, and can be configured, stopped and begun again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState

from policy_bringup.core import graph
from policy_bringup.core.decoding import values_of
from policy_bringup.nodes.endpoints import interface, profile
from policy_bringup.nodes.runtime import WATCHER

DEPLOYMENT = Path(__file__).resolve().parents[2] / "config" / "grasp.yaml"


class Managed:
    """One node under a manager."""

    def __init__(self, listener, name: str) -> None:
        self._listener = listener
        self._change = listener.node.create_client(ChangeState, f"{name}/change_state")
        self._get = listener.node.create_client(GetState, f"{name}/get_state")

    @property
    def state(self) -> int:
        return self._listener.call(self._get, GetState.Request(), 15.0).current_state.id

    def change(self, transition: int) -> bool:
        """Asks once: a transition cannot be made twice. If the answer is lost, the state tells."""
        before = self.state
        self._listener.wait(self._change.service_is_ready, 15.0, "the service that changes states")
        future = self._change.call_async(ChangeState.Request(transition=Transition(id=transition)))
        if self._listener.comes(future.done, 15.0):
            return future.result().success
        return self.state != before


@pytest.fixture
def start(ros_environment):
    """Starts a node, without autostart by default, with the given deployment and parameters."""
    started: list[subprocess.Popen] = []

    def start(name: str, deployment: Path, autostart: bool = False, **given: object) -> subprocess.Popen:
        values = {"deployment": deployment, "autostart": str(autostart).lower(), **given}
        parameters = [text for key, value in values.items() for text in ("-p", f"{key}:={value}")]
        command = [sys.executable, "-m", f"policy_bringup.nodes.{name}_node", "--ros-args", *parameters]
        started.append(subprocess.Popen(command, env=os.environ.copy()))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        assert process.wait(timeout=10.0) == 0


def test_a_node_waits_runs_stops_and_runs_again_as_its_manager_says(start, listener):
    start("sim", DEPLOYMENT)
    managed = Managed(listener, "sim")
    assert managed.state == State.PRIMARY_STATE_UNCONFIGURED
    heard: list[JointState] = []
    listener.node.create_subscription(JointState, "joint_states", heard.append, qos_profile_sensor_data)
    for _ in range(2):
        assert managed.change(Transition.TRANSITION_CONFIGURE)
        assert managed.state == State.PRIMARY_STATE_INACTIVE
        heard.clear()
        assert managed.change(Transition.TRANSITION_ACTIVATE)
        listener.wait(lambda: len(heard) > 10, 10.0, "joint states")
        assert managed.change(Transition.TRANSITION_DEACTIVATE)
        assert managed.change(Transition.TRANSITION_CLEANUP)
        assert managed.state == State.PRIMARY_STATE_UNCONFIGURED
        gone = lambda: listener.node.count_publishers("joint_states") == 0  # noqa: E731
        listener.wait(gone, 10.0, "the end of the publisher")


def test_a_simulation_and_its_cameras_that_were_paused_go_on(start, listener):
    heard: list[Image] = []
    listener.node.create_subscription(Image, "camera/front/image_raw", heard.append, qos_profile_sensor_data)
    for name in ("sim", "sim_camera"):
        start(name, DEPLOYMENT)
    managed = [Managed(listener, name) for name in ("sim", "sim_camera")]
    for node in managed:
        assert node.change(Transition.TRANSITION_CONFIGURE)
    for _ in range(2):
        for node in managed:
            assert node.change(Transition.TRANSITION_ACTIVATE)
        heard.clear()
        listener.wait(lambda: len(heard) > 10, 30.0, "pictures")
        for node in managed:
            assert node.change(Transition.TRANSITION_DEACTIVATE)


@pytest.mark.parametrize(
    ("name", "speaks", "beside"),
    [
        ("safety", "safety/state", ("sim",)),
        ("arm", "arm_controller/joint_trajectory", ("sim",)),
        ("policy", "policy/action", ("sim", "sim_camera", "safety")),
        ("recorder", "recorder/state", ("sim",)),
    ],
)
def test_every_node_of_the_robot_runs_when_active_and_is_silent_otherwise_as_often_as_its_manager_says(
    start, listener, tmp_path: Path, name: str, speaks: str, beside: tuple[str, ...]
):
    """Beside those that it needs, which run all the time: as a manager that starts one node anew would have it."""
    for other in beside:
        start(other, DEPLOYMENT, autostart=True, source="expert")
    start(name, DEPLOYMENT, source="expert", mode="sim", record=tmp_path)
    managed, entry = Managed(listener, name), graph.topic(speaks)
    heard: list[object] = []
    listener.node.create_subscription(interface(entry.type), speaks, heard.append, profile(entry.qos))
    lives: list[DiagnosticArray] = []
    of_it = lambda message: lives.append(message) if message.status[0].name == name else None  # noqa: E731
    listener.node.create_subscription(DiagnosticArray, "/diagnostics", of_it, 10)
    for _ in range(2):
        assert managed.change(Transition.TRANSITION_CONFIGURE)
        for _ in range(2):
            lives.clear()
            heard.clear()
            listener.wait(lambda: len(lives) >= 2, 30.0, "signs of life of an inactive node")
            assert heard == []
            assert managed.change(Transition.TRANSITION_ACTIVATE)
            listener.wait(lambda: len(heard) > 4, 30.0, f"what an active {name} says on {speaks}")
            assert managed.change(Transition.TRANSITION_DEACTIVATE)
            assert managed.state == State.PRIMARY_STATE_INACTIVE
        assert managed.change(Transition.TRANSITION_CLEANUP)
        assert managed.state == State.PRIMARY_STATE_UNCONFIGURED
        gone = lambda: listener.node.count_publishers(speaks) == 0  # noqa: E731
        listener.wait(gone, 10.0, "the end of the publisher")


def test_a_simulation_that_was_paused_does_not_count_what_it_did_before_as_done_since(start, listener):
    start("sim", DEPLOYMENT)
    managed = Managed(listener, "sim")
    factors: list[float] = []
    take = lambda message: factors.append(float(values_of(message.status[0])["real_time_factor"]))  # noqa: E731
    entry = graph.topic("sim/state")
    listener.node.create_subscription(DiagnosticArray, entry.name, take, profile(entry.qos))
    assert managed.change(Transition.TRANSITION_CONFIGURE)
    for _ in range(2):
        assert managed.change(Transition.TRANSITION_ACTIVATE)
        factors.clear()
        listener.wait(lambda: len(factors) > 10, 30.0, "a second of simulation")
        assert max(factors) <= 1.0
        assert managed.change(Transition.TRANSITION_DEACTIVATE)


def test_a_refused_configuration_leaves_the_node_unconfigured(start, listener, tmp_path: Path):
    start("sim", tmp_path / "nowhere.yaml")
    managed = Managed(listener, "sim")
    assert managed.state == State.PRIMARY_STATE_UNCONFIGURED
    assert not managed.change(Transition.TRANSITION_CONFIGURE)
    assert managed.state == State.PRIMARY_STATE_UNCONFIGURED


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="a kernel without autogroups")
def test_a_nodes_priority_holds_against_other_sessions_too(deploy, small_deployment: Path, listener):
    """Shown by one that stands back, which every user may."""
    with deploy(deployment=small_deployment) as runner:
        pid = runner.children["trial"].pid
        group = Path(f"/proc/{pid}/autogroup")
        listener.wait(lambda: group.read_text().endswith(f"nice {WATCHER}\n"), 30.0, "the trial node's priority")
        assert os.getpriority(os.PRIO_PROCESS, pid) == WATCHER
