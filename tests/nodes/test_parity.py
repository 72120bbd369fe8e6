"""What a policy is given while it runs is what a dataset gives for the recording of that run."""

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core import graph
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.latency import Latency, Measured, save_latency
from policy_bringup.core.types import (
    GRIPPER_COLUMNS,
    TOOL_COLUMNS,
    ActionChunk,
    Contract,
    ImageSample,
    Observation,
    Pose,
    StateSample,
)
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.frames import Frames, read_frames
from policy_bringup.episodes.pictures import picture
from policy_bringup.nodes import endpoints, image_messages, messages
from policy_bringup.nodes.policy_node import PolicyNode
from policy_bringup.sim.expert import load_expert

STAMP = 1_700_000_000_123_456_789
RATE = graph.topic("policy/action").rate_hz
MS = 1_000_000
PICTURES, TICKS_MS = 60, 10
FRONT_NS = tuple(round(i * 1e9 / 30) for i in range(PICTURES))


class KeepingPolicy:
    """Keeps every observation it is given, and wants to stay where the tool was first."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.seen: list[Observation] = []

    def reset(self) -> None:
        """Has no memory."""

    def predict(self, observation: Observation) -> ActionChunk:
        self.seen.append(observation)
        action, names = self.contract.action, self.contract.observation.names
        tool = self.seen[0].state[-1, [names.index(name) for name in TOOL_COLUMNS]]
        values = np.tile([*tool, 0.04, 0.0], (action.steps, 1))
        times = action.dt_s * np.arange(1, action.steps + 1)
        return ActionChunk("policy", observation.stamp_ns, 0, action.names, times, values, np.zeros(action.steps))


class WatchedNode(PolicyNode):
    """The policy node with a policy that keeps what it sees; `taken` counts the messages it has taken in."""

    def __init__(self, policy: KeepingPolicy) -> None:
        super().__init__()
        self.policy = policy
        self.taken: Counter[str] = Counter()
        self.inferred = self.submitted = 0
        self.tables: list[JointTrajectory] = []

    def start(self) -> None:
        super().start()
        submit = self._worker.submit

        def counting(moment: int) -> None:
            self.submitted += 1
            submit(moment)

        self._worker.submit = counting
        publish = self._output.publish

        def keeping(table: JointTrajectory) -> None:
            self.tables.append(table)
            publish(table)

        self._output.publish = keeping

    def _load(self, _latency: Latency) -> KeepingPolicy:
        return self.policy

    def _look(self) -> None:
        super()._look()
        self.taken["looks"] += 1

    def _take_image(self, camera: str, message: Image) -> None:
        super()._take_image(camera, message)
        self.taken[f"camera/{camera}/image_raw"] += 1

    def _take_joints(self, message: JointState) -> None:
        super()._take_joints(message)
        self.taken["joint_states"] += 1

    def _take_object(self, message: PoseStamped) -> None:
        super()._take_object(message)
        self.taken["sim/object_pose"] += 1

    def _infer(self, stamp_ns: int) -> None:
        super()._infer(stamp_ns)
        self.inferred += 1


class Robot:
    """Publishes what cameras, joints and safety would, and records what it hears of it, as bytes, into a bag."""

    TOPICS = (
        "camera/front/image_raw",
        "camera/wrist/image_raw",
        "joint_states",
        "sim/object_pose",
        "safety/action",
        "safety/state",
    )

    def __init__(self, folder: Path) -> None:
        self.node, self.ears = Node("robot"), Node("ears")
        entries = {name: graph.topic(name) for name in self.TOPICS}
        folder.mkdir(parents=True)
        self.bag = BagWriter(folder, [BagTopic(name, topic.type, topic.qos) for name, topic in entries.items()], {})
        self.sent: Counter[str] = Counter()
        self.heard: Counter[str] = Counter()
        self.publishers = {}
        for name, topic in entries.items():
            kind, qos = endpoints.interface(topic.type), endpoints.profile(topic.qos)
            self.publishers[name] = self.node.create_publisher(kind, name, qos)
            qos.depth = 100
            self.ears.create_subscription(kind, name, self._recorder(name), qos, raw=True)

    def say(self, name: str, message: object) -> None:
        self.publishers[name].publish(message)
        self.sent[name] += 1

    def listen(self) -> None:
        rclpy.spin_once(self.ears, timeout_sec=0.001)

    def _recorder(self, name: str) -> Callable[[bytes, dict], None]:
        def record(data: bytes, info: dict) -> None:
            self.bag.write(name, bytes(data), time.time_ns(), info["source_timestamp"])
            self.heard[name] += 1

        return record


@pytest.fixture(scope="module")
def stack(config_folder: Path):
    deployment, robot = load_deployment(config_folder / "grasp.yaml")
    chain = Chain.from_urdf(config_folder / robot.urdf, robot.base_frame, robot.tool_frame, robot.joint_names)
    return deployment, robot, Proprioception(robot, chain)


@pytest.fixture
def site(config_folder: Path, tmp_path: Path) -> Path:
    """Configuration to change, models to read."""
    (tmp_path / "models").symlink_to(config_folder.parent / "models")
    return Path(shutil.copytree(config_folder, tmp_path / "config"))


@pytest.fixture
def start(ros_environment, site: Path, tmp_path: Path) -> Iterator[Callable]:
    """Starts the policy node with a contract, and the robot beside it."""
    rclpy.init(
        args=["--ros-args", "-p", f"deployment:={site / 'grasp.yaml'}", "-p", "source:=expert", "-p", "mode:=sim"]
    )
    nodes: list[Node] = []

    def started(contract: Contract) -> tuple[WatchedNode, Robot]:
        node = WatchedNode(KeepingPolicy(contract))
        nodes.append(node)
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.refusal
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        robot = Robot(tmp_path / "episode_000000")
        nodes.extend((robot.node, robot.ears))
        return node, robot

    yield started
    if nodes:
        nodes[0].wind_down()
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()


def until(condition: Callable[[], object], robot: Robot) -> None:
    """Lets the robot listen until `condition` holds."""
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {robot.sent} sent, {robot.heard} heard"
        robot.listen()


def joint_sample(robot_names: tuple[str, ...], stamp_ns: int, offset_ns: int) -> StateSample:
    """Arm and, last, two fingers: so near their first pose that a policy that wants to stay there is not refused."""
    middle, reach = np.zeros(len(robot_names)), np.full(len(robot_names), 0.01)
    middle[-2:], reach[-2:] = 0.02, 0.005
    values = middle + reach * np.sin(offset_ns / 1e9 + np.arange(len(robot_names)))
    return StateSample(stamp_ns, 0, robot_names, values)


def everything(start_ns: int, names: tuple[str, ...]) -> list[list[tuple[str, object]]]:
    """What the robot says, cut before every picture of the front camera: ((topic, message), ...) by stamp."""
    rng = np.random.default_rng(0)
    said: list[tuple[int, str, object]] = []
    for offset_ns in FRONT_NS:
        for camera, later_ns in (("front", 0), ("wrist", 4 * MS)):
            stamp_ns = start_ns + offset_ns + later_ns
            pixels = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
            said.append(
                (stamp_ns, f"camera/{camera}/image_raw", image_messages.image_message(pixels, stamp_ns, camera))
            )
    for offset_ns in range(0, FRONT_NS[-1], TICKS_MS * MS):
        stamp_ns = start_ns + offset_ns
        sample = joint_sample(names, stamp_ns, offset_ns)
        zeros = np.zeros(len(names))
        said.append((stamp_ns, "joint_states", messages.joint_state(sample, zeros, zeros, "panda_link0")))
        pose = Pose(np.array([0.5, 0.0, offset_ns / 1e9]), np.eye(3))
        said.append((stamp_ns, "sim/object_pose", messages.pose_message(pose, stamp_ns, "panda_link0")))
    cuts = [start_ns + offset_ns for offset_ns in (*FRONT_NS, FRONT_NS[-1] + 10**9)]
    said.sort(key=lambda entry: entry[0])
    return [[(name, message) for ns, name, message in said if a <= ns < b] for a, b in pairwise(cuts)]


def shuffled(entries: list[tuple[str, object]], random_: random.Random) -> list[tuple[str, object]]:
    """Another order among the topics; each topic keeps its own."""
    order = [name for name, _ in entries]
    random_.shuffle(order)
    queues = {name: iter([message for other, message in entries if other == name]) for name in order}
    return [(name, next(queues[name])) for name in order]


def run(node: WatchedNode, robot: Robot, names: tuple[str, ...], state: str = "ACTIVE") -> int:
    """Says everything, with safety in `state`. The ROS time of the first picture, ns."""
    read = [name for name in robot.TOPICS if name in graph_names(node)]
    until(lambda: all(robot.publishers[name].get_subscription_count() >= 1 + (name in read) for name in read), robot)
    until(lambda: all(each.get_subscription_count() for each in robot.publishers.values()), robot)
    random_ = random.Random(0)
    now_ns = time.time_ns()
    status = messages.status("safety", "ok", state, {"state": state, "source": "policy"})
    robot.say("safety/state", messages.diagnostics(now_ns, status))
    chunk = ActionChunk(
        "safety", now_ns, 0, (*TOOL_COLUMNS, *GRIPPER_COLUMNS), np.zeros(1), np.ones((1, 8)), np.zeros(1)
    )
    robot.say("safety/action", messages.table_message(chunk, "panda_link0"))
    for entries in everything(now_ns, names):
        for name, message in shuffled(entries, random_):
            robot.say(name, message)
        until(lambda: robot.heard == robot.sent and all(node.taken[name] == robot.sent[name] for name in read), robot)
        looks = node.taken["looks"]
        until(lambda looks=looks: node.taken["looks"] > looks + 1 and node.inferred == node.submitted, robot)
    robot.bag.close({})
    return now_ns


def graph_names(node: WatchedNode) -> set[str]:
    """The streams its policy reads, pictures, joints and object."""
    spec = node.policy.contract.observation
    cameras = {f"camera/{image.camera}/image_raw" for image in spec.images}
    return cameras | {"joint_states"} | ({"sim/object_pose"} if "object.x" in spec.names else set())


@pytest.mark.parametrize("whose", ["deployment", "expert"])
def test_what_the_live_policy_saw_is_what_the_dataset_gives(start, stack, tmp_path: Path, whose: str):
    """Over DDS, topics in any order: the same moments, and pictures and state equal bit for bit."""
    deployment, robot_file, proprioception = stack
    contract = deployment.contract if whose == "deployment" else load_expert(deployment.contract, robot_file).contract
    node, robot = start(contract)
    run(node, robot, (*robot_file.joint_names, robot_file.gripper.joint, robot_file.gripper.mimic))
    frames: Frames = read_frames(tmp_path / "episode_000000", contract, RATE, proprioception.tool, keep_idle=True)
    assert_alike(node.policy.seen, frames)


def test_a_late_camera_and_arm_are_allowed_for_while_running_as_in_the_dataset(
    start, stack, site: Path, tmp_path: Path
):
    """The front camera's stamps are 20 ms too late, and the arm is where it is asked to be 100 ms later."""
    deployment, robot_file, proprioception = stack
    late = Latency({"front": 0.02}, 0.1)
    save_latency(site / "measured_latency.yaml", Measured(late))
    policy_file = site / "policy.yaml"
    policy_file.write_text(policy_file.read_text().replace("ask_ahead: false", "ask_ahead: true"))
    contract = deployment.contract
    node, robot = start(contract)
    began_ns = run(node, robot, (*robot_file.joint_names, robot_file.gripper.joint, robot_file.gripper.mimic))
    bag = tmp_path / "episode_000000"
    frames = read_frames(bag, contract, RATE, proprioception.tool, keep_idle=True, latency=late)
    assert_alike(node.policy.seen, frames)
    assert {stamp - began_ns for stamp in frames.stamps_ns.tolist()} <= {taken - 20 * MS for taken in FRONT_NS}
    last = [table.points[-1].time_from_start for table in node.tables[1:]]  # the first begins where the arm stands
    assert len(last) > 1
    nominal_s = contract.action.steps * contract.action.dt_s
    assert {round(after.sec + after.nanosec / 1e9, 6) for after in last} == {round(nominal_s - 0.1, 6)}


@pytest.mark.parametrize(("state", "held"), [("ACTIVE", False), ("RETRY", True)])
def test_every_chunk_of_a_policy_that_safety_holds_leaves_from_where_the_arm_stands(
    start, stack, monkeypatch: pytest.MonkeyPatch, state: str, held: bool
):
    deployment, robot_file, _ = stack
    node, robot = start(deployment.contract)
    stands: list[int] = []
    stand = node._stream.stand
    monkeypatch.setattr(node._stream, "stand", lambda now_ns: (stands.append(now_ns), stand(now_ns)))
    run(node, robot, (*robot_file.joint_names, robot_file.gripper.joint, robot_file.gripper.mimic), state)
    assert len(node.tables) > 10
    assert len(stands) == (len(node.tables) if held else 0)


def assert_alike(seen: list[Observation], frames: Frames) -> None:
    assert len(seen) >= 0.9 * PICTURES * RATE / 30
    assert frames.stamps_ns.tolist() == [observation.stamp_ns for observation in seen]
    for i, observation in enumerate(seen):
        assert frames.state[i].tobytes() == observation.state[0].tobytes()
        assert set(observation.images) == set(frames.images)
        for camera, pixels in observation.images.items():
            assert frames.images[camera][i].tobytes() == pixels[0].tobytes()
    assert len({observation.state.tobytes() for observation in seen}) == len(seen)
    assert set(frames.driver) <= {"", "policy"}


RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("kind", "pixels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("mono8", RGB[..., 0]),
        ("rgba8", np.dstack([RGB, RGB[..., 0]])),
        ("bgra8", np.dstack([RGB[..., ::-1], RGB[..., 0]])),
    ],
)
def test_a_picture_is_read_alike_from_a_node_and_from_a_bag(kind: str, pixels: np.ndarray):
    message = image_messages.image_message(RGB, STAMP, "front")
    message.encoding, message.step = kind, pixels[0].size
    message.data = np.ascontiguousarray(pixels).tobytes()
    live = image_messages.image_sample(message, 5, "front")
    recorded = picture(
        encoding.typestore().deserialize_cdr(bytes(serialize_message(message)), encoding.IMAGE), 5, "front"
    )
    assert (recorded.stamp_ns, recorded.received_ns) == (live.stamp_ns, live.received_ns)
    np.testing.assert_array_equal(recorded.pixels, live.pixels)


def test_what_is_encoded_without_ros_is_read_by_ros_as_what_the_nodes_publish():
    sample = StateSample(STAMP, 0, ("a", "bcd"), np.array([1.0, 2.0]))
    velocities, efforts = np.array([3.0, 4.0]), np.array([5.0, 6.0])
    pose = Pose(np.array([1.0, 2.0, 3.0]), np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    chunk = ActionChunk("p", STAMP, 0, ("a", "b"), np.array([0.05, 1.5]), np.eye(2), np.array([0.0, 0.1]))
    values = {"a": True, "b": 0.123456789, "c": None, "d": 3}
    status = messages.diagnostics(STAMP, messages.status("safety", "warn", "why", values))
    pairs = [
        (encoding.image(ImageSample(STAMP, 0, "front", RGB), "front_optical_frame"),
         image_messages.image_message(RGB, STAMP, "front")),
        (encoding.joint_state(sample, velocities, efforts, "base"),
         messages.joint_state(sample, velocities, efforts, "base")),
        (encoding.pose(pose, STAMP, "base"), messages.pose_message(pose, STAMP, "base")),
        (encoding.table(chunk, "base"), messages.table_message(chunk, "base")),
        (encoding.status(STAMP, "safety", "warn", "why", values), status),
    ]  # fmt: skip
    kinds = (Image, JointState, PoseStamped, JointTrajectory, DiagnosticArray)
    for (data, message), kind in zip(pairs, kinds, strict=True):
        assert deserialize_message(data, kind) == message
