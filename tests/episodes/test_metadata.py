import yaml
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader

from policy_bringup.core.graph import EVENT, LATCHED, STATE
from policy_bringup.episodes.bag_writer import rosbag2_record
from policy_bringup.episodes.layout import bag_path
from policy_bringup.episodes.metadata import BagSummary, TopicEntry, offered_qos, write_metadata

EMPTY = BagSummary((), None, None, {})

# The text that rosbag2 on Jazzy writes for such a bag, but for the order of keys, which means nothing in YAML.
EXPECTED = """
rosbag2_bagfile_information:
  version: 9
  storage_identifier: mcap
  duration:
    nanoseconds: 250
  starting_time:
    nanoseconds_since_epoch: 1700000000000000000
  message_count: 7
  topics_with_message_count:
    - topic_metadata:
        name: /joint_states
        type: sensor_msgs/msg/JointState
        serialization_format: cdr
        offered_qos_profiles:
          - history: keep_last
            depth: 5
            reliability: best_effort
            durability: volatile
            deadline:
              sec: 9223372036
              nsec: 854775807
            lifespan:
              sec: 9223372036
              nsec: 854775807
            liveliness: automatic
            liveliness_lease_duration:
              sec: 9223372036
              nsec: 854775807
            avoid_ros_namespace_conventions: false
        type_description_hash: RIHS01_00
      message_count: 7
  compression_format: ""
  compression_mode: ""
  relative_file_paths:
    - episode_000042_0.mcap
  files:
    - path: episode_000042_0.mcap
      starting_time:
        nanoseconds_since_epoch: 1700000000000000000
      duration:
        nanoseconds: 250
      message_count: 7
  custom_data:
    episode: "42"
    note: "yes: ü"
  ros_distro: jazzy
"""


def test_metadata_holds_what_rosbag2_on_jazzy_writes(tmp_path):
    folder = tmp_path / "episode_000042"
    folder.mkdir()
    topic = TopicEntry("/joint_states", "sensor_msgs/msg/JointState", offered_qos(STATE), "RIHS01_00", 7)
    start_ns = 1_700_000_000_000_000_000
    write_metadata(folder, BagSummary((topic,), start_ns, start_ns + 250, {"episode": "42", "note": "yes: ü"}))
    text = (folder / "metadata.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == yaml.safe_load(EXPECTED)
    assert "&" not in text  # an anchor would be one for every two topics of the same QoS
    assert "*" not in text


def test_qualities_of_service_keep_their_words():
    (latched,), (event,) = offered_qos(LATCHED), offered_qos(EVENT)
    assert (latched["reliability"], latched["durability"], latched["depth"]) == ("reliable", "transient_local", 1)
    assert (event["reliability"], event["durability"], event["depth"]) == ("reliable", "volatile", 10)


def test_an_empty_bag_starts_at_the_end_of_time_as_in_rosbag2(tmp_path):
    write_metadata(tmp_path, EMPTY)
    information = yaml.safe_load((tmp_path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["starting_time"]["nanoseconds_since_epoch"] == 2**63 - 1
    assert information["duration"]["nanoseconds"] == 0
    assert information["custom_data"] is None


def test_the_record_inside_a_bag_says_the_same_as_its_metadata(write_bag):
    folder, _ = write_bag()
    with bag_path(folder).open("rb") as stream:
        (record,) = [entry for entry in make_reader(stream).iter_metadata() if entry.name == "rosbag2"]
    outside = yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert yaml.safe_load(record.metadata["serialized_metadata"]) == outside


def test_a_reader_of_rosbag2_finds_times_and_counts(write_bag):
    folder, _ = write_bag(messages=60)
    with Reader(folder) as reader:
        assert (reader.message_count, reader.duration) == (60, 59 * 10_000_000 + 1)  # its own end is exclusive
        assert reader.start_time == 1_700_000_000_002_000_000
        assert reader.ros_distro == "jazzy"
        assert [connection.digest[:7] for connection in reader.connections] == ["RIHS01_"]


def test_the_record_of_a_folder_names_its_file(tmp_path):
    text = rosbag2_record(tmp_path / "episode_000003", EMPTY)["serialized_metadata"]
    assert yaml.safe_load(text)["relative_file_paths"] == ["episode_000003_0.mcap"]
