"""Small frames of an arm that reaches for a cube: where it goes can be read off its pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.types import Contract, Space
from policy_bringup.episodes.frames import Frames, save_frames
from policy_bringup.learning.dataset import Dataset
from policy_bringup.learning.normalise import Normaliser

SIZE = 32
EPISODES, MOMENTS = 4, 30
START_NS, PERIOD_NS = 1_700_000_000_000_000_000, 50_000_000
HOME = np.array([0.45, 0.0, 0.4])
OPEN, CLOSED, FORCE = 0.08, 0.04, 20.0


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Sums in one order, and no threads that wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def contract(config_folder: Path) -> Contract:
    """The one of config/grasp.yaml, with pictures of 32 x 32."""
    found = load_deployment(config_folder / "grasp.yaml")[0].contract
    images = tuple(replace(image, height=SIZE, width=SIZE) for image in found.observation.images)
    return replace(found, observation=replace(found.observation, images=images))


def _tool(cube: np.ndarray, moments: int) -> np.ndarray:
    """`(moments + 1, 6)`: a smooth way from home to the cube on the table, turning towards it."""
    part = np.clip(np.arange(moments + 1) / (0.8 * moments), 0.0, 1.0)[:, None]
    smooth = part**2 * (3.0 - 2.0 * part)
    yaw = smooth * np.arctan2(cube[1], cube[0])
    return np.hstack([HOME + smooth * (np.array([*cube, 0.02]) - HOME), np.zeros((moments + 1, 2)), yaw])


def _square(picture: np.ndarray, at: np.ndarray, half: int, colour: tuple[int, int, int]) -> None:
    row, column = np.clip(np.round(at), half, SIZE - 1 - half).astype(int)
    picture[row - half : row + half + 1, column - half : column + half + 1] = colour


def _pictures(cube: np.ndarray, tool: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """From the front a red cube and a green tool; from the wrist the cube, the larger the nearer."""
    front, wrist = (rng.integers(90, 110, (len(tool), SIZE, SIZE, 3), np.uint8) for _ in range(2))
    for t, pose in enumerate(tool):
        for at, colour in ((cube, (220, 30, 30)), (pose[:2], (30, 220, 30))):
            _square(front[t], (at - [0.5, 0.0]) * 80.0 + SIZE / 2, 2, colour)
        _square(wrist[t], (cube - pose[:2]) * 80.0 + SIZE / 2, 2 + int(6.0 * (0.42 - pose[2])), (220, 30, 30))
    return {"front": front, "wrist": wrist}


@pytest.fixture(scope="session")
def demonstration() -> Callable[..., Frames]:
    """Makes one episode: (contract, number, moments) -> frames, in which the action is the way's next point."""

    def make(contract: Contract, number: int, moments: int = MOMENTS) -> Frames:
        rng, past = np.random.default_rng(number), contract.observation.history
        cube = rng.uniform([0.4, -0.15], [0.6, 0.15])
        way = _tool(cube, moments)
        width = np.where(np.arange(moments + 1) < 0.8 * moments, OPEN, CLOSED)[:, None]
        joints = way @ np.random.default_rng(0).uniform(-1.0, 1.0, (6, 7))
        state = np.hstack([joints, width / 2.0, way])[:-1]
        arm = way if contract.action.space is Space.TASK else joints
        action = np.hstack([arm, width, np.full_like(width, FORCE)])[1:, : len(contract.action.columns)]
        images = _pictures(cube, way[:-1], rng)
        if past > 1:
            seen = np.maximum(np.arange(moments)[:, None] + np.arange(1 - past, 1), 0)
            state, images = state[seen], {camera: pixels[seen] for camera, pixels in images.items()}
        return Frames(START_NS + PERIOD_NS * np.arange(moments), images, state, action, np.full(moments, "policy"))

    return make


@pytest.fixture(scope="session")
def frames_root(
    tmp_path_factory: pytest.TempPathFactory, contract: Contract, demonstration: Callable[..., Frames]
) -> Path:
    """Folder with the frames of 4 episodes of 30 moments; not to be written to."""
    root = tmp_path_factory.mktemp("frames")
    for number in range(EPISODES):
        save_frames(root / f"episode_{number:06d}", demonstration(contract, number), contract)
    return root


@pytest.fixture(scope="session")
def dataset(frames_root: Path, contract: Contract) -> Dataset:
    """All four episodes."""
    return Dataset.open(frames_root, [f"episode_{number:06d}" for number in range(EPISODES)], contract)


@pytest.fixture(scope="session")
def joint_dataset(
    tmp_path_factory: pytest.TempPathFactory, contract: Contract, demonstration: Callable[..., Frames]
) -> Dataset:
    """The same four episodes under a contract whose actions are joint positions."""
    columns = (*contract.observation.state[:7], *contract.action.columns[6:])
    turned = replace(contract, action=replace(contract.action, space=Space.JOINT, columns=columns))
    root, names = tmp_path_factory.mktemp("joint_frames"), [f"episode_{number:06d}" for number in range(EPISODES)]
    for number, name in enumerate(names):
        save_frames(root / name, demonstration(turned, number), turned)
    return Dataset.open(root, names, turned)


@pytest.fixture
def normaliser(dataset: Dataset) -> Normaliser:
    """With the figures of `dataset`."""
    return Normaliser.of(dataset)
