from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from mcap.reader import make_reader
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.graph import STATE
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.journal import (
    RECORD_NAME,
    Outcome,
    Quality,
    TopicCount,
    from_record,
    load_journal,
    save_journal,
    to_record,
)
from policy_bringup.episodes.layout import bag_path
from policy_bringup.episodes.recovery import is_clean, recover

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 10_000_000
JOINT_STATE = "sensor_msgs/msg/JointState"


def messages_in(folder):
    """(log time, publish time, bytes) of every message, by the mcap reader, with every CRC checked."""
    with bag_path(folder).open("rb") as stream:
        read = make_reader(stream, validate_crcs=True).iter_messages()
        return [(message.log_time, message.publish_time, message.data) for _, _, message in read]


def records_in(folder):
    with bag_path(folder).open("rb") as stream:
        return [entry.metadata for entry in make_reader(stream).iter_metadata() if entry.name == RECORD_NAME]


def content_of(folder):
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


def copied(folder, target):
    """The episode once more, below `target`, in a folder of the same name."""
    shutil.rmtree(target / folder.name, ignore_errors=True)
    return Path(shutil.copytree(folder, target / folder.name))


@pytest.fixture
def expected(joint_state):
    def first(count):
        stamps = [START_NS + number * PERIOD_NS for number in range(count)]
        return [(at + 2_000_000, at + 1_000_000, joint_state(number)) for number, at in enumerate(stamps)]

    return first


def cut(folder, size):
    with bag_path(folder).open("r+b") as stream:
        stream.truncate(size)


def test_an_episode_closed_as_it_should_be_is_clean_and_left_alone(write_bag):
    folder, _ = write_bag()
    before = content_of(folder)
    assert is_clean(folder)
    assert recover(folder) == load_journal(folder)
    assert content_of(folder) == before


def test_a_bag_without_its_end_gets_index_metadata_counts_and_keeps_its_label(write_bag, expected, journal):
    folder, _ = write_bag(messages=63, close=False)
    assert not is_clean(folder)
    recovered = recover(folder)
    assert is_clean(folder)
    assert messages_in(folder) == expected(60)  # the last three were never flushed
    assert recovered == replace(
        journal,
        recovered=True,
        stopped_ns=START_NS + 59 * PERIOD_NS + 2_000_000,
        counts={"joint_states": TopicCount(60, 60, 0, 0)},
    )
    assert load_journal(folder) == recovered
    assert from_record(records_in(folder)[-1]) == recovered
    information = yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (information["message_count"], information["custom_data"]) == (60, to_record(recovered))
    with AnyReader([folder]) as reader:
        (connection,) = reader.connections
        assert (connection.topic, connection.msgcount) == ("/joint_states", 60)
        assert connection.ext.offered_qos_profiles[0].depth == 5
    assert sorted(content_of(folder)) == ["episode_000042_0.mcap", "journal.yaml", "metadata.yaml"]


def test_recovering_twice_changes_nothing(write_bag):
    folder, _ = write_bag(close=False)
    recovered = recover(folder)
    before = content_of(folder)
    assert recover(folder) == recovered
    assert content_of(folder) == before


def test_a_label_given_before_the_crash_survives_it(write_bag):
    folder, _ = write_bag(close=False)
    save_journal(folder, replace(load_journal(folder), outcome=Outcome.SUCCESS, note="looks good"))
    recovered = recover(folder)
    assert (recovered.outcome, recovered.note) == (Outcome.SUCCESS, "looks good")
    assert records_in(folder)[-1]["outcome"] == "success"


def test_a_label_changed_after_the_recovery_survives_the_next_one(write_bag):
    folder, _ = write_bag(close=False)
    save_journal(folder, replace(recover(folder), outcome=Outcome.DISCARDED))
    cut(folder, bag_path(folder).stat().st_size - 1)
    assert recover(folder).outcome == Outcome.DISCARDED


def test_a_bag_that_was_closed_before_its_journal_gives_counts_and_verdict_and_the_journal_the_label(
    write_bag, journal
):
    folder, _ = write_bag(messages=60)
    stopped = replace(load_journal(folder), quality=Quality(True, (), {"rate_hz": 100.0}))
    bag_path(folder).unlink()
    writer = BagWriter(folder, [BagTopic("joint_states", JOINT_STATE, STATE)], to_record(journal))
    writer.close(to_record(replace(stopped, counts={"joint_states": TopicCount(2, 0, 2, 1)})))
    save_journal(folder, replace(journal, outcome=Outcome.SUCCESS))
    recovered = recover(folder)
    assert (recovered.outcome, recovered.stopped_ns) == (Outcome.SUCCESS, stopped.stopped_ns)
    assert recovered.counts == {"joint_states": TopicCount(2, 0, 2, 1)}
    assert recovered.quality == stopped.quality


def test_a_verdict_on_messages_that_are_gone_is_dropped(write_bag):
    folder, flushed = write_bag()
    save_journal(folder, replace(load_journal(folder), quality=Quality(True, (), {})))
    cut(folder, flushed[6][0])
    recovered = recover(folder)
    assert recovered.quality is None
    assert recovered.counts["joint_states"].written == 30


@pytest.mark.parametrize("content", [b"", b"\x00" * 300, b"outcome: [", b"outcome: sucess\n", None])
def test_where_the_journal_is_lost_the_label_is_that_of_the_last_record(write_bag, content, journal):
    folder, _ = write_bag(close=False)
    save_journal(folder, replace(load_journal(folder), outcome=Outcome.SUCCESS))
    recover(folder)  # writes the success into the bag
    if content is None:
        (folder / "journal.yaml").unlink()
    else:
        (folder / "journal.yaml").write_bytes(content)
    assert not is_clean(folder)
    recovered = recover(folder)
    assert (recovered.outcome, recovered.provenance) == (Outcome.SUCCESS, journal.provenance)
    assert recovered.note == "journal.yaml was unreadable, the label is the bag's"


def test_without_journal_and_record_the_error_says_that_the_label_is_lost(write_bag):
    folder, _ = write_bag()
    cut(folder, 20)
    (folder / "journal.yaml").unlink()
    before = content_of(folder)
    with pytest.raises(EpisodeError, match=r"journal\.yaml: cannot be read.*its label is lost"):
        recover(folder)
    assert content_of(folder) == before


@pytest.mark.parametrize("size", [0, 5, 8, 30, None])
def test_a_bag_cut_before_its_first_message_becomes_an_empty_one(write_bag, size):
    folder, _ = write_bag()
    if size is None:
        bag_path(folder).unlink()
    else:
        cut(folder, size)
    recovered = recover(folder)
    assert is_clean(folder)
    assert recovered.counts["joint_states"].written == 0
    assert messages_in(folder) == []
    with AnyReader([folder]) as reader:
        assert reader.message_count == 0


def test_absent_or_emptied_metadata_is_written_again(write_bag, expected):
    folder, _ = write_bag()
    before = (folder / "metadata.yaml").read_text().replace("recovered: 'false'", "recovered: 'true'")
    for damage in (lambda path: path.unlink(), lambda path: path.write_text("")):
        damage(folder / "metadata.yaml")
        assert not is_clean(folder)
        recover(folder)
        assert (folder / "metadata.yaml").read_text() == before
        assert messages_in(folder) == expected(60)


def test_no_cut_of_a_bag_loses_a_flushed_message(write_bag, expected, tmp_path):
    folder, flushed = write_bag(messages=40)
    size = bag_path(folder).stat().st_size
    for at in range(0, size, 211):
        episode = copied(folder, tmp_path / "cut")
        cut(episode, at)
        assert not is_clean(episode)
        recovered = recover(episode)
        assert is_clean(episode)
        count = recovered.counts["joint_states"].written
        assert count >= max((messages for length, messages in flushed if length <= at), default=0)
        assert messages_in(episode) == expected(count)


def test_no_cut_of_a_bag_without_journal_is_beyond_recovery_once_its_first_record_is_on_the_disk(
    write_bag, expected, tmp_path
):
    folder, flushed = write_bag(messages=20)
    (folder / "journal.yaml").unlink()
    begun = flushed[0][0]  # by then the first record is on the disk
    for at in range(0, bag_path(folder).stat().st_size, 311):
        episode = copied(folder, tmp_path / "cut")
        cut(episode, at)
        if at < begun:
            with pytest.raises(EpisodeError, match="its label is lost"):
                recover(episode)
        else:
            count = recover(episode).counts["joint_states"].written
            assert messages_in(episode) == expected(count)


def test_no_wrong_byte_raises_anything_but_an_episode_error_or_makes_up_messages(write_bag, expected, tmp_path):
    folder, _ = write_bag(messages=40)
    content = bag_path(folder).read_bytes()
    everything = set(expected(40))
    for at in range(0, len(content), 173):
        episode = copied(folder, tmp_path / "flipped")
        (episode / "metadata.yaml").unlink()
        bag_path(episode).write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            recover(episode)
        except EpisodeError:
            kept = bag_path(episode)
        else:
            assert set(messages_in(episode)) <= everything
            whole = len(messages_in(episode)) == 40
            kept = None if whole else episode / f"{bag_path(episode).name}.damaged"
        assert kept is None or kept.read_bytes()[at] == content[at] ^ 0xFF


def test_one_damaged_chunk_costs_its_messages_only_and_the_old_file_is_kept(write_bag, expected):
    folder, _ = write_bag()
    content = bytearray(bag_path(folder).read_bytes())
    content[content.index(expected(33)[32][2])] ^= 0xFF
    bag_path(folder).write_bytes(content)
    (folder / "metadata.yaml").unlink()
    recovered = recover(folder)
    assert messages_in(folder) == expected(60)[:30] + expected(60)[35:]
    assert recovered.note == "damaged records were left out, the old file is kept as episode_000042_0.mcap.damaged"
    assert (folder / "episode_000042_0.mcap.damaged").read_bytes() == content
    assert recovered.counts["joint_states"].written == 55


def test_a_tail_that_the_file_system_filled_with_zeros_is_left_out(write_bag, expected):
    folder, _ = write_bag(close=False)
    with bag_path(folder).open("ab") as stream:
        stream.write(bytes(3_000_000))
    assert recover(folder).note == ""
    assert messages_in(folder) == expected(60)
    assert len(content_of(folder)) == 3


def test_what_another_tool_put_into_the_bag_is_kept(write_bag, expected, store, tmp_path):
    """The same bag once more, without chunks, with a record and an attachment of somebody else."""
    folder, _ = write_bag()
    text, _ = store.generate_msgdef(JOINT_STATE, ros_version=2)
    with bag_path(folder).open("wb") as stream:
        foreign = McapWriter(stream, compression=CompressionType.NONE, use_chunking=False)
        foreign.start("ros2")
        foreign.add_metadata(RECORD_NAME, to_record(load_journal(folder)))
        foreign.add_metadata("lab", {"room": "3"})
        foreign.add_attachment(1, 2, "setup.txt", "text/plain", b"as on Monday")
        schema = foreign.register_schema(JOINT_STATE, "ros2msg", text.encode())
        channel = foreign.register_channel("/joint_states", "cdr", schema)
        for log_ns, publish_ns, data in expected(10):
            foreign.add_message(channel, log_ns, data, publish_ns)
    recover(folder)
    assert messages_in(folder) == expected(10)
    with bag_path(folder).open("rb") as stream:
        reader = make_reader(stream)
        assert {"room": "3"} in [entry.metadata for entry in reader.iter_metadata() if entry.name == "lab"]
        assert [(entry.name, entry.data) for entry in reader.iter_attachments()] == [("setup.txt", b"as on Monday")]


@pytest.mark.parametrize("name", ["closed", "cut"])
@pytest.mark.parametrize("with_journal", [True, False])
def test_a_bag_of_another_program_is_refused_and_left_alone(tmp_path, store, joint_state, journal, name, with_journal):
    folder = tmp_path / "episode_000042"
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as foreign:
        connection = foreign.add_connection("/joint_states", JOINT_STATE, typestore=store)
        foreign.write(connection, START_NS, joint_state(0))
    (folder / "episode_000042.mcap").rename(bag_path(folder))
    if name == "cut":
        cut(folder, bag_path(folder).stat().st_size - 3)
    if with_journal:
        save_journal(folder, journal)
    before = content_of(folder)
    with pytest.raises(EpisodeError, match=r"0\.mcap: is a bag of another program"):
        recover(folder)
    assert content_of(folder) == before


def test_files_that_are_no_bags_of_ros_2_are_refused_and_left_alone(write_bag):
    folder, _ = write_bag()
    with bag_path(folder).open("wb") as stream:
        McapWriter(stream).start("ros1")
    header = bag_path(folder).read_bytes()
    for content, words in [
        (b"SQLite format 3\x00", "not an MCAP file"),
        (bytes(500), "not an MCAP file"),
        (header, "profile"),
    ]:
        bag_path(folder).write_bytes(content)
        before = content_of(folder)
        with pytest.raises(EpisodeError, match=words):
            recover(folder)
        assert content_of(folder) == before


def test_a_bag_under_another_name_is_not_taken_for_a_missing_one(write_bag):
    folder, _ = write_bag()
    bag_path(folder).rename(folder / "mine.mcap")
    before = content_of(folder)
    with pytest.raises(EpisodeError, match=r"is missing, but the folder holds mine\.mcap"):
        recover(folder)
    assert content_of(folder) == before


def test_an_absent_folder_is_named(tmp_path):
    assert not is_clean(tmp_path / "absent")
    with pytest.raises(EpisodeError, match="absent: cannot be opened"):
        recover(tmp_path / "absent")


def test_a_bag_that_is_being_written_is_left_to_its_writer(tmp_path, journal):
    folder = tmp_path / "episode_000042"
    folder.mkdir()
    save_journal(folder, journal)
    writer = BagWriter(folder, [BagTopic("joint_states", JOINT_STATE, STATE)], to_record(journal))
    with pytest.raises(EpisodeError, match="is being written by somebody else"):
        recover(folder)
    writer.close(to_record(journal))
    assert recover(folder).recovered


def test_a_bag_on_a_full_disk_stays_as_it_is_until_there_is_room(small_disk, write_bag, expected):
    folder, _ = write_bag(messages=2000, flush_every=100, close=False, dataset=small_disk)
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "other").write_bytes(bytes(1_000_000))
    before = content_of(folder)
    with pytest.raises(EpisodeError, match="the disk is full"):
        recover(folder)
    assert content_of(folder) == before
    (small_disk / "other").unlink()
    assert recover(folder).counts["joint_states"].written == 2000
    assert messages_in(folder) == expected(2000)


def test_a_recovery_that_is_killed_anywhere_leaves_an_episode_that_can_be_recovered(write_bag, expected, tmp_path):
    folder, _ = write_bag(close=False)
    (folder / "metadata.yaml").write_text("of an earlier life")
    save_journal(folder, replace(load_journal(folder), outcome=Outcome.SUCCESS))
    kills = 0
    while True:
        episode = copied(folder, tmp_path / "killed")
        done = survived(episode, kills)
        recovered = recover(episode)
        assert (recovered.outcome, recovered.recovered) == (Outcome.SUCCESS, True)
        assert messages_in(episode) == expected(60)
        assert is_clean(episode)
        assert not list(episode.glob("*.mcap.partial"))
        if done:
            break
        kills += 1
    assert kills >= 10


def survived(episode, calls):
    """Recovers in a process that is killed before its call number `calls` that changes the disk for good."""
    child = os.fork()
    if child == 0:
        left = iter(range(calls))

        def counted(call):
            def instead(*args, **kwargs):
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return instead

        for name in ("write", "fsync", "replace", "unlink"):
            setattr(os, name, counted(getattr(os, name)))
        recover(episode)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGKILL
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0


RECORDER = """
import sys
from pathlib import Path
from policy_bringup.core.graph import STATE
from policy_bringup.episodes.bag_writer import BagTopic, BagWriter
from policy_bringup.episodes.journal import load_journal, to_record

folder, data = Path(sys.argv[1]), bytes.fromhex(sys.argv[2])
topic = BagTopic("joint_states", "sensor_msgs/msg/JointState", STATE)
writer = BagWriter(folder, [topic], to_record(load_journal(folder)))
for number in range(1_000_000):
    writer.write("joint_states", data, number, number)
    if number % 37 == 36:
        writer.flush()
        print(number + 1, flush=True)
"""


def test_a_recorder_that_is_killed_while_writing_loses_nothing_it_had_flushed(tmp_path, joint_state, journal):
    data = joint_state(3)
    for kill, lines in enumerate((1, 2, 40, 300)):
        folder = tmp_path / str(kill) / "episode_000042"
        folder.mkdir(parents=True)
        save_journal(folder, journal)
        command = [sys.executable, "-c", RECORDER, str(folder), data.hex()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as recorder:
            assert recorder.stdout is not None
            printed = [recorder.stdout.readline() for _ in range(lines)]
            save_journal(folder, replace(journal, outcome=Outcome.SUCCESS))  # while it is being recorded
            recorder.kill()
            printed += recorder.stdout.readlines()
        assert recorder.returncode == -signal.SIGKILL
        assert not is_clean(folder)
        recovered = recover(folder)
        count = recovered.counts["joint_states"].written
        assert count >= int([line for line in printed if line.endswith("\n")][-1])
        assert messages_in(folder) == [(number, number, data) for number in range(count)]
        assert (recovered.outcome, recovered.provenance) == (Outcome.SUCCESS, journal.provenance)
