"""`policy calibrate-latency` over real topics: it finds lateness that was put there, and moves nothing unasked."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool

from policy_bringup.core.decoding import values_of
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.latency import UNMEASURED, Latency, Measured, load_latency, save_latency

ROOT = Path(__file__).resolve().parents[2]
HARDWARE = Latency({"front": 0.03}, 0.1)
CAMERA_LATE_S, ARM_LATE_S = 0.08, 0.06
CAMERA_ERROR_S, ARM_ERROR_S = 0.012, 0.02
"""Commands arrive 100 times a second, so an arm can be made late by a whole number of 10 ms only."""

LATE = f"""
import sys, time
words = " ".join(sys.orig_argv)
if "sim_camera_node" in words:
    from policy_bringup.nodes.camera_output import CameraOutput
    publish = CameraOutput.publish
    def late(self, pixels, stamp_ns):
        publish(self, pixels, stamp_ns + ({round(CAMERA_LATE_S * 1e9)} if self._camera == "front" else 0))
    CameraOutput.publish = late
elif "sim_node" in words:
    from policy_bringup.sim.world import World
    command, waiting = World.command, []
    def late(self, told, now_s):
        waiting.append((time.monotonic() + {ARM_LATE_S}, told))
        while waiting and waiting[0][0] <= time.monotonic():
            command(self, waiting.pop(0)[1], now_s)
    World.command = late
"""
"""A robot whose front camera stamps its pictures too late, and whose arm follows late: in every process of it."""


@dataclass
class Operator:
    """Arms, and sees what the arm does."""

    listener: object
    states: list[dict[str, str]] = field(default_factory=list)
    joints: list[np.ndarray] = field(default_factory=list)
    health: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        node = self.listener.node
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        sensor = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._subscriptions = [
            node.create_subscription(DiagnosticArray, "/diagnostics", self._take_health, 50),
            node.create_subscription(
                DiagnosticArray, "safety/state", lambda m: self.states.append(values_of(m.status[0])), latched
            ),
            node.create_subscription(JointState, "joint_states", lambda m: self.joints.append(m.position), sensor),
        ]
        self.arm, self.stop = (node.create_client(SetBool, f"safety/{name}") for name in ("arm", "stop"))

    def _take_health(self, message: DiagnosticArray) -> None:
        self.health.update({status.name: status.message for status in message.status})

    def wait_for_an_offer(self) -> None:
        self.states.clear()
        self.health.clear()
        self.listener.wait(lambda: self.health.get("latency") == "waits to be armed", 60.0, "who measures")
        offered = lambda: self.states and self.states[-1]["offered"] == "policy"  # noqa: E731
        self.listener.wait(offered, 60.0, "a policy that asks to be armed")


@pytest.fixture
def operator(listener) -> Operator:
    return Operator(listener)


@pytest.fixture
def site(site: Path) -> Path:
    """With small pictures, which any machine draws in time, and a late robot."""
    grasp = site / "config" / "grasp.yaml"
    grasp.write_text(grasp.read_text().replace("128", "64"))
    (site / "late").mkdir()
    (site / "late" / "sitecustomize.py").write_text(LATE)
    return site


def calibrate(site: Path, domain_id: int, *paths: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "policy_bringup.cli", "calibrate-latency", str(site / "config" / "grasp.yaml")]
    path = os.pathsep.join(str(folder) for folder in (*paths, ROOT / "src"))
    return subprocess.Popen(
        [*command, "--headless", "--json", str(site / "rows.json"), "--domain-id", str(domain_id)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def measure(site: Path, domain_id: int, operator: Operator, *paths: Path) -> dict[str, dict[str, float]]:
    """One calibration, armed by the operator. Nothing moved before that."""
    process = calibrate(site, domain_id, *paths)
    try:
        operator.wait_for_an_offer()
        operator.joints.clear()
        operator.listener.wait(lambda: len(operator.joints) > 50, 10.0, "joint states")
        assert np.ptp(np.array(operator.joints[:50]), axis=0).max() < 1e-3
        assert operator.listener.arm(operator.arm)
        operator.listener.wait(lambda: process.poll() is not None, 40.0, "the end")
    finally:
        process.kill()
        said = process.communicate()[0]
        print(said)
    assert process.returncode == 0
    assert "Traceback" not in said
    rows = json.loads((site / "rows.json").read_text())
    print(rows)
    return rows


def test_known_lateness_is_found_and_written_where_the_deployment_reads_it_for_that_mode(site, domain_id, operator):
    save_latency(site / "config" / "measured_latency.yaml", Measured(sim=UNMEASURED, hardware=HARDWARE))
    plain = measure(site, domain_id, operator)
    for camera in ("front", "wrist"):
        assert plain[f"camera {camera}"]["s"] == pytest.approx(0.0, abs=CAMERA_ERROR_S)
    late = measure(site, domain_id, operator, site / "late")
    assert late["camera front"]["s"] == pytest.approx(CAMERA_LATE_S, abs=CAMERA_ERROR_S)
    assert late["camera wrist"]["s"] == pytest.approx(0.0, abs=CAMERA_ERROR_S)
    assert late["actuator"]["s"] - plain["actuator"]["s"] == pytest.approx(ARM_LATE_S, abs=ARM_ERROR_S)
    config = site / "config"
    measured = load_latency(config, load_deployment(config / "grasp.yaml")[0])
    written = measured.of("sim", "")
    assert (measured.hardware, measured.gazebo) == (HARDWARE, None)
    assert written.cameras["front"] == pytest.approx(late["camera front"]["s"], abs=1e-4)
    assert written.actuator_s == pytest.approx(late["actuator"]["s"], abs=1e-4)


def test_a_stop_before_the_end_gives_a_sentence_and_no_number(site, domain_id, operator):
    before = (site / "config" / "measured_latency.yaml").read_text()
    process = calibrate(site, domain_id)
    try:
        operator.wait_for_an_offer()
        assert operator.listener.arm(operator.arm)
        operator.listener.wait(lambda: operator.health.get("latency") == "measures", 10.0, "the begin of the motion")
        assert operator.listener.call(operator.stop, SetBool.Request(data=True)).success
        operator.listener.wait(lambda: process.poll() is not None, 20.0, "the end")
    finally:
        process.kill()
        said = process.communicate()[0]
    assert process.returncode == 1
    assert "not measured: safety is ESTOP before the motion was over: the e-stop is pressed" in said
    assert "nothing was measured" in said
    assert not (site / "rows.json").exists()
    assert (site / "config" / "measured_latency.yaml").read_text() == before
