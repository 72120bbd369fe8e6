from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from policy_bringup.core.errors import ObservationError
from policy_bringup.core.tensor_names import STATE_INPUT, image_input
from policy_bringup.core.types import Contract
from policy_bringup.inference.bundle import write_bundle
from policy_bringup.inference.graph import Graph
from policy_bringup.inference.manifest import Fingerprint, Provenance, Uncertainty
from policy_bringup.inference.parity import PARITY_FILE, make_samples, save_samples
from policy_bringup.inference.providers import CPU_PROVIDER
from policy_bringup.inference.watched import WatchedPolicy
from policy_bringup.pipeline.attempt import PLAIN, Attempt
from policy_bringup.pipeline.evaluate import Evaluation, Plan
from policy_bringup.pipeline.play import expert
from policy_bringup.sim.expert import load_expert
from policy_bringup.sim.rollout import Stack, load_stack
from policy_bringup.sim.trace import Stop

FIRST = 1_000_000


@pytest.fixture(scope="session")
def stack(config_folder) -> Stack:
    return load_stack(config_folder)


@pytest.fixture(scope="session")
def make_attempt():
    """An undisturbed success in 4 s; keywords change it."""
    good = Attempt(
        condition=PLAIN,
        seed=FIRST,
        backend="raycast",
        success=True,
        outcome="",
        time_s=4.0,
        doubt=0.1,
        closed_m=0.002,
        peak_m=0.12,
        unanswered=0,
        unanswered_reason="",
        jumps=0,
        arm_refusals=0,
        arm_reason="",
        stop=None,
        motion=((0.1, 1.1), (2.0, 3.0)),
        onset_s=None,
        travel_m=0.0,
        taken_ms=(2.0, 4.0),
    )
    return lambda **changes: replace(good, **changes)


@pytest.fixture(scope="session")
def stopped(make_attempt):
    """A failure that a rule of the monitor made."""

    def make(rule: str, time_s: float = 2.0, **changes) -> Attempt:
        stop = Stop(time_s, rule, f"because of {rule}")
        return make_attempt(**{"success": False, "outcome": "untouched", "stop": stop, **changes})

    return make


@pytest.fixture
def make_evaluation(config_folder):
    """An evaluation of given attempts, by condition; the monitor's threshold is 1."""

    def make(attempts, unguarded=(), **changes) -> Evaluation:
        plan = Plan(config_folder, "someone", expert, episodes=len(attempts[PLAIN]))
        whole = Evaluation(
            plan,
            1.0,
            "raycast",
            ("front", "wrist"),
            {name: tuple(group) for name, group in attempts.items()},
            {attempt.seed: attempt for attempt in unguarded},
            (),
            {},
            12.0,
        )
        return replace(whole, **changes)

    return make


@pytest.fixture(scope="session")
def pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    return {camera: rng.integers(30, 220, (16, 20, 3)).astype(np.uint8) for camera in ("front", "wrist")}


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


class Leaping:
    """The expert, but it looks at both cameras, and doubts for good once a picture leaps."""

    def __init__(self, contract, robot):
        self._expert, self._last, self._leap = load_expert(contract, robot), {}, 0.0
        observation = replace(self._expert.contract.observation, images=contract.observation.images)
        self.contract = replace(self._expert.contract, observation=observation)

    def reset(self):
        self._expert.reset()
        self._last, self._leap = {}, 0.0

    def predict(self, observation):
        seen = {camera: pixels[-1].astype(float) for camera, pixels in observation.images.items()}
        leaps = [float(np.abs(seen[camera] - last).mean()) for camera, last in self._last.items()]
        self._last, self._leap = seen, max(self._leap, *leaps, 0.0) if leaps else 0.0
        chunk = self._expert.predict(observation)
        return replace(chunk, uncertainty=np.full(len(chunk.times_s), self._leap / 100.0))


class Seeing(WatchedPolicy):
    """The same, watched by a single rule: it refuses black pictures."""

    def __init__(self, policy):
        blank = {image.camera: (0.0,) * 64 for image in policy.contract.observation.images}
        super().__init__(policy, Fingerprint(blank, (0.0,) * len(policy.contract.observation.state)))

    def predict(self, observation):
        for camera, pixels in observation.images.items():
            if pixels[-1].mean() < 1.0:
                raise ObservationError(f"camera {camera} is black")
        return self.unwatched.predict(observation)


def seeing(stack):
    """Safety stops it above a doubt of 0.25: a leap of 25 grey levels on average."""
    return Seeing(Leaping(stack.deployment.contract, stack.robot)), 0.25


class Moody:
    """The expert, unsure for a while in the middle of every episode; where the object lies to the left, it reaches
    beside it."""

    def __init__(self, contract, robot):
        self._expert = load_expert(replace(contract, observation=replace(contract.observation, images=())), robot)
        self.contract = self._expert.contract
        self._began_ns = 0

    def reset(self):
        self._expert.reset()
        self._began_ns = 0

    def predict(self, observation):
        self._began_ns = self._began_ns or observation.stamp_ns
        names, state = self.contract.observation.names, observation.state.copy()
        if state[-1, names.index("object.y")] > 0.0:
            state[:, names.index("object.y")] += 0.05
        chunk = self._expert.predict(replace(observation, state=state))
        seconds = (observation.stamp_ns - self._began_ns) / 1e9
        doubt = 0.6 if 1.0 < seconds < 1.5 else 0.1
        return replace(chunk, uncertainty=np.full(len(chunk.times_s), doubt))


def moody(stack):
    return Moody(stack.deployment.contract, stack.robot), 0.5


def careless(stack):
    """The same, with a threshold that its doubt never reaches."""
    return Moody(stack.deployment.contract, stack.robot), 0.7


@pytest.fixture(scope="session")
def policies():
    return {"seeing": seeing, "moody": moody, "careless": careless}


@pytest.fixture(scope="session")
def small_config(tmp_path_factory, config_folder) -> Path:
    """The configuration, with cameras of 24 x 24 pixels: quickly drawn."""
    root = tmp_path_factory.mktemp("small")
    shutil.copytree(config_folder, root / "config")
    (root / "models").symlink_to(config_folder.parent / "models")
    path = root / "config" / "grasp.yaml"
    text = path.read_text()
    assert "width: 128, height: 128" in text
    assert "height: 128, width: 128" in text
    text = text.replace("width: 128, height: 128", "width: 24, height: 24")
    path.write_text(text.replace("height: 128, width: 128", "height: 24, width: 24"))
    return root / "config"


def hover_graph(contract: Contract) -> bytes:
    """Stay where the tool is, fingers open, surely: pictures are read and not used."""
    action, names = contract.action, contract.observation.names
    weights = np.zeros((len(names), len(action.names)), np.float32)
    offset = np.zeros(len(action.names), np.float32)
    for column in action.names[:6]:
        weights[names.index(column), action.names.index(column)] = 1.0
    offset[action.names.index("gripper.width")] = 0.08
    size = (1, action.steps, len(action.names))
    constants = {"w": weights, "b": offset, "size": np.array(size), "uncertainty": np.zeros(size[:2], np.float32)}
    nodes = [
        helper.make_node("MatMul", ["state", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["row"]),
        helper.make_node("Expand", ["row", "size"], ["action"]),
    ]
    images = [
        helper.make_tensor_value_info(f"image.{i.camera}", TensorProto.UINT8, (1, 1, i.height, i.width, 3))
        for i in contract.observation.images
    ]
    graph = helper.make_graph(
        nodes,
        "hover",
        [*images, helper.make_tensor_value_info("state", TensorProto.FLOAT, (1, 1, len(names)))],
        [
            helper.make_tensor_value_info("action", TensorProto.FLOAT, size),
            helper.make_tensor_value_info("uncertainty", TensorProto.FLOAT, size[:2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def hover_samples(model: bytes, contract: Contract) -> bytes:
    """What it answers to one black moment."""
    feeds = {
        image_input(i.camera): np.zeros((1, 1, i.height, i.width, 3), np.uint8) for i in contract.observation.images
    }
    feeds[STATE_INPUT] = np.zeros((1, 1, len(contract.observation.state)), np.float32)
    answers = {f"input.{name}": array for name, array in feeds.items()}
    answers |= {
        f"output.{name}": a for name, a in Graph(model, contract, (CPU_PROVIDER,), 1, "hover").run(feeds).items()
    }
    return save_samples(make_samples(answers, contract, "hover"))


CALIBRATED = Uncertainty("ensemble", 0.123, 0.05, 40)


@pytest.fixture(scope="session")
def hovering():
    """Writes a bundle whose policy stays where it is; calibrated, unless told otherwise."""

    def write(folder, contract, *, uncertainty=CALIBRATED, files=None):
        model = hover_graph(contract)
        cameras = {image.camera: (0.0,) * 64 for image in contract.observation.images}
        return write_bundle(
            folder,
            contract=contract,
            uncertainty=uncertainty,
            fingerprint=Fingerprint(cameras, (0.0,) * 14),
            provenance=Provenance("d" * 64, "c" * 64, "a" * 40),
            opset=17,
            parity_max_abs_error=0.0,
            model=model,
            files={PARITY_FILE: hover_samples(model, contract), **(files or {})},
        )

    return write


@pytest.fixture
def handlers():
    """Running a deployment takes the signals over; they are given back."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
