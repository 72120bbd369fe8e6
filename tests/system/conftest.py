"""Runs whole deployments as processes, and listens to them over real DDS."""

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from onnx import TensorProto, helper, numpy_helper
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from policy_bringup.core.decoding import values_of
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.startup import Options, environment
from policy_bringup.core.types import Contract
from policy_bringup.inference.bundle import write_bundle
from policy_bringup.inference.manifest import Fingerprint, Provenance, Uncertainty
from policy_bringup.runner import Runner

ROOT = Path(__file__).resolve().parents[2]


class Listener:
    """A plain rclpy node in the test's own process."""

    def __init__(self) -> None:
        self.node = Node("operator")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def wait(self, condition: Callable[[], object], timeout_s: float, what: str) -> None:
        """Spins until `condition` holds."""
        assert self.comes(condition, timeout_s), f"waited {timeout_s:.0f} s in vain for: {what}"

    def comes(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Spins until `condition` holds: whether it did in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() >= deadline:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def call(self, client, request, timeout_s: float = 15.0):
        """Calls a service and returns its answer. Asks three times, so for requests that bear it: DDS may lose the
        answer to a client that its server has not discovered yet."""
        self.wait(client.service_is_ready, timeout_s, f"service {client.srv_name}")
        asked: list[Future] = []
        answered = lambda: any(future.done() for future in asked)  # noqa: E731
        for _ in range(3):
            asked.append(client.call_async(request))
            if self.comes(answered, timeout_s / 3):
                break
        self.wait(answered, 0.0, f"answer of {client.srv_name} in {timeout_s:.0f} s")
        return next(future.result() for future in asked if future.done())

    def arm(self, client) -> bool:
        """Arms safety, which refuses a second request: it is armed already if the answer to the first was lost."""
        answer = self.call(client, SetBool.Request(data=True))
        return answer.success or answer.message == "cannot arm in ACTIVE"

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()


class Recorder:
    """What an operator sees of the recorder, and the buttons."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.state: dict[str, str] = {}
        self.node = node = listener.node
        self._buttons = {name: node.create_client(Trigger, f"recorder/{name}") for name in ("start", "stop", "discard")}
        self._success = node.create_client(SetBool, "recorder/success")
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(DiagnosticArray, "recorder/state", self._take, latched)

    def begin(self) -> None:
        """Starts a recording, as soon as the recorder hears everything that an episode needs."""
        assert self._listener.comes(self._begun, 30.0), self._answer.message

    def _begun(self) -> bool:
        """The answer to the first request may be lost, and the second is then refused: it is recording already."""
        self._answer = self._listener.call(self._buttons["start"], Trigger.Request(), 30.0)
        return self._answer.success or "is being recorded" in self._answer.message

    def press(self, name: str) -> str:
        answer = self._listener.call(self._buttons[name], Trigger.Request(), 30.0)
        assert answer.success, answer.message
        return answer.message

    def refused(self, name: str) -> str:
        answer = self._listener.call(self._buttons[name], Trigger.Request(), 30.0)
        assert not answer.success
        return answer.message

    def label(self, success: bool) -> str:
        return self._listener.call(self._success, SetBool.Request(data=success)).message

    def wait_for(self, megabytes: float) -> None:
        self.wait_until(lambda _: self._written_mb >= megabytes, f"{megabytes} MB in the bag")

    def wait_for_more(self, megabytes: float) -> None:
        """Than there are now."""
        self.wait_for(self._written_mb + megabytes)

    @property
    def _written_mb(self) -> float:
        return float(self.state.get("written_mb", 0.0))

    def wait_until(self, condition: Callable[[dict[str, str]], bool], what: str) -> None:
        self._listener.wait(lambda: condition(self.state), 30.0, what)

    def _take(self, message: DiagnosticArray) -> None:
        self.state = values_of(message.status[0])
        self.sentence = message.status[0].message


@pytest.fixture(scope="session", autouse=True)
def ros_environment(domain_id: int) -> None:
    os.environ.update(environment(ROOT / "config", domain_id, pictures=True))


@pytest.fixture
def listener(ros_environment) -> Iterator[Listener]:
    rclpy.init()
    listener = Listener()
    yield listener
    listener.close()
    rclpy.try_shutdown()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a deployment of its own: configuration to change, models to read."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "models").symlink_to(ROOT / "models")
    return tmp_path


@pytest.fixture
def small_deployment(site: Path) -> Path:
    """With pictures so small that any machine draws them in time, whatever else it has to do."""
    deployment = site / "config" / "grasp.yaml"
    deployment.write_text(deployment.read_text().replace("128", "32"))
    return deployment


@pytest.fixture
def recorder(listener) -> Recorder:
    return Recorder(listener)


@pytest.fixture
def deploy(domain_id: int, tmp_path: Path):
    """Starts a deployment; every process has ended when the test has."""

    @contextmanager
    def start(**choices) -> Iterator[Runner]:
        options = {
            "mode": "sim",
            "deployment": ROOT / "config" / "grasp.yaml",
            "source": "expert",
            "episodes": 0,
            "report": tmp_path / "report.json",
            "domain_id": domain_id,
            **choices,
        }
        log = io.StringIO()
        runner = Runner(Options(**options), log)
        try:
            with runner:
                runner.log = log
                yield runner
        finally:
            print(log.getvalue())
            assert all(child.poll() is not None for child in runner.children.values())

    return start


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[[Path], Path]:
    """Makes a bundle for a deployment whose graph asks to stay where the robot is, for ever."""

    def make(deployment_path: Path) -> Path:
        deployment, robot = load_deployment(deployment_path)
        contract = deployment.contract
        names, columns = contract.observation.names, contract.action.names
        weights = np.zeros((len(names), len(columns)), np.float32)
        for column in columns[:6]:
            weights[names.index(column), columns.index(column)] = 1.0
        weights[names.index("panda_finger_joint1"), columns.index("gripper.width")] = 2.0
        offset = np.zeros(len(columns), np.float32)
        offset[columns.index("gripper.force")] = 20.0
        images = contract.observation.images
        home = dict(zip(robot.joint_names, robot.home, strict=True)) | {robot.gripper.joint: robot.gripper.home / 2.0}
        start = tuple(float(home.get(name, 0.0)) for name in names)
        bundle = write_bundle(
            tmp_path / "bundle",
            contract=contract,
            uncertainty=Uncertainty("ensemble", 0.25, 0.05, 40),
            fingerprint=Fingerprint({image.camera: (0.0,) * 64 for image in images}, start),
            provenance=Provenance("d" * 64, "c" * 64, "a" * 40),
            opset=17,
            parity_max_abs_error=0.0,
            model=hover_graph(contract, weights, offset),
        )
        return bundle.folder

    return make


@pytest.fixture
def grasp_bundle(make_bundle) -> Path:
    return make_bundle(ROOT / "config" / "grasp.yaml")


def hover_graph(contract: Contract, weights: np.ndarray, offset: np.ndarray) -> bytes:
    """action = state W + offset, the same for every step; uncertainty 0; pictures are read and not used."""
    steps, width = contract.action.steps, len(contract.action.columns)
    images = [
        helper.make_tensor_value_info(f"image.{i.camera}", TensorProto.UINT8, (1, 1, i.height, i.width, 3))
        for i in contract.observation.images
    ]
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, (1, 1, weights.shape[0]))
    constants = {
        "weights": weights,
        "offset": offset,
        "shape": np.array([1, steps, width], np.int64),
        "sure": np.zeros((1, steps), np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["state", "weights"], ["product"]),
        helper.make_node("Add", ["product", "offset"], ["row"]),
        helper.make_node("Expand", ["row", "shape"], ["action"]),
        helper.make_node("Identity", ["sure"], ["uncertainty"]),
    ]
    graph = helper.make_graph(
        nodes,
        "hover",
        [*images, state],
        [
            helper.make_tensor_value_info("action", TensorProto.FLOAT, (1, steps, width)),
            helper.make_tensor_value_info("uncertainty", TensorProto.FLOAT, (1, steps)),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
