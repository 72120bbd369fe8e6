from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import pytest

from policy_bringup.core import graph
from policy_bringup.core.errors import EpisodeError, ObservationError
from policy_bringup.core.observation import resize
from policy_bringup.core.types import (
    ActionChunk,
    ActionSpec,
    Column,
    Contract,
    ImageSample,
    ImageSpec,
    ObservationSpec,
    Pose,
    Space,
    StateSample,
)
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.frames import load_frames, read_frames, save_frames

START = 1_700_000_000_000_000_000
MS = 1_000_000
RATE = 20.0
COLUMNS = (Column("tool.x", "m"), Column("gripper.width", "m"))
SPEC = ObservationSpec(
    (ImageSpec("front", 4, 6), ImageSpec("wrist", 2, 2)), (Column("j1", "rad"), Column("tool.x", "m"))
)
CONTRACT = Contract("panda", SPEC, ActionSpec(Space.TASK, COLUMNS, 4, 0.05, 2))
LATE_MS, SENT_MS = 3, 1
"""Every message is published 1 ms after its stamp and recorded 3 ms after it."""


def tool_of(sample: StateSample) -> StateSample:
    if "j1" not in sample.names:
        raise ObservationError("joint_states: j1 missing")
    return replace(sample, names=("tool.x",), values=2.0 * sample.values[sample.names.index("j1")][None])


def read(folder, contract=CONTRACT, rate_hz=RATE, keep_idle=False):
    return read_frames(folder, contract, rate_hz, tool_of, keep_idle)


def pixels(ms: float, shape) -> np.ndarray:
    return np.random.default_rng(int(ms)).integers(0, 256, shape, dtype=np.uint8)


def picture(camera: str, ms: float, shape=(8, 12, 3)) -> bytes:
    return encoding.image(ImageSample(START + round(ms * MS), 0, camera, pixels(ms, shape)), f"{camera}_optical_frame")


def joints(ms: float, names=("finger", "j1")) -> bytes:
    sample = StateSample(START + round(ms * MS), 0, names, np.array([0.0, ms / 1000.0]))
    return encoding.joint_state(sample, np.zeros(2), np.zeros(2), "base")


def action(ms: float, seen_ms: float, names=("gripper.width", "tool.x")) -> bytes:
    """What was published at `ms`: its first column says when."""
    values = np.array([[0.04, ms]])
    chunk = ActionChunk("safety", START + round(seen_ms * MS), 0, names, np.zeros(1), values, np.zeros(1))
    return encoding.table(chunk, "base")


def state(ms: float, driver: str) -> bytes:
    word = "ACTIVE" if driver else "READY"
    return encoding.status(START + round(ms * MS), "safety", "ok", word, {"state": word, "source": driver or "policy"})


@dataclass
class Recording:
    """A bag in the making: topic -> (type, [(stamp in ms, bytes)])."""

    messages: dict[str, tuple[str, list[tuple[float, bytes]]]] = field(default_factory=dict)

    def put(self, topic: str, kind: str, entries: list[tuple[float, bytes]]) -> None:
        self.messages[topic] = kind, entries

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        topics = [BagTopic(topic, kind, graph.EVENT) for topic, (kind, _) in self.messages.items()]
        writer = BagWriter(folder, topics, {})
        every = [(ms, topic, data) for topic, (_, entries) in self.messages.items() for ms, data in entries]
        for ms, topic, data in sorted(every, key=lambda entry: entry[0]):
            at = START + round(ms * MS)
            writer.write(topic, data, at + LATE_MS * MS, at + SENT_MS * MS)
        writer.close({})
        return folder


FRONT_MS = tuple(i * 1000.0 / 30 for i in range(60))
WRIST_MS = 4
"""The wrist camera's pictures come so much later than the other's."""
DRIVERS = ((0, ""), (500, "teleop"), (1000, "policy"), (1500, ""))


@pytest.fixture
def recording() -> Recording:
    """Two seconds: pictures at 30 Hz, joint states and actions at 100 Hz; somebody drives from 0.5 s to 1.5 s."""
    made = Recording()
    wrist = [(ms + WRIST_MS, picture("wrist", ms + WRIST_MS, (4, 4, 3))) for ms in FRONT_MS]
    made.put("camera/front/image_raw", encoding.IMAGE, [(ms, picture("front", ms)) for ms in FRONT_MS])
    made.put("camera/wrist/image_raw", encoding.IMAGE, wrist)
    made.put("joint_states", encoding.JOINT_STATE, [(ms, joints(ms)) for ms in range(0, 2000, 10)])
    made.put("safety/action", encoding.TABLE, [(ms, action(ms, ms - 80)) for ms in range(500, 1500, 10)])
    made.put("safety/state", encoding.STATUS, [(ms, state(ms, driver)) for ms, driver in DRIVERS])
    return made


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "episode_000042"


def refusal(folder, **options) -> str:
    with pytest.raises(EpisodeError) as error:
        read(folder, **options)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(folder / "episode_000042_0.mcap"))
    return str(error.value)


def stamps_ms(frames) -> list[float]:
    return [(int(stamp) - START) / MS for stamp in frames.stamps_ns]


def test_shapes_and_types_are_the_contracts(recording, folder):
    frames = read(recording.write(folder))
    count = len(frames.stamps_ns)
    assert 19 <= count <= 21
    assert (frames.stamps_ns.dtype, frames.driver.dtype.kind) == (np.int64, "U")
    assert {camera: (p.shape, p.dtype) for camera, p in frames.images.items()} == {
        "front": ((count, 4, 6, 3), np.uint8),
        "wrist": ((count, 2, 2, 3), np.uint8),
    }
    assert (frames.state.shape, frames.action.shape) == ((count, 2), (count, 2))


def test_frames_are_pictures_of_the_first_camera_thinned_to_the_rate(recording, folder):
    found = stamps_ms(read(recording.write(folder), keep_idle=True))
    assert set(found) <= {round(ms * MS) / MS for ms in FRONT_MS}
    assert 38 <= len(found) <= 40


def test_a_frame_is_the_observation_of_its_moment(recording, folder):
    frames = read(recording.write(folder))
    for i, ms in enumerate(stamps_ms(frames)):
        front = min(FRONT_MS, key=lambda each: abs(each - ms))  # stamps are whole nanoseconds
        wrist = max(each + WRIST_MS for each in FRONT_MS if each + WRIST_MS <= ms)
        joint = ms // 10 * 10 / 1000.0
        np.testing.assert_array_equal(frames.images["front"][i], resize(pixels(front, (8, 12, 3)), 4, 6))
        np.testing.assert_array_equal(frames.images["wrist"][i], resize(pixels(wrist, (4, 4, 3)), 2, 2))
        assert frames.state[i].tolist() == [joint, 2.0 * joint]


def test_the_action_is_the_one_in_force_one_step_later_by_the_time_it_was_published(recording, folder):
    frames = read(recording.write(folder))
    for ms, (x, width) in zip(stamps_ms(frames), frames.action, strict=True):
        # Published SENT_MS after its own time, every 10 ms.
        assert x == min((ms + 50 - SENT_MS) // 10 * 10, 1490)
        assert width == 0.04


def test_an_action_published_on_another_clock_counts_from_when_it_was_recorded(recording, folder, monkeypatch):
    """With simulated time the publisher's stamps are on the wall clock."""
    write = BagWriter.write
    monkeypatch.setattr(
        BagWriter, "write", lambda self, topic, data, log_ns, _: write(self, topic, data, log_ns, 12345)
    )
    frames = read(recording.write(folder))
    for ms, (x, _) in zip(stamps_ms(frames), frames.action, strict=True):
        assert x == min((ms + 50 - LATE_MS) // 10 * 10, 1490)


def test_each_frame_says_who_drove_when_its_action_was_in_force(recording, folder):
    frames = read(recording.write(folder))
    for ms, driver in zip(stamps_ms(frames), frames.driver, strict=True):
        assert driver == ("teleop" if ms + 50 < 1000 + SENT_MS else "policy")
    assert set(frames.driver) == {"teleop", "policy"}


def test_frames_begin_and_end_with_the_driving(recording, folder):
    found = [ms + 50 for ms in stamps_ms(read(recording.write(folder)))]
    assert found[0] >= 500 + SENT_MS
    assert found[0] < 560
    assert 1440 < found[-1] < 1500 + SENT_MS


def test_a_pause_between_two_drives_is_kept_and_marked(recording, folder):
    entries = [(0, ""), (500, "teleop"), (900, ""), (1100, "teleop"), (1500, "")]
    recording.put("safety/state", encoding.STATUS, [(ms, state(ms, driver)) for ms, driver in entries])
    frames = read(recording.write(folder))
    drove = dict(zip(stamps_ms(frames), frames.driver.tolist(), strict=True))
    assert {driver for ms, driver in drove.items() if 910 < ms + 50 < 1090} == {""}
    assert {driver for ms, driver in drove.items() if not 890 < ms + 50 < 1110} == {"teleop"}


def test_homing_is_no_demonstration(recording, folder):
    entries = [(0, "home"), (500, "teleop"), (1000, "home")]
    recording.put("safety/state", encoding.STATUS, [(ms, state(ms, driver)) for ms, driver in entries])
    found = [ms + 50 for ms in stamps_ms(read(recording.write(folder)))]
    assert found[0] >= 500
    assert found[-1] <= 1000 + SENT_MS


def test_driving_that_lasts_to_the_end_of_the_bag_is_kept_to_its_end(recording, folder):
    recording.put("safety/state", encoding.STATUS, [(500, state(500, "teleop"))])
    assert stamps_ms(read(recording.write(folder)))[-1] > 1850


def test_a_verdict_tells_the_driver_before_the_next_state(recording, folder):
    recording.put("safety/verdict", encoding.STATUS, [(700, state(700, "policy"))])
    frames = read(recording.write(folder))
    drove = dict(zip(stamps_ms(frames), frames.driver.tolist(), strict=True))
    assert {driver for ms, driver in drove.items() if ms + 50 < 700} == {"teleop"}
    assert {driver for ms, driver in drove.items() if ms + 50 > 705} == {"policy"}


def test_idle_moments_can_be_kept_and_have_no_action_before_the_first(recording, folder):
    frames = read(recording.write(folder), keep_idle=True)
    found = np.array(stamps_ms(frames))
    assert found[0] < 50
    assert found[-1] > 1900
    before = found + 50 < 500 + SENT_MS
    assert np.isnan(frames.action[before]).all()
    assert np.isfinite(frames.action[~before]).all()
    assert set(frames.driver[before]) == {""}


def test_a_moment_that_a_live_policy_would_be_refused_is_left_out(recording, folder):
    """The wrist camera pauses for 0.3 s: longer than a picture may be old."""
    kind, entries = recording.messages["camera/wrist/image_raw"]
    recording.put("camera/wrist/image_raw", kind, [entry for entry in entries if not 800 < entry[0] < 1100])
    found = stamps_ms(read(recording.write(folder)))
    assert not [ms for ms in found if 960 < ms < 1090]
    assert [ms for ms in found if 820 < ms < 930]


def test_a_contract_with_one_camera_needs_only_that_camera(recording, folder):
    del recording.messages["camera/wrist/image_raw"]
    contract = replace(CONTRACT, observation=replace(SPEC, images=SPEC.images[:1]))
    assert set(read(recording.write(folder), contract).images) == {"front"}


def test_a_contract_without_cameras_takes_its_moments_from_the_joints(recording, folder):
    contract = replace(CONTRACT, observation=replace(SPEC, images=()))
    found = read(recording.write(folder), contract)
    assert found.images == {}
    assert set(np.diff(stamps_ms(found))) == {50.0}


def test_a_contract_that_reads_the_object_gets_its_pose(recording, folder):
    poses = [
        (ms, encoding.pose(Pose(np.array([ms, 0.0, 0.0]), np.eye(3)), START + ms * MS, "base"))
        for ms in range(0, 2000, 10)
    ]
    recording.put("sim/object_pose", encoding.POSE, poses)
    contract = replace(CONTRACT, observation=replace(SPEC, state=(*SPEC.state, Column("object.x", "m"))))
    frames = read(recording.write(folder), contract)
    assert frames.state[:, 2].tolist() == [ms // 10 * 10 for ms in stamps_ms(frames)]


def test_a_history_becomes_an_axis_with_the_newest_last(recording, folder):
    contract = replace(CONTRACT, observation=replace(SPEC, history=3, spacing_s=0.05))
    frames, plain = read(recording.write(folder), contract), read(folder)
    assert frames.images["front"].shape[1:] == (3, 4, 6, 3)
    assert frames.state.shape[1:] == (3, 2)
    np.testing.assert_array_equal(frames.state[:, -1], plain.state)
    np.testing.assert_array_equal(frames.images["wrist"][:, -1], plain.images["wrist"])
    np.testing.assert_allclose(np.diff(frames.state[:, :, 0], axis=1), 0.05, atol=0.0101)


def test_compressed_pictures_serve_where_there_are_no_raw_ones(recording, folder):
    _, entries = recording.messages.pop("camera/front/image_raw")
    kind = "sensor_msgs/msg/CompressedImage"
    store, packed = encoding.typestore(), []
    for ms, data in entries:
        header = store.deserialize_cdr(data, encoding.IMAGE).header
        content = cv2.imencode(".png", pixels(ms, (8, 12, 3))[..., ::-1])[1].reshape(-1)
        message = store.types[kind](header=header, format="png", data=content)
        packed.append((ms, bytes(store.serialize_cdr(message, kind))))
    recording.put("camera/front/image_raw/compressed", kind, packed)
    frames = read(
        recording.write(folder), replace(CONTRACT, observation=replace(SPEC, images=(ImageSpec("front", 8, 12),)))
    )
    for ms, found in zip(stamps_ms(frames), frames.images["front"], strict=True):
        original = min(FRONT_MS, key=lambda each: abs(each - ms))
        np.testing.assert_array_equal(found, pixels(original, (8, 12, 3)))


@pytest.mark.parametrize("topic", ["camera/wrist/image_raw", "camera/front/image_raw", "joint_states"])
def test_a_missing_stream_is_named(recording, folder, topic):
    del recording.messages[topic]
    assert f"topic '{topic}' is missing" in refusal(recording.write(folder))


@pytest.mark.parametrize("topic", ["camera/front/image_raw", "joint_states"])
def test_a_stream_without_messages_is_named(recording, folder, topic):
    recording.put(topic, recording.messages[topic][0], [])
    assert f"topic '{topic}' holds no message" in refusal(recording.write(folder))


def test_a_foreign_bag_is_told_by_its_topics(folder):
    foreign = Recording()
    foreign.put("scan", encoding.JOINT_STATE, [(0, joints(0))])
    assert "is not a recording of this robot; it holds scan" in refusal(foreign.write(folder))


def test_joint_states_of_another_device_give_no_frame_but_a_reason(recording, folder):
    recording.put("joint_states", encoding.JOINT_STATE, [(ms, joints(ms, ("x", "y"))) for ms in range(0, 2000, 10)])
    assert "joint_states: j1 missing" in refusal(recording.write(folder))


def test_joint_states_of_another_device_between_ours_are_passed_over(recording, folder):
    kind, entries = recording.messages["joint_states"]
    recording.put("joint_states", kind, [*entries, *((ms + 5, joints(ms + 5, ("x", "y"))) for ms, _ in entries)])
    np.testing.assert_array_equal(read(recording.write(folder)).state[:, 1], 2 * read(folder).state[:, 0])


@pytest.mark.parametrize(("back_ms", "refused"), [(900, False), (1100, True)])
@pytest.mark.parametrize("topic", ["camera/front/image_raw", "joint_states"])
def test_a_clock_that_goes_back_is_named_and_a_late_message_is_not(recording, folder, topic, back_ms, refused):
    kind, entries = recording.messages[topic]
    ms, _ = entries[-1]
    late = picture("front", ms - back_ms) if "camera" in topic else joints(ms - back_ms)
    recording.put(topic, kind, [*entries, (ms + 1, late)])
    recording.write(folder)
    if refused:
        assert f"topic '{topic}': its clock goes back by 1.1 s" in refusal(folder)
    else:
        assert len(read(folder).stamps_ns) >= 19


def test_an_episode_in_which_nobody_drove_is_refused_unless_idle_moments_are_wanted(recording, folder):
    recording.put("safety/state", encoding.STATUS, [(ms, state(ms, "")) for ms in range(0, 2000, 100)])
    assert "nobody drove the arm" in refusal(recording.write(folder))
    assert len(read(folder, keep_idle=True).stamps_ns) >= 38


def test_an_episode_without_actions_is_refused_unless_idle_moments_are_wanted(recording, folder):
    del recording.messages["safety/action"]
    assert "topic 'safety/action' is missing or holds no action" in refusal(recording.write(folder))
    assert np.isnan(read(folder, keep_idle=True).action).all()


def test_actions_under_another_contract_are_refused(recording, folder):
    entries = [(ms, action(ms, ms, ("panda_joint1", "tool.x"))) for ms in range(500, 1500, 10)]
    recording.put("safety/action", encoding.TABLE, entries)
    assert "has no column 'gripper.width', only panda_joint1, tool.x" in refusal(recording.write(folder))


def test_a_picture_that_cannot_be_read_is_named(recording, folder):
    store = encoding.typestore()
    kind, entries = recording.messages["camera/wrist/image_raw"]
    broken = store.deserialize_cdr(entries[5][1], kind)
    broken.encoding = "sideways"
    entries[5] = entries[5][0], bytes(store.serialize_cdr(broken, kind))
    assert "topic 'camera/wrist/image_raw': a 'sideways' picture cannot be read" in refusal(recording.write(folder))


def test_a_truncated_bag_is_refused(recording, folder):
    path = recording.write(folder) / "episode_000042_0.mcap"
    path.write_bytes(path.read_bytes()[:-500])
    assert "policy episodes recover" in refusal(folder)


@pytest.fixture
def frames(recording, folder):
    return read(recording.write(folder))


def test_saved_frames_are_loaded_bit_for_bit_from_the_disk(frames, tmp_path):
    save_frames(tmp_path / "cache" / "e", frames, CONTRACT, "episode_000042")
    loaded = load_frames(tmp_path / "cache" / "e", CONTRACT)
    for name in ("stamps_ns", "state", "action", "driver"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(frames, name))
        assert getattr(loaded, name).dtype == getattr(frames, name).dtype
    for camera, found in loaded.images.items():
        np.testing.assert_array_equal(found, frames.images[camera])
        assert isinstance(found, np.memmap)
        assert not found.flags.writeable
    assert list(loaded.images) == list(frames.images)


def test_frames_of_a_contract_without_state_columns_are_saved_as_well(frames, tmp_path):
    bare = replace(frames, state=np.empty((len(frames.stamps_ns), 0)))
    save_frames(tmp_path / "e", bare)
    assert load_frames(tmp_path / "e").state.shape == bare.state.shape


@pytest.mark.parametrize(
    ("other", "place"),
    [
        (replace(CONTRACT, robot="other"), "robot differs"),
        (replace(CONTRACT, observation=replace(SPEC, state=SPEC.state[::-1])), "observation.state[0].name differs"),
        (replace(CONTRACT, action=replace(CONTRACT.action, dt_s=0.1)), "action.dt_s differs"),
        (replace(CONTRACT, observation=replace(SPEC, images=SPEC.images[:1])), "observation.images differs"),
    ],
)
def test_frames_of_another_contract_are_refused_with_the_difference(frames, tmp_path, other, place):
    save_frames(tmp_path / "e", frames, CONTRACT)
    with pytest.raises(EpisodeError) as error:
        load_frames(tmp_path / "e", other)
    assert place in str(error.value)


def test_frames_whose_contract_is_not_known_are_refused_to_who_asks_for_one(frames, tmp_path):
    save_frames(tmp_path / "e", frames)
    assert len(load_frames(tmp_path / "e").stamps_ns) == len(frames.stamps_ns)
    with pytest.raises(EpisodeError, match="which one is not known"):
        load_frames(tmp_path / "e", CONTRACT)


def test_saving_again_replaces_older_frames_and_leaves_nothing_else_behind(frames, tmp_path):
    save_frames(tmp_path / "e", frames)
    save_frames(tmp_path / "e", replace(frames, state=frames.state + 1.0, images={}))
    loaded = load_frames(tmp_path / "e")
    np.testing.assert_array_equal(loaded.state, frames.state + 1.0)
    assert loaded.images == {}
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("e", "episode_000042")] == []


def test_saving_never_replaces_an_episode(frames, folder):
    with pytest.raises(EpisodeError, match="holds something else than frames"):
        save_frames(folder, frames)
    assert len(read(folder).stamps_ns) == len(frames.stamps_ns)


def test_frames_that_cannot_be_written_leave_the_older_ones_as_they_were(frames, tmp_path, monkeypatch):
    save_frames(tmp_path / "e", frames)

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(EpisodeError, match="No space left on device"):
        save_frames(tmp_path / "e", replace(frames, state=frames.state + 1.0))
    np.testing.assert_array_equal(load_frames(tmp_path / "e").state, frames.state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "episode_000042"]


@pytest.mark.parametrize("name", ["meta.json", "state.npy", "images_front.npy"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_damaged_frames_are_named(frames, tmp_path, name, damage):
    save_frames(tmp_path / "e", frames)
    path = tmp_path / "e" / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EpisodeError, match=name):
        load_frames(tmp_path / "e")


def test_frames_in_which_one_array_was_exchanged_are_refused(frames, tmp_path):
    save_frames(tmp_path / "e", frames)
    np.save(tmp_path / "e" / "state.npy", frames.state[:-1])
    with pytest.raises(EpisodeError, match=r"state\.npy: holds float64 .* says otherwise"):
        load_frames(tmp_path / "e")


def test_a_folder_without_frames_is_refused(tmp_path):
    with pytest.raises(EpisodeError, match="holds no frames"):
        load_frames(tmp_path)
