"""Frames to LeRobotDataset v3.0 and back: numbers to the bit, pictures within the codec's loss."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.types import ActionSpec, Column, Contract, ImageSpec, ObservationSpec, Space
from policy_bringup.episodes import lerobot_files, lerobot_video
from policy_bringup.episodes.frames import Frames, load_frames, save_frames
from policy_bringup.episodes.journal import Outcome, load_journal
from policy_bringup.episodes.lerobot_export import ExportSettings, Source, export_lerobot, sources
from policy_bringup.episodes.lerobot_import import ImportSettings, import_lerobot
from policy_bringup.episodes.lerobot_layout import Fields
from policy_bringup.episodes.lerobot_video import Encoding

FPS = 20
CAMERAS = {"front": (48, 64), "wrist": (32, 32)}


def columns(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "m") for name in names)


@pytest.fixture
def contract() -> Contract:
    images = tuple(ImageSpec(camera, *size) for camera, size in CAMERAS.items())
    action = ActionSpec(Space.TASK, columns("tool.x", "tool.y"), steps=4, dt_s=0.05, execute=2)
    return Contract("panda", ObservationSpec(images, columns("a", "b", "c")), action)


def pictures(random: np.random.Generator, length: int, height: int, width: int) -> np.ndarray:
    """Smooth colours, a square that moves by a pixel a frame, some noise; each unlike its neighbours in brightness."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([60 + x * 90 / width, 60 + y * 90 / height, 100 + 30 * np.sin(x / 9 + y / 7)], axis=2)
    shown = base[None] + random.normal(0, 2, (length, height, width, 3))
    for i in range(length):
        shown[i, 4:12, i % (width - 8) : i % (width - 8) + 8] = (190, 180, 150)
        shown[i] += (-40, 0, 20, -20, 40)[i % 5]
    return shown.clip(0, 255).astype(np.uint8)


@pytest.fixture
def make_frames() -> Callable[..., Frames]:
    def make(seed: int = 0, length: int = 25) -> Frames:
        random = np.random.default_rng(seed)
        jitter = random.integers(-3_000_000, 3_000_000, length)
        stamps = 1_700_000_000_123_456_789 + np.arange(length) * (1_000_000_000 // FPS) + jitter
        images = {camera: pictures(random, length, *size) for camera, size in CAMERAS.items()}
        driver = np.array(["policy"] * (length // 2) + [""] + ["teleop"] * (length - length // 2 - 1))
        # Nothing of this is a float32: one lost bit shows.
        return Frames(stamps, images, random.normal(size=(length, 3)), random.normal(size=(length, 2)) * 1e-9, driver)

    return make


@pytest.fixture
def episodes(tmp_path: Path, contract: Contract, make_frames: Callable[..., Frames]) -> list[Source]:
    """Three episodes of different lengths and labels, saved."""
    outcomes = [Outcome.SUCCESS, Outcome.FAILURE, Outcome.SUCCESS]
    tasks = ["lift the cube", "lift the cube", "open the drawer"]
    found = []
    for number, (length, outcome, task) in enumerate(zip((25, 13, 31), outcomes, tasks, strict=True)):
        cache = tmp_path / "frames" / f"episode_{7 * number:06d}"
        save_frames(cache, make_frames(number, length), contract)
        found.append(Source(cache.name, cache, task, outcome))
    return found


def assert_same(found: Frames, original: Frames, loss: float) -> None:
    """Numbers to the bit, pictures within `loss` grey levels on average, each one of them."""
    for name in ("stamps_ns", "state", "action"):
        one, other = getattr(found, name), getattr(original, name)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    assert found.driver.tolist() == original.driver.tolist()
    assert found.images.keys() == original.images.keys()
    for camera, shown in original.images.items():
        assert found.images[camera].shape == shown.shape
        assert np.abs(found.images[camera].astype(int) - shown).mean(axis=(1, 2, 3)).max() < loss


def test_a_missing_library_is_one_sentence_with_the_extra_to_install(
    tmp_path: Path, contract: Contract, episodes: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        EpisodeError, match=r"is not installed; install it with: pip install 'policy_bringup\[lerobot\]'$"
    ):
        export_lerobot(episodes, tmp_path / "out", contract)
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


class TestWithLibraries:
    """Everything that needs the extra."""

    @pytest.fixture(autouse=True)
    def _libraries(self) -> None:
        pytest.importorskip("pyarrow")
        pytest.importorskip("av")

    @pytest.mark.parametrize("encoding", [Encoding(), Encoding("av1", 30)], ids=lambda encoding: encoding.codec)
    def test_numbers_come_back_to_the_bit_and_pictures_within_the_loss(
        self, tmp_path: Path, contract: Contract, episodes: list[Source], encoding: Encoding
    ) -> None:
        report = export_lerobot(episodes, tmp_path / "out", contract, ExportSettings(encoding=encoding))
        assert (report.episodes, report.frames, report.fps, report.failed) == (3, 69, FPS, {})
        result = import_lerobot(tmp_path / "out", tmp_path / "back", contract)
        assert (result.episodes, result.frames, result.failed) == (3, 69, {})
        for episode in episodes:
            back = load_frames(tmp_path / "back" / episode.name, contract)
            assert_same(back, load_frames(episode.cache), 4.0)
        # What the report says was lost is what is lost in the pictures of the middle.
        for camera, loss in report.loss.items():
            lost = []
            for episode in episodes:
                one = load_frames(episode.cache).images[camera]
                other = load_frames(tmp_path / "back" / episode.name).images[camera]
                lost.append(np.abs(one[len(one) // 2].astype(int) - other[len(one) // 2]).mean())
            assert (loss.mean, loss.worst) == (pytest.approx(np.mean(lost)), pytest.approx(max(lost)))
            assert 0.0 < loss.mean < 4.0

    def test_labels_and_tasks_come_back(self, tmp_path: Path, contract: Contract, episodes: list[Source]) -> None:
        export_lerobot(episodes, tmp_path / "out", contract)
        import_lerobot(tmp_path / "out", tmp_path / "back", contract)
        for episode in episodes:
            journal = load_journal(tmp_path / "back" / episode.name)
            assert (journal.outcome, journal.provenance.task) == (episode.outcome, episode.task)
            assert journal.provenance.driver == "policy and teleop"
        again = sources(sorted((tmp_path / "back").iterdir()))
        assert [(each.name, each.task, each.outcome) for each in again] == [
            (each.name, each.task, each.outcome) for each in episodes
        ]

    def test_the_files_say_what_the_format_asks_for(
        self, tmp_path: Path, contract: Contract, episodes: list[Source]
    ) -> None:
        import pyarrow.parquet as parquet

        out = tmp_path / "out"
        export_lerobot(episodes, out, contract)
        info = json.loads((out / "meta/info.json").read_text())
        assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v3.0", FPS, "panda")
        assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 69, 2)
        assert info["splits"] == {"train": "0:3"}
        assert info["features"]["observation.state"] == {"dtype": "float64", "shape": [3], "names": ["a", "b", "c"]}
        assert info["features"]["observation.images.front"]["shape"] == [48, 64, 3]
        data = parquet.read_table(out / "data/chunk-000/file-000.parquet").to_pydict()
        assert data["index"] == list(range(69))
        assert data["frame_index"] == [*range(25), *range(13), *range(31)]
        assert data["task_index"] == [0] * 38 + [1] * 31
        assert data["timestamp"] == [float(np.float32(i / FPS)) for i in data["frame_index"]]
        rows = parquet.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
        assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in rows] == [(0, 25), (25, 38), (38, 69)]
        starts = [row["videos/observation.images.wrist/from_timestamp"] for row in rows]
        assert starts == [0.0, 25 / FPS, 38 / FPS]
        assert sorted(path.name for path in (out / "videos").iterdir()) == [
            "observation.images.front",
            "observation.images.wrist",
        ]

    def test_the_statistics_are_those_of_all_frames(
        self, tmp_path: Path, contract: Contract, episodes: list[Source]
    ) -> None:
        export_lerobot(episodes, tmp_path / "out", contract)
        found = json.loads((tmp_path / "out/meta/stats.json").read_text())
        every = [load_frames(episode.cache) for episode in episodes]
        state = np.concatenate([frames.state for frames in every])
        of_state = found["observation.state"]
        for name in ("min", "max", "mean", "std"):
            np.testing.assert_allclose(of_state[name], getattr(state, name)(axis=0), rtol=1e-12)
        assert of_state["count"] == [69]
        # Weighted means of three quantiles are near those of all frames, not at them.
        assert np.all(np.abs(of_state["q50"] - np.median(state, axis=0)) < 0.3)
        front = np.concatenate([frames.images["front"] for frames in every]) / 255.0
        of_front = found["observation.images.front"]
        assert np.shape(of_front["mean"]) == (3, 1, 1)
        np.testing.assert_allclose(np.ravel(of_front["mean"]), front.mean(axis=(0, 1, 2)), rtol=1e-9)
        np.testing.assert_allclose(np.ravel(of_front["std"]), front.std(axis=(0, 1, 2)), rtol=1e-9)
        np.testing.assert_allclose(np.ravel(of_front["max"]), front.max(axis=(0, 1, 2)), rtol=1e-12)

    def test_episodes_spread_over_several_files_come_back_the_same(
        self, tmp_path: Path, contract: Contract, episodes: list[Source], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lerobot_files, "DATA_FILE_MB", 1e-6)
        monkeypatch.setattr(lerobot_video, "VIDEO_FILE_MB", 1e-6)
        monkeypatch.setattr("policy_bringup.episodes.lerobot_layout.FILES_PER_CHUNK", 2)
        out = tmp_path / "out"
        export_lerobot(episodes, out, contract)
        files = ["chunk-000/file-000", "chunk-000/file-001", "chunk-001/file-000"]
        for kind, suffix in (("data", "parquet"), ("videos/observation.images.front", "mp4")):
            assert [path.relative_to(out / kind) for path in sorted((out / kind).rglob(f"*.{suffix}"))] == [
                Path(f"{file}.{suffix}") for file in files
            ]
        import_lerobot(out, tmp_path / "back", contract)
        for episode in episodes:
            assert_same(load_frames(tmp_path / "back" / episode.name), load_frames(episode.cache), 4.0)

    def test_field_names_are_a_choice(self, tmp_path: Path, contract: Contract, episodes: list[Source]) -> None:
        fields = Fields("robot", "command", "view_{camera}", "time_ns", "hands")
        export_lerobot(episodes, tmp_path / "out", contract, ExportSettings(fields))
        named = json.loads((tmp_path / "out/meta/info.json").read_text())["features"].keys()
        assert {"robot", "command", "view_front", "view_wrist", "time_ns", "hands"} < named
        import_lerobot(tmp_path / "out", tmp_path / "back", contract, ImportSettings(fields))
        back = load_frames(tmp_path / "back" / episodes[0].name)
        assert_same(back, load_frames(episodes[0].cache), 4.0)

    def test_one_state_column_is_written_as_plain_numbers_and_comes_back(
        self, tmp_path: Path, contract: Contract, make_frames: Callable[..., Frames]
    ) -> None:
        contract = replace(contract, observation=replace(contract.observation, state=columns("a")))
        frames = make_frames()
        save_frames(tmp_path / "frames", replace(frames, state=frames.state[:, :1]), contract)
        source = Source("one", tmp_path / "frames", "lift", Outcome.SUCCESS)
        export_lerobot([source], tmp_path / "out", contract)
        import_lerobot(tmp_path / "out", tmp_path / "back", contract)
        back = load_frames(tmp_path / "back" / "episode_000000")
        assert back.state.tobytes() == frames.state[:, :1].tobytes()

    def test_of_a_history_the_newest_step_is_written(
        self, tmp_path: Path, contract: Contract, make_frames: Callable[..., Frames]
    ) -> None:
        frames = make_frames()
        long = replace(contract, observation=replace(contract.observation, history=2))
        images = {camera: np.stack([shown[::-1], shown], axis=1) for camera, shown in frames.images.items()}
        past = replace(frames, images=images, state=np.stack([-frames.state, frames.state], axis=1))
        save_frames(tmp_path / "frames", past, long)
        export_lerobot([Source("one", tmp_path / "frames", "lift", Outcome.SUCCESS)], tmp_path / "out", long)
        import_lerobot(tmp_path / "out", tmp_path / "back", contract)
        assert_same(load_frames(tmp_path / "back" / "episode_000000"), frames, 4.0)
        with pytest.raises(EpisodeError, match="wants a history"):
            import_lerobot(tmp_path / "out", tmp_path / "other", long)

    def test_progress_is_told_after_every_episode(
        self, tmp_path: Path, contract: Contract, episodes: list[Source]
    ) -> None:
        told: list[tuple[int, int, str]] = []
        export_lerobot(episodes, tmp_path / "out", contract, progress=lambda *each: told.append(each))
        assert told == [(number, 3, episode.name) for number, episode in enumerate(episodes, 1)]
        told.clear()
        import_lerobot(tmp_path / "out", tmp_path / "back", contract, progress=lambda *each: told.append(each))
        assert told == [(number, 3, episode.name) for number, episode in enumerate(episodes, 1)]

    def test_nothing_is_overwritten(self, tmp_path: Path, contract: Contract, episodes: list[Source]) -> None:
        (tmp_path / "out").mkdir()
        with pytest.raises(EpisodeError, match="exists already and is not overwritten"):
            export_lerobot(episodes, tmp_path / "out", contract)
        export_lerobot(episodes, tmp_path / "other", contract)
        with pytest.raises(EpisodeError, match="exists already and is not overwritten"):
            import_lerobot(tmp_path / "other", tmp_path / "out", contract)
        assert list((tmp_path / "out").iterdir()) == []

    def test_an_export_that_is_cut_off_leaves_nothing(
        self, tmp_path: Path, contract: Contract, episodes: list[Source]
    ) -> None:
        def cut_off(done: int, total: int, name: str) -> None:
            if done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export_lerobot(episodes, tmp_path / "out", contract, progress=cut_off)
        assert [path.name for path in tmp_path.iterdir()] == ["frames"]

    @pytest.mark.parametrize(
        ("break_it", "sentence"),
        [
            (lambda f: replace(f, stamps_ns=f.stamps_ns[0] + np.arange(13) * 100_000_000), "10.00 Hz.* 20 fps"),
            (lambda f: replace(f, state=np.where(f.state == f.state[4, 1], np.nan, f.state)), "'b' .* in frame 4"),
            (lambda f: replace(f, images={"front": f.images["front"]}), "pictures of 'wrist' .* found none"),
            (lambda f: replace(f, action=f.action[:, :1]), "2 columns of the contract"),
        ],
        ids=["other rate", "not a number", "no camera", "columns"],
    )
    def test_an_episode_that_cannot_be_used_is_named_and_harms_no_other(
        self,
        tmp_path: Path,
        contract: Contract,
        episodes: list[Source],
        break_it: Callable[[Frames], Frames],
        sentence: str,
    ) -> None:
        bad = episodes[1]
        save_frames(bad.cache, break_it(load_frames(bad.cache)), contract)
        report = export_lerobot(episodes, tmp_path / "out", contract)
        assert list(report.failed) == [bad.name]
        with pytest.raises(AssertionError, match=sentence):
            raise AssertionError(report.failed[bad.name])
        import_lerobot(tmp_path / "out", tmp_path / "back", contract)
        for episode in (episodes[0], episodes[2]):
            assert_same(load_frames(tmp_path / "back" / episode.name), load_frames(episode.cache), 4.0)

    def test_pictures_that_lose_too_much_are_refused(
        self, tmp_path: Path, contract: Contract, episodes: list[Source]
    ) -> None:
        settings = ExportSettings(encoding=Encoding(crf=51), max_loss=1.0)
        with pytest.raises(EpisodeError, match=r"takes \d+\.\d grey levels .* allowed are 1; choose a lower crf"):
            export_lerobot(episodes, tmp_path / "out", contract, settings)
        assert [path.name for path in tmp_path.iterdir()] == ["frames"]

    def test_odd_sides_are_refused_before_anything_is_written(
        self, tmp_path: Path, contract: Contract, make_frames: Callable[..., Frames]
    ) -> None:
        spec = replace(contract.observation, images=(ImageSpec("front", 47, 64),))
        odd, frames = replace(contract, observation=spec), make_frames()
        save_frames(tmp_path / "f", replace(frames, images={"front": frames.images["front"][:, :47]}), odd)
        with pytest.raises(EpisodeError, match="even sides, and the pictures are 64x47"):
            export_lerobot([Source("one", tmp_path / "f", "lift", Outcome.SUCCESS)], tmp_path / "out", odd)

    def test_without_a_usable_episode_there_is_no_dataset(self, tmp_path: Path, contract: Contract) -> None:
        with pytest.raises(EpisodeError, match=r"no episode to export$"):
            export_lerobot([], tmp_path / "out", contract)
        lost = Source("gone", tmp_path / "gone", "lift", Outcome.SUCCESS)
        with pytest.raises(EpisodeError, match=r"no episode to export .*gone: .*holds no frames"):
            export_lerobot([lost], tmp_path / "out", contract)
        assert list(tmp_path.iterdir()) == []

    def test_a_damaged_video_costs_only_its_own_episodes(
        self, tmp_path: Path, contract: Contract, episodes: list[Source], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lerobot_video, "VIDEO_FILE_MB", 1e-6)
        export_lerobot(episodes, tmp_path / "out", contract)
        video = tmp_path / "out/videos/observation.images.front/chunk-000/file-001.mp4"
        video.write_bytes(video.read_bytes()[:200])
        report = import_lerobot(tmp_path / "out", tmp_path / "back", contract)
        assert list(report.failed) == [episodes[1].name]
        assert "file-001.mp4: cannot be read as a video" in report.failed[episodes[1].name]
        assert sorted(path.name for path in (tmp_path / "back").iterdir()) == [episodes[0].name, episodes[2].name]

    def test_what_is_no_such_dataset_is_refused_by_name(
        self, tmp_path: Path, contract: Contract, episodes: list[Source]
    ) -> None:
        with pytest.raises(EpisodeError, match=r"is not a LeRobot dataset \(meta/info.json: No such file"):
            import_lerobot(tmp_path, tmp_path / "back", contract)
        out = tmp_path / "out"
        export_lerobot(episodes, out, contract)
        more = replace(contract.observation, state=columns("a", "b", "d"))
        with pytest.raises(EpisodeError, match=r"'observation.state' lacks the column d; it has a, b, c"):
            import_lerobot(out, tmp_path / "back", replace(contract, observation=more))
        info = json.loads((out / "meta/info.json").read_text())
        (out / "meta/info.json").write_text(json.dumps({**info, "codebase_version": "v2.1"}))
        with pytest.raises(EpisodeError, match=r"of version v2.1; only v3.0 can be read"):
            import_lerobot(out, tmp_path / "back", contract)
        (out / "meta/info.json").write_text("[1]")
        with pytest.raises(EpisodeError, match="is not the description of a LeRobot dataset"):
            import_lerobot(out, tmp_path / "back", contract)

    def test_a_dataset_of_somebody_else_is_read(self, tmp_path: Path, contract: Contract) -> None:
        root, shown = write_foreign(tmp_path / "foreign")
        with pytest.raises(EpisodeError, match="lacks the column a, b, c; it has motor_2, motor_0, motor_1"):
            import_lerobot(root, tmp_path / "back", contract)
        settings = ImportSettings(Fields(images="{camera}_view"), by_position=True, unlabelled=Outcome.SUCCESS)
        report = import_lerobot(root, tmp_path / "back", contract, settings)
        assert (report.episodes, report.frames) == (2, 10)
        back = load_frames(tmp_path / "back" / "episode_000001", contract)
        assert back.state.dtype == np.float64
        assert back.state.tolist() == [[row, row + 0.5, row + 0.25] for row in range(6, 10)]
        assert back.stamps_ns.tolist() == [1_000_000_000 + 100_000_000 * i for i in range(4)]
        assert set(back.driver.tolist()) == {""}
        # PNG loses nothing, and 64x48 becomes 32x32 as a live picture would.
        assert back.images["front"].tobytes() == shown["front"][6:].tobytes()
        assert back.images["wrist"].shape == (4, 32, 32, 3)
        journal = load_journal(tmp_path / "back" / "episode_000001")
        assert (journal.outcome, journal.provenance.task) == (Outcome.SUCCESS, "push; pull")


def write_foreign(root: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Two episodes, 6 and 4 frames at 10 fps, float32, pictures as PNG in the parquet file, names in a group."""
    import cv2
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    random = np.random.default_rng(5)
    shown = {camera: random.integers(0, 256, (10, 48, 64, 3)).astype(np.uint8) for camera in ("front", "wrist")}
    state = np.array([[row, row + 0.5, row + 0.25] for row in range(10)], dtype=np.float32)

    def png(picture: np.ndarray) -> dict[str, Any]:
        return {"bytes": cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes(), "path": None}

    table = {
        "observation.state": state.tolist(),
        "action": state[:, :2].tolist(),
        "frame_index": [*range(6), *range(4)],
        "episode_index": [0] * 6 + [1] * 4,
        "timestamp": [i / 10 for i in [*range(6), *range(4)]],
        **{f"{camera}_view": [png(picture) for picture in each] for camera, each in shown.items()},
    }
    vector = {"dtype": "float32", "shape": [3], "names": {"motors": ["motor_2", "motor_0", "motor_1"]}}
    image = {"dtype": "image", "shape": [48, 64, 3], "names": ["height", "width", "channels"]}
    described = {
        "observation.state": vector,
        "action": {**vector, "shape": [2], "names": None},
        "front_view": image,
        "wrist_view": image,
    }
    where = {"data/chunk_index": 0, "data/file_index": 0}
    rows = [
        {"episode_index": i, "tasks": tasks, "length": length, **where}
        for i, (tasks, length) in enumerate([(["push"], 6), (["push", "pull"], 4)])
    ]
    data = root / "data/chunk-000/file-000.parquet"
    meta = root / "meta/episodes/chunk-000/file-000.parquet"
    for path, content in ((data, arrow.table(table)), (meta, arrow.Table.from_pylist(rows))):
        path.parent.mkdir(parents=True)
        parquet.write_table(content, path)
    pattern = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    info = {"codebase_version": "v3.0", "fps": 10, "features": described, "data_path": pattern, "video_path": None}
    (root / "meta/info.json").write_text(json.dumps(info))
    return root, shown


@pytest.mark.parametrize("name", ["", "observation/state", "timestamp", "action"])
def test_a_field_name_that_the_format_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(EpisodeError, match="must be a text without '/', used once"):
        Fields(state=name)
    with pytest.raises(EpisodeError, match=r"must hold \{camera\}"):
        Fields(images="pictures")


@pytest.mark.parametrize(("codec", "crf"), [("h264", 52), ("av1", 64), ("h264", -1), ("mjpeg", 10)])
def test_an_encoding_outside_its_range_is_refused(codec: Any, crf: int) -> None:
    with pytest.raises(EpisodeError, match="allowed are h264 with 0 to 51, av1 with 0 to 63"):
        Encoding(codec, crf)
