"""Our datasets as the real `lerobot` loads them: its metadata, its parquet and its rules on time stamps.

Where there is no torchvision of the installed torch (it has no CPU build everywhere), LeRobot's own decoding is given
a reader of videos made of PyAV, with the few methods that it calls; everything else is LeRobot's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from policy_bringup.core.types import ActionSpec, Column, Contract, ImageSpec, ObservationSpec, Space
from policy_bringup.episodes.frames import Frames, load_frames, save_frames
from policy_bringup.episodes.journal import Outcome
from policy_bringup.episodes.lerobot_export import Source, export_lerobot
from policy_bringup.episodes.lerobot_import import import_lerobot

pytestmark = pytest.mark.lerobot
FPS, LENGTHS = 20, (30, 17, 24)


class VideoReader:
    """What LeRobot uses of torchvision.io.VideoReader: seek to the key frame before, then one picture after another."""

    def __init__(self, path: str, stream: str) -> None:
        import av

        self.container = av.open(path)

    def seek(self, time_s: float, keyframes_only: bool) -> None:
        self.container.seek(int(time_s * 1e6), any_frame=not keyframes_only)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        import torch

        for frame in self.container.decode(video=0):
            yield {"data": torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1), "pts": frame.time}


def provide_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        from torchvision.io import VideoReader as _
    except (ImportError, RuntimeError):
        for name in [each for each in sys.modules if each.split(".")[0] == "torchvision"]:
            monkeypatch.delitem(sys.modules, name)
        names = ("", ".io", ".transforms", ".transforms.v2", ".transforms.v2.functional")
        modules = {f"torchvision{name}": ModuleType(f"torchvision{name}") for name in names}
        for name, module in modules.items():
            module.__spec__ = ModuleSpec(name, None, is_package=True)
            monkeypatch.setitem(sys.modules, name, module)
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(modules[parent], child, module)
        modules["torchvision"].set_video_backend = lambda backend: None  # type: ignore[attr-defined]
        modules["torchvision.io"].VideoReader = VideoReader  # type: ignore[attr-defined]
        modules["torchvision.transforms.v2"].Transform = object  # type: ignore[attr-defined]


@pytest.fixture
def dataset_class(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    pytest.importorskip("torch")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hub" / "datasets"))
    pytest.importorskip("lerobot")
    provide_torchvision(monkeypatch)
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset


def columns(names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "m") for name in names)


@pytest.fixture
def contract() -> Contract:
    images = (ImageSpec("front", 48, 64), ImageSpec("wrist", 32, 32))
    action = ActionSpec(Space.TASK, columns("xyz"), steps=4, dt_s=0.05, execute=2)
    return Contract("panda", ObservationSpec(images, columns("abcd")), action)


@pytest.fixture
def originals(contract: Contract) -> list[Frames]:
    """Pictures of one colour each, so that no two frames of an episode, or of two, look alike."""
    random, found, shown = np.random.default_rng(3), [], 0
    for length in LENGTHS:
        images = {}
        for image in contract.observation.images:
            grey = (20 + 3 * (shown + np.arange(length)) % 220).astype(np.uint8)
            images[image.camera] = np.broadcast_to(
                grey[:, None, None, None], (length, image.height, image.width, 3)
            ).copy()
        shown += length
        stamps = 1_700_000_000_000_000_003 + np.arange(length) * 50_000_000
        driver = np.array(["teleop"] * length)
        found.append(Frames(stamps, images, random.normal(size=(length, 4)), random.normal(size=(length, 3)), driver))
    return found


@pytest.fixture
def exported(tmp_path: Path, contract: Contract, originals: list[Frames]) -> Path:
    pytest.importorskip("pyarrow")
    pytest.importorskip("av")
    sources = []
    for number, frames in enumerate(originals):
        cache = tmp_path / "frames" / f"episode_{number:06d}"
        save_frames(cache, frames, contract)
        sources.append(Source(cache.name, cache, "lift" if number else "open", Outcome.SUCCESS))
    export_lerobot(sources, tmp_path / "out", contract)
    return tmp_path / "out"


def test_lerobot_loads_what_was_exported(dataset_class: Any, exported: Path, originals: list[Frames]) -> None:
    dataset = dataset_class("local/ours", root=exported, video_backend="pyav")
    assert (dataset.num_episodes, dataset.num_frames, dataset.fps) == (3, sum(LENGTHS), FPS)
    assert dataset.meta.names["observation.state"] == list("abcd")
    assert dataset.meta.stats["observation.images.front"]["mean"].shape == (3, 1, 1)
    starts = np.cumsum([0, *LENGTHS])
    for episode, frame in [(0, 0), (0, 29), (1, 0), (1, 7), (2, 0), (2, 23)]:
        item, original = dataset[int(starts[episode] + frame)], originals[episode]
        assert item["task"] == ("lift" if episode else "open")
        assert (item["episode_index"].item(), item["frame_index"].item()) == (episode, frame)
        # LeRobot hands numbers out as torch does by default, in float32; on the disk they are float64.
        assert np.array_equal(item["observation.state"].numpy(), original.state[frame].astype(np.float32))
        assert np.array_equal(item["action"].numpy(), original.action[frame].astype(np.float32))
        assert item["stamp_ns"].item() == original.stamps_ns[frame]
        assert item["driver"] == "teleop"
        for camera, pictures in original.images.items():
            shown = item[f"observation.images.{camera}"].numpy().transpose(1, 2, 0) * 255.0
            assert np.abs(shown - pictures[frame]).max() < 2.5  # the next picture is 3 grey levels away


def test_lerobot_finds_earlier_and_later_frames_by_time(
    dataset_class: Any, exported: Path, originals: list[Frames]
) -> None:
    around = {"action": [0.0, 0.05, 0.1], "observation.images.front": [-0.05, 0.0]}
    dataset = dataset_class("local/ours", root=exported, video_backend="pyav", delta_timestamps=around)
    item = dataset[LENGTHS[0] + 5]
    assert np.array_equal(item["action"].numpy(), originals[1].action[5:8].astype(np.float32))
    shown = item["observation.images.front"].numpy().mean(axis=(1, 2, 3)) * 255.0
    assert np.abs(shown - originals[1].images["front"][4:6].mean(axis=(1, 2, 3))).max() < 1.5
    assert dataset[LENGTHS[0] - 1]["action_is_pad"].tolist() == [False, True, True]


def test_what_lerobot_writes_is_imported(dataset_class: Any, tmp_path: Path, contract: Contract) -> None:
    features = {
        "observation.state": {"dtype": "float32", "shape": (4,), "names": list("dcba")},
        "action": {"dtype": "float32", "shape": (3,), "names": list("xyz")},
        "observation.images.front": {"dtype": "video", "shape": (48, 64, 3), "names": ["height", "width", "channels"]},
        "observation.images.wrist": {"dtype": "image", "shape": (32, 32, 3), "names": ["height", "width", "channels"]},
    }
    theirs = dataset_class.create("local/theirs", FPS, features, root=tmp_path / "theirs", vcodec="h264")
    random = np.random.default_rng(0)
    states = random.normal(size=(2, 8, 4)).astype(np.float32)
    wrist = random.integers(0, 256, (2, 8, 32, 32, 3)).astype(np.uint8)
    for episode in range(2):
        for frame in range(8):
            front = np.full((48, 64, 3), 30 + 100 * episode + 10 * frame, dtype=np.uint8)
            values = {"observation.state": states[episode, frame], "action": states[episode, frame, :3]}
            pictures = {"observation.images.front": front, "observation.images.wrist": wrist[episode, frame]}
            theirs.add_frame({**values, **pictures, "task": "push"})
        theirs.save_episode(parallel_encoding=False)
    theirs.finalize()
    report = import_lerobot(tmp_path / "theirs", tmp_path / "back", contract)
    assert (report.episodes, report.frames, report.failed) == (2, 16, {})
    back = load_frames(tmp_path / "back" / "episode_000001", contract)
    assert np.array_equal(back.state, states[1][:, ::-1].astype(np.float64))  # by name, not by position
    assert back.images["wrist"].tobytes() == wrist[1].tobytes()
    grey = back.images["front"].mean(axis=(1, 2, 3))
    assert np.abs(grey - (130 + 10 * np.arange(8))).max() < 3.0
