"""Whatever ends, the arm ends in a held pose: it neither drops nor runs on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core.decoding import values_of
from policy_bringup.core.trials import load_report
from policy_bringup.runner import Runner

ROOT = Path(__file__).resolve().parents[2]
MOVING = 0.15  # rad/s
STILL = 0.005  # rad/s
DROP = 0.01  # rad that a held joint may be off after two seconds


class Robot:
    """The newest joint state and safety state, and the last command."""

    def __init__(self, listener) -> None:
        self._listener = listener
        self.positions = np.zeros(7)
        self.velocities = np.zeros(7)
        self.safety = self.offered = ""
        self._arm = listener.node.create_client(SetBool, "safety/arm")
        self.command: JointTrajectory | None = None
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        listener.node.create_subscription(JointState, "joint_states", self._take_joints, qos_profile_sensor_data)
        listener.node.create_subscription(DiagnosticArray, "safety/state", self._take_safety, latched)
        listener.node.create_subscription(JointTrajectory, "arm_controller/joint_trajectory", self._take_command, 10)

    def _take_joints(self, message: JointState) -> None:
        self.positions, self.velocities = np.array(message.position[:7]), np.array(message.velocity[:7])

    def _take_safety(self, message: DiagnosticArray) -> None:
        values = values_of(message.status[0])
        self.safety, self.offered = values["state"], values["offered"]

    def _take_command(self, message: JointTrajectory) -> None:
        self.command = message

    @property
    def moving(self) -> bool:
        return bool(np.abs(self.velocities).max() > MOVING and self.command is not None)

    def set_in_motion(self, runner: Runner) -> None:
        """Arms the policy by hand: with the trial node gone, nobody else would move the arm again."""
        runner.children["trial"].kill()
        moving = lambda: self.moving  # noqa: E731
        armable = lambda: self.safety in ("READY", "FALLBACK") and self.offered == "policy"  # noqa: E731
        self._listener.wait(self._arm.service_is_ready, 15.0, "service safety/arm")
        while not moving():  # a machine that stalls may stop it on the way
            # The trial node may have armed it just before it was killed.
            self._listener.wait(lambda: armable() or moving(), 40.0, "a policy to arm")
            if moving():
                break
            # Not waited for: DDS may lose the answer, and the motion would be over meanwhile.
            self._arm.call_async(SetBool.Request(data=True))
            asked = time.monotonic()
            heard = lambda: not armable() or moving() or time.monotonic() - asked > 1.0  # noqa: E731, B023
            self._listener.wait(heard, 5.0, "ACTIVE, or a stop so soon that ACTIVE was not heard")
            self._listener.wait(lambda: moving() or armable(), 10.0, "an arm in motion")

    def assert_comes_to_rest_and_stays(self) -> None:
        self._listener.wait(lambda: np.abs(self.velocities).max() < STILL, 5.0, "an arm at rest")
        held = self.positions.copy()
        began = time.monotonic()
        self._listener.wait(lambda: time.monotonic() - began > 2.0, 10.0, "two seconds")
        assert np.abs(self.positions - held).max() < DROP


@pytest.fixture
def robot(listener) -> Robot:
    return Robot(listener)


@pytest.mark.parametrize("node", ["policy", "safety", "arm"])
def test_when_a_node_is_killed_in_motion_the_arm_comes_to_rest_and_is_held(
    deploy, small_deployment: Path, robot: Robot, node: str
):
    with deploy(deployment=small_deployment) as runner:
        robot.set_in_motion(runner)
        runner.children[node].kill()
        robot.assert_comes_to_rest_and_stays()


def test_when_the_policy_is_killed_safety_says_so_and_stays_stopped(
    deploy, small_deployment: Path, robot: Robot, listener
):
    with deploy(deployment=small_deployment) as runner:
        robot.set_in_motion(runner)
        runner.children["policy"].kill()
        listener.wait(lambda: robot.safety == "FALLBACK", 5.0, "FALLBACK")
        robot.assert_comes_to_rest_and_stays()
        assert robot.safety == "FALLBACK"


def test_when_the_cameras_are_covered_the_shipped_policy_is_stopped(deploy, robot: Robot, listener):
    with deploy(source="bundle", bundle=ROOT / "models" / "policies" / "grasp") as runner:
        robot.set_in_motion(runner)
        cover = listener.node.create_client(SetBool, "sim/cover")
        assert listener.call(cover, SetBool.Request(data=True)).message == "the cameras are covered"
        listener.wait(lambda: robot.safety == "FALLBACK", 5.0, "FALLBACK")
        robot.assert_comes_to_rest_and_stays()


def test_every_command_ends_at_rest_so_that_a_dead_arm_node_leaves_nothing_moving(
    deploy, small_deployment: Path, robot: Robot
):
    with deploy(deployment=small_deployment) as runner:
        robot.set_in_motion(runner)
        points = robot.command.points
        assert len(points) >= 2
        assert max(abs(v) for v in points[-1].velocities) == 0.0


def test_ctrl_c_ends_every_process_of_a_deployment(deploy, small_deployment: Path, robot: Robot):
    with deploy(deployment=small_deployment) as runner:
        robot.set_in_motion(runner)
        runner.stop()
        asked = {name: child.returncode for name, child in runner.children.items() if name != "trial"}
        assert set(asked.values()) == {0}
        assert max(abs(v) for v in robot.command.points[-1].velocities) == 0.0


def test_when_all_but_the_robot_are_asked_to_end_the_arm_comes_to_rest_and_stays(
    deploy, small_deployment: Path, robot: Robot
):
    """The order is whatever the system makes of it: each of them may be the last one that talks."""
    with deploy(deployment=small_deployment) as runner:
        robot.set_in_motion(runner)
        others = {name: child for name, child in runner.children.items() if name not in ("sim", "trial")}
        for child in others.values():
            child.terminate()
        robot.assert_comes_to_rest_and_stays()
        assert {child.wait(timeout=10.0) for child in others.values()} == {0}
        assert max(abs(v) for v in robot.command.points[-1].velocities) == 0.0
        assert runner.children["sim"].poll() is None


class Terminal:
    """`policy run` as the foreground of a terminal: a process group of its own, which gets what is typed."""

    def __init__(self, folder: Path, domain_id: int) -> None:
        self.report, self.log = folder / "report.json", folder / "log.txt"
        arguments = ["run", "grasp", "--source", "expert", "--episodes", "0", "--headless", "--json", self.report]
        self._mark = f"STARTED_FROM={folder}"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "policy_bringup.cli", *map(str, arguments), "--domain-id", str(domain_id)],
                cwd=ROOT,
                env={**os.environ, "STARTED_FROM": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def type(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def nodes(self) -> list[int]:
        """Process ids of all that it has started, whoever their parent is by now: they know it by a variable."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # gone meanwhile, or somebody else's
                if self._mark.encode() in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return [pid for pid in found if pid != self.process.pid]


@pytest.fixture
def terminal(ros_environment, tmp_path: Path, domain_id: int) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path, domain_id)
    yield terminal
    print(terminal.log.read_text())
    if terminal.process.poll() is None:
        terminal.process.kill()
        terminal.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_policy_run_in_motion_ends_it_with_its_report_and_leaves_no_process(
    terminal: Terminal, robot: Robot, listener, number: signal.Signals
):
    listener.wait(lambda: robot.moving or terminal.process.poll() is not None, 60.0, "an arm in motion")
    assert len(terminal.nodes()) == 6, "sim, sim_camera, policy, safety, arm, trial"
    terminal.type(number)
    listener.wait(lambda: terminal.process.poll() is not None, 30.0, "the end of policy run")
    assert terminal.process.returncode == 0
    assert terminal.nodes() == []
    assert max(abs(v) for v in robot.command.points[-1].velocities) == 0.0
    assert load_report(terminal.report).facts["real_time_factor"]
    assert "latency from the camera's stamp" in terminal.log.read_text()
    assert "Traceback" not in terminal.log.read_text()


def test_ctrl_c_while_the_nodes_still_start_ends_all_of_them_too(terminal: Terminal, listener):
    listener.wait(lambda: len(terminal.nodes()) >= 3, 30.0, "the first nodes")
    terminal.type(signal.SIGINT)
    listener.wait(lambda: terminal.process.poll() is not None, 30.0, "the end of policy run")
    assert terminal.process.returncode == 0
    assert terminal.nodes() == []
    assert "Traceback" not in terminal.log.read_text()
