import shutil

import numpy as np
import pytest
from mcap.writer import CompressionType, Writer

from policy_bringup.core.decoding import joint_positions, stamp_of
from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.graph import EVENT, STATE
from policy_bringup.core.types import StateSample
from policy_bringup.episodes import encoding
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.reader import BagMessage, open_bag

START = 1_700_000_000_000_000_000
MS = 1_000_000


def joints(number: int) -> bytes:
    sample = StateSample(START + number * 10 * MS, 0, ("a", "b"), np.array([number, -number], dtype=float))
    return encoding.joint_state(sample, np.zeros(2), np.zeros(2), "base")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "dataset" / "episode_000042"


@pytest.fixture
def bag(folder):
    """100 joint states and every tenth time a diagnostic, both recorded late and in the wrong order."""
    folder.mkdir(parents=True)
    topics = [BagTopic("joint_states", encoding.JOINT_STATE, STATE), BagTopic("/diagnostics", encoding.STATUS, EVENT)]
    writer = BagWriter(folder, topics, {"outcome": "failure"})
    for number in range(100):
        at = START + number * 10 * MS
        if number % 10 == 0:
            status = encoding.status(at, "arm", "ok", "running", {"number": number})
            writer.write("/diagnostics", status, at + 7 * MS, at + 1 * MS)
        writer.write("joint_states", joints(number), at + 2 * MS, at + 1 * MS)
        if number % 7 == 0:
            writer.flush()
    writer.close({"outcome": "success"})
    return folder


def file_of(folder):
    return folder / "episode_000042_0.mcap"


def read_all(folder) -> None:
    with open_bag(folder) as opened:
        for message in opened.messages():
            opened.decode(message)


def refusal(folder) -> str:
    with pytest.raises(EpisodeError) as error:
        read_all(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_topics_have_the_names_types_and_counts_of_the_graph(bag):
    with open_bag(bag) as opened:
        assert opened.topics == {"joint_states": encoding.JOINT_STATE, "/diagnostics": encoding.STATUS}
        assert opened.counts == {"joint_states": 100, "/diagnostics": 10}
        assert (opened.start_ns, opened.end_ns) == (START + 2 * MS, START + 992 * MS)


def test_messages_come_by_the_time_at_which_they_were_recorded(bag):
    with open_bag(bag) as opened:
        messages = list(opened.messages())
    times = [message.log_ns for message in messages]
    assert times == sorted(times)
    assert len(messages) == 110
    assert [message.topic for message in messages[:2]] == ["joint_states", "/diagnostics"]


def test_a_message_is_what_was_written_to_the_byte(bag):
    with open_bag(bag) as opened:
        found = list(opened.messages(["joint_states"]))
    at = START + 50 * MS
    assert found[5] == BagMessage("joint_states", encoding.JOINT_STATE, at + 2 * MS, at + 1 * MS, joints(5))


def test_only_the_topics_asked_for_are_given(bag):
    with open_bag(bag) as opened:
        assert {message.topic for message in opened.messages(["/diagnostics"])} == {"/diagnostics"}
        assert list(opened.messages(["camera/front/image_raw"])) == []
        assert list(opened.messages([])) == []


def test_a_message_is_decoded_to_the_fields_of_its_type(bag):
    with open_bag(bag) as opened:
        decoded = [opened.decode(message) for message in opened.messages(["joint_states"])]
    sample = joint_positions(decoded[7], 0)
    assert (sample.stamp_ns, sample.values.tolist()) == (START + 70 * MS, [7.0, -7.0])
    assert stamp_of(decoded[-1].header.stamp) == START + 990 * MS


def test_unused_bytes_at_the_end_of_a_message_are_no_harm(bag):
    """rclpy's serialize_message leaves some, so bags written by Python programs have them."""
    message = BagMessage("joint_states", encoding.JOINT_STATE, 0, 0, joints(5) + bytes(40))
    with open_bag(bag) as opened:
        assert joint_positions(opened.decode(message), 0).values.tolist() == [5.0, -5.0]


def test_a_bag_can_be_read_more_than_once(bag):
    with open_bag(bag) as opened:
        assert list(opened.messages()) == list(opened.messages())


def test_a_renamed_folder_is_read_all_the_same(bag, tmp_path):
    moved = bag.rename(tmp_path / "the good one")
    with open_bag(moved) as opened:
        assert opened.counts["joint_states"] == 100


@pytest.mark.parametrize("compression", list(CompressionType))
def test_bags_of_other_recorders_are_read_compressed_or_not(folder, compression):
    folder.mkdir(parents=True)
    with file_of(folder).open("wb") as stream:
        writer = Writer(stream, compression=compression)
        writer.start("ros2", "other")
        schema = writer.register_schema(encoding.JOINT_STATE, "ros2msg", b"")
        channel = writer.register_channel("/joint_states", "cdr", schema)
        for number in range(3):
            writer.add_message(channel, START + number, joints(number), START + number)
        writer.finish()
    with open_bag(folder) as opened:
        assert [message.data for message in opened.messages()] == [joints(number) for number in range(3)]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_bag_is_named_and_told_how_to_rebuild(bag, share):
    path = file_of(bag)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert refusal(bag) == f"{path}: is truncated or was never closed; rebuild it with `policy episodes recover`"


def test_a_bag_that_was_never_closed_is_named_as_such(folder):
    folder.mkdir(parents=True)
    writer = BagWriter(folder, [BagTopic("joint_states", encoding.JOINT_STATE, STATE)], {})
    writer.write("joint_states", joints(0), START, START)
    writer.flush()
    writer.abandon()
    assert "never closed" in refusal(folder)


def test_a_flipped_byte_inside_a_bag_does_not_pass_for_data(bag):
    path = file_of(bag)
    content = bytearray(path.read_bytes())
    at = content.index(joints(50)) + 60
    content[at] ^= 0xFF
    path.write_bytes(content)
    sentence = refusal(bag)
    assert sentence.startswith(f"{path}: is damaged 0.")
    assert "s after its start" in sentence


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "is empty"), (b"SQLite format 3\0" * 100, "is not an MCAP bag"), (b"\x89MC", "not an")]
)
def test_a_file_that_is_no_bag_is_refused(folder, content, said):
    folder.mkdir(parents=True)
    file_of(folder).write_bytes(content)
    assert said in refusal(folder)


def test_a_bag_without_messages_is_refused(folder):
    folder.mkdir(parents=True)
    BagWriter(folder, [BagTopic("joint_states", encoding.JOINT_STATE, STATE)], {}).close({})
    assert refusal(folder) == f"{file_of(folder)}: holds no messages"


def test_a_folder_without_a_bag_or_with_two_is_refused(bag, folder, tmp_path):
    shutil.copy(file_of(bag), bag / "other.mcap")
    assert "holds 2 bags (episode_000042_0.mcap, other.mcap)" in refusal(bag)
    (tmp_path / "episode_000001").mkdir()
    assert "there should be episode_000001_0.mcap" in refusal(tmp_path / "episode_000001")
    assert "there is no such episode" in refusal(tmp_path / "episode_000002")


@pytest.mark.parametrize("data", [b"", b"\x00\x01\x00\x00", joints(1)[:40], b"\x07\x07" + joints(1)[2:]])
def test_a_message_that_cannot_be_decoded_is_named(bag, data):
    with (
        open_bag(bag) as opened,
        pytest.raises(EpisodeError, match="message on topic 'joint_states' cannot be read as"),
    ):
        opened.decode(BagMessage("joint_states", encoding.JOINT_STATE, 0, 0, data))


def test_a_message_of_an_unknown_type_is_named(bag):
    with open_bag(bag) as opened, pytest.raises(EpisodeError, match="topic 'x' has messages of unknown type 'a/msg/B'"):
        opened.decode(BagMessage("x", "a/msg/B", 0, 0, joints(1)))
