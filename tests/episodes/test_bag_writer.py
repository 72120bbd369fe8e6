import errno
import os
import resource
from contextlib import contextmanager

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosHistory, QosReliability

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.graph import LATCHED, STATE
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.journal import RECORD_NAME
from policy_bringup.episodes.layout import bag_path

START_NS = 1_700_000_000_000_000_000
JOINT_STATE, STATUS = "sensor_msgs/msg/JointState", "diagnostic_msgs/msg/DiagnosticArray"
TOPICS = (
    BagTopic("joint_states", JOINT_STATE, STATE),
    BagTopic("leader/joint_states", JOINT_STATE, STATE),
    BagTopic("/diagnostics", STATUS, LATCHED),
)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "episode_000042"
    path.mkdir()
    return path


@pytest.fixture
def writer(folder):
    opened = BagWriter(folder, TOPICS, {"outcome": "failure"})
    yield opened
    opened.abandon()


@contextmanager
def largest_file(size):
    """No file may grow beyond `size` bytes: a write that reaches it is cut there, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(writer, joint_state, numbers, topic="joint_states"):
    for number in numbers:
        writer.write(topic, joint_state(number), START_NS + 10 * number + 2, START_NS + 10 * number + 1)


def test_every_message_is_read_back_byte_for_byte_by_rosbags(folder, writer, joint_state):
    fill(writer, joint_state, range(30))
    fill(writer, joint_state, range(30, 40), "leader/joint_states")
    writer.close({"outcome": "success"})
    with AnyReader([folder]) as reader:  # without a type store: the bag describes its own messages
        read = [(connection.topic, time_ns, bytes(data)) for connection, time_ns, data in reader.messages()]
        decoded = reader.deserialize(read[7][2], JOINT_STATE)
    assert read == [
        ("/joint_states" if number < 30 else "/leader/joint_states", START_NS + 10 * number + 2, joint_state(number))
        for number in range(40)
    ]
    assert np.array_equal(decoded.position, 7 + np.arange(7) / 10)


def test_every_message_is_decoded_by_the_mcap_reader_with_its_ros_2_decoder(folder, writer, joint_state):
    fill(writer, joint_state, range(30))
    writer.close({"outcome": "success"})
    with bag_path(folder).open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True, decoder_factories=[DecoderFactory()])
        assert reader.get_header().profile == "ros2"
        for number, (_, channel, message, decoded) in enumerate(reader.iter_decoded_messages()):
            assert (channel.topic, channel.message_encoding) == ("/joint_states", "cdr")
            assert (message.log_time, message.publish_time) == (START_NS + 10 * number + 2, START_NS + 10 * number + 1)
            assert (decoded.header.frame_id, decoded.name[6]) == ("base", "joint6")
            assert list(decoded.position) == [number + j / 10 for j in range(7)]
        assert number == 29


def test_quality_of_service_and_type_hash_of_every_topic_are_in_the_bag(folder, writer):
    writer.close({})
    with AnyReader([folder]) as reader:
        found = {connection.topic: connection for connection in reader.connections}
    assert set(found) == {"/joint_states", "/leader/joint_states", "/diagnostics"}
    qos = found["/diagnostics"].ext.offered_qos_profiles[0]
    assert (qos.history, qos.depth) == (QosHistory.KEEP_LAST, 1)
    assert (qos.reliability, qos.durability) == (QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL)
    assert found["/joint_states"].ext.offered_qos_profiles[0].reliability == QosReliability.BEST_EFFORT
    with bag_path(folder).open("rb") as stream:
        summary = make_reader(stream).get_summary()
    channel = next(channel for channel in summary.channels.values() if channel.topic == "/joint_states")
    # As in the message package of Jazzy itself.
    expected = "RIHS01_a13ee3a330e346c9d87b5aa18d24e11690752bd33a0350f11c5882bc9179260e"
    assert channel.metadata["topic_type_hash"] == expected
    assert channel.metadata["offered_qos_profiles"].startswith("- history: keep_last\n  depth: 5\n")
    schema = summary.schemas[channel.schema_id]
    assert (schema.name, schema.encoding) == (JOINT_STATE, "ros2msg")
    assert b"MSG: builtin_interfaces/Time" in schema.data


def test_the_last_record_is_the_final_one_and_the_first_was_there_from_the_start(folder, writer):
    writer.close({"outcome": "success"})
    with bag_path(folder).open("rb") as stream:
        records = [entry.metadata for entry in make_reader(stream).iter_metadata() if entry.name == RECORD_NAME]
    assert records == [{"outcome": "failure"}, {"outcome": "success"}]


def test_topics_and_record_are_on_the_disk_before_the_first_message(folder, writer):
    content = bag_path(folder).read_bytes()
    assert content.startswith(b"\x89MCAP0\r\n")
    for part in (b"/joint_states", b"/diagnostics", b"MSG: std_msgs/Header", b"policy_bringup", b"failure"):
        assert part in content


def test_a_flush_puts_every_message_on_the_disk_and_an_empty_one_nothing(folder, writer, joint_state):
    fill(writer, joint_state, range(5))
    assert joint_state(0) not in bag_path(folder).read_bytes()
    writer.flush()
    content = bag_path(folder).read_bytes()
    assert all(joint_state(number) in content for number in range(5))
    writer.flush()
    assert bag_path(folder).stat().st_size == len(content)


def test_a_bag_without_messages_is_a_bag(folder, writer):
    writer.close({})
    with AnyReader([folder]) as reader:
        assert reader.message_count == 0
        assert len(reader.connections) == 3
        assert list(reader.messages()) == []


def test_a_second_close_does_nothing_and_what_comes_after_it_is_refused(folder, writer, joint_state):
    writer.close({})
    content = bag_path(folder).read_bytes()
    writer.close({"outcome": "success"})
    for late in (lambda: fill(writer, joint_state, [0]), writer.flush):
        with pytest.raises(EpisodeError, match="is closed"):
            late()
    assert bag_path(folder).read_bytes() == content


def test_an_episode_is_written_by_one_writer_only_and_never_overwritten(folder, writer):
    with pytest.raises(EpisodeError, match="is being written by somebody else"):
        BagWriter(folder, TOPICS, {})
    writer.close({})
    content = bag_path(folder).read_bytes()
    with pytest.raises(EpisodeError, match=r"0\.mcap: cannot be written \(File exists\)"):
        BagWriter(folder, TOPICS, {})
    assert bag_path(folder).read_bytes() == content


def test_an_unknown_message_type_is_named_before_there_is_a_file(folder):
    with pytest.raises(EpisodeError, match="'my_msgs/msg/Secret' cannot be recorded"):
        BagWriter(folder, [BagTopic("secret", "my_msgs/msg/Secret", STATE)], {})
    assert list(folder.iterdir()) == []


def test_an_absent_folder_is_named(tmp_path):
    with pytest.raises(EpisodeError, match=r"absent: cannot be opened \(No such file"):
        BagWriter(tmp_path / "absent", TOPICS, {})


def test_a_topic_that_is_not_recorded_is_named_and_the_bag_goes_on(folder, writer, joint_state):
    with pytest.raises(EpisodeError, match=r"'joint_state' is not recorded here.*joint_states, leader/joint_states"):
        writer.write("joint_state", b"", 1, 1)
    fill(writer, joint_state, range(3))
    writer.close({})
    with AnyReader([folder]) as reader:
        assert reader.message_count == 3


@pytest.mark.parametrize(("log_ns", "publish_ns"), [(-1, 0), (0, -1), (1 << 63, 0), (0, 1 << 63)])
def test_a_time_beyond_rosbag2s_clock_is_refused_and_the_bag_goes_on(folder, writer, joint_state, log_ns, publish_ns):
    with pytest.raises(EpisodeError, match="'/joint_states' came with the times"):
        writer.write("joint_states", joint_state(0), log_ns, publish_ns)
    writer.write("joint_states", joint_state(0), 0, (1 << 63) - 1)
    writer.close({})
    with AnyReader([folder]) as reader:
        assert [bytes(data) for _, _, data in reader.messages()] == [joint_state(0)]


def test_messages_of_a_clock_that_was_set_back_are_all_kept(folder, writer, joint_state):
    fill(writer, joint_state, [50, 51])
    fill(writer, joint_state, [3, 4])
    writer.close({})
    with AnyReader([folder]) as reader:
        assert [time_ns - START_NS for _, time_ns, _ in reader.messages()] == [32, 42, 502, 512]


def test_a_write_that_fails_halfway_leaves_the_whole_chunks_and_says_why(folder, writer, joint_state):
    fill(writer, joint_state, range(50))
    writer.flush()
    content = bag_path(folder).read_bytes()
    fill(writer, joint_state, range(50, 100))
    with largest_file(len(content) + 1000), pytest.raises(EpisodeError, match=os.strerror(errno.EFBIG)):
        writer.flush()
    assert bag_path(folder).read_bytes() == content
    # There is room again, but the library believes that the chunk is written: nothing may follow it.
    for late in (lambda: fill(writer, joint_state, [100]), writer.flush, lambda: writer.close({})):
        with pytest.raises(EpisodeError, match=os.strerror(errno.EFBIG)):
            late()
    assert bag_path(folder).read_bytes() == content
    assert not (folder / "metadata.yaml").exists()


def test_a_full_disk_is_reported_by_the_call_that_meets_it(small_disk, joint_state):
    folder = small_disk / "episode_000042"
    folder.mkdir()
    writer = BagWriter(folder, TOPICS, {})
    flushed = []

    def write_on():
        for first in range(0, 20_000, 100):
            fill(writer, joint_state, range(first, first + 100))
            writer.flush()
            flushed.append(100)

    with pytest.raises(EpisodeError, match="the disk is full"):
        write_on()
    assert len(flushed) >= 10
    assert bag_path(folder).read_bytes().count(b"joint6") == sum(flushed)
    with pytest.raises(EpisodeError, match="the disk is full"):
        writer.close({})


def test_an_interrupted_write_never_gets_an_index_that_does_not_fit(folder, writer, joint_state, monkeypatch):
    fill(writer, joint_state, range(50))
    writer.flush()
    content = bag_path(folder).read_bytes()
    fill(writer, joint_state, range(50, 100))
    write = os.write

    def half(descriptor, data):
        write(descriptor, data[: len(data) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(KeyboardInterrupt):
            writer.flush()
    with pytest.raises(EpisodeError, match="was interrupted"):
        writer.close({})
    assert bag_path(folder).read_bytes() == content
