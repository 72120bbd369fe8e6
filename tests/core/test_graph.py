from dataclasses import FrozenInstanceError, fields

import pytest

from policy_bringup.core import graph
from policy_bringup.core.errors import ConfigError

CAMERAS = ("front", "wrist")
FILLED = graph.topics(CAMERAS)
NODE_NAMES = {node.name for node in graph.NODES}
MESSAGE_TYPES = {
    "sensor_msgs": {"Image", "CompressedImage", "CameraInfo", "JointState", "Joy"},
    "geometry_msgs": {"PoseStamped"},
    "trajectory_msgs": {"JointTrajectory"},
    "diagnostic_msgs": {"DiagnosticArray"},
    "std_msgs": {"Bool"},
}
SERVICE_TYPES = ("std_srvs/srv/Trigger", "std_srvs/srv/SetBool")


@pytest.mark.parametrize("rows", [FILLED, graph.TOPICS, graph.SERVICES, graph.NODES], ids=["filled", "t", "s", "n"])
def test_every_name_is_unique(rows):
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("topic", FILLED, ids=lambda topic: topic.name)
def test_a_topic_is_joined_to_known_nodes_only(topic):
    assert set(topic.publishers) <= NODE_NAMES | {"robot", "operator"}
    assert set(topic.readers) <= NODE_NAMES | {"robot"}
    assert topic.publishers
    for names in (topic.publishers, topic.readers):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("service", graph.SERVICES, ids=lambda service: service.name)
def test_a_service_is_served_and_called_by_known_nodes(service):
    assert set(service.servers) <= NODE_NAMES | {"robot"}
    assert service.clients
    assert set(service.clients) <= NODE_NAMES | {"operator"}
    assert service.type in SERVICE_TYPES or service.server == "robot"


@pytest.mark.parametrize("mode", graph.MODES)
@pytest.mark.parametrize("service", graph.SERVICES, ids=lambda service: service.name)
def test_in_no_mode_do_two_nodes_serve_the_same(service, mode):
    assert len(set(service.servers) & {node.name for node in graph.nodes(mode)}) <= 1


def test_in_every_mode_that_moves_an_arm_somebody_can_make_it_yield():
    servers = set(graph.service("robot/compliant").servers)
    running = {mode: servers & {node.name for node in graph.nodes(mode)} for mode in graph.MODES}
    assert running == {"sim": {"sim"}, "hardware": {"compliance"}, "gazebo": {"compliance"}, "shadow": set()}


@pytest.mark.parametrize("node", graph.NODES, ids=lambda node: node.name)
def test_every_node_runs_in_some_known_mode_and_takes_part(node):
    assert node.modes
    assert set(node.modes) <= set(graph.MODES)
    assert any(node.name in topic.publishers or node.name in topic.readers for topic in FILLED)
    assert (node.module, node.executable) == (f"policy_bringup.nodes.{node.name}_node", f"{node.name}_node")
    assert node.config in {f"{other.name}.yaml" for other in graph.NODES}


def test_nothing_but_safety_speaks_to_the_arm_and_nothing_but_the_arm_to_the_controller():
    assert graph.topic("safety/action").publishers == ("safety",)
    assert graph.topic("arm_controller/joint_trajectory").publishers == ("arm",)


def test_every_source_of_actions_goes_to_safety_and_not_to_the_arm():
    sources = [topic for topic in FILLED if topic.name.endswith("/action") and topic.name != "safety/action"]
    assert {topic.name for topic in sources} >= {"policy/action", "home/action"}
    for topic in sources:
        assert "safety" in topic.readers
        assert "arm" not in topic.readers


def test_no_action_is_ever_latched():
    for topic in FILLED:
        if topic.type == "trajectory_msgs/msg/JointTrajectory":
            assert (topic.qos.durability, topic.qos.depth) == ("volatile", 1)


def test_no_image_enters_safety_or_the_arm():
    for topic in FILLED:
        if topic.type == "sensor_msgs/msg/Image":
            assert not {"safety", "arm"} & set(topic.readers)


@pytest.mark.parametrize("topic", FILLED, ids=lambda topic: topic.name)
def test_a_stream_is_stale_only_after_more_than_one_period(topic):
    assert topic.stale_s > 0.0
    if topic.rate_hz > 0.0:
        assert topic.stale_s > 1.0 / topic.rate_hz


@pytest.mark.parametrize("topic", FILLED, ids=lambda topic: topic.name)
def test_only_standard_messages_and_known_qualities_of_service_are_used(topic):
    package, kind, name = topic.type.split("/")
    assert kind == "msg"
    assert name in MESSAGE_TYPES[package]
    assert topic.qos.reliability in ("reliable", "best_effort")
    assert topic.qos.durability in ("volatile", "transient_local")
    assert topic.qos.depth >= 1


@pytest.mark.parametrize("mode", graph.MODES)
@pytest.mark.parametrize("name", ["camera/front/image_raw", "joint_states"])
def test_in_every_mode_somebody_publishes_what_a_policy_sees(mode, name):
    running = {node.name for node in graph.nodes(mode)}
    outside = set() if mode == "sim" else {"robot"}
    assert set(graph.topic(name).publishers) & (running | outside)


@pytest.mark.parametrize("mode", ["sim", "hardware", "gazebo"])
def test_a_mode_that_moves_an_arm_runs_every_link_of_the_chain(mode):
    assert {"policy", "safety", "arm"} <= {node.name for node in graph.nodes(mode)}


def test_shadow_mode_can_command_nothing():
    running = {node.name for node in graph.nodes("shadow")}
    assert not running & set(graph.topic("arm_controller/joint_trajectory").publishers)
    assert "policy" in running


def test_the_simulator_runs_in_sim_mode_alone():
    assert [mode for mode in graph.MODES if "sim" in {node.name for node in graph.nodes(mode)}] == ["sim"]


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError) as error:
        graph.nodes("demo")
    assert str(error.value) == "mode: must be one of sim, hardware, gazebo, shadow, found 'demo'"


def test_camera_topics_are_filled_in_for_every_camera():
    names = [topic.name for topic in FILLED]
    for camera in CAMERAS:
        assert {f"camera/{camera}/image_raw", f"camera/{camera}/camera_info"} <= set(names)
    assert not any("{" in name for name in names)
    assert {topic.name for topic in graph.topics(())} == {name for name in names if not name.startswith("camera/")}


@pytest.mark.parametrize("topic", FILLED, ids=lambda topic: topic.name)
def test_every_topic_is_found_by_its_name(topic):
    assert graph.topic(topic.name) == topic


def test_the_entry_for_every_camera_is_found_by_its_placeholder():
    assert graph.topic("camera/{camera}/image_raw") == graph.TOPICS[0]


def test_a_camera_may_have_the_name_of_a_topic_part():
    assert graph.topic("camera/image_raw/image_raw").name == "camera/image_raw/image_raw"
    assert graph.topic("camera/camera/camera_info").type == "sensor_msgs/msg/CameraInfo"


@pytest.mark.parametrize(
    "name",
    ["", "camera/front", "camera/front/depth", "camera//image_raw", "camera/image_raw", "camera/a/b/image_raw",
     "xcamera/front/image_raw", "camera/front/image_raw/", "/joint_states", "diagnostics", "safety/action2",
     "camera/"],
)  # fmt: skip
def test_a_topic_that_is_not_on_the_page_does_not_exist(name):
    with pytest.raises(ConfigError) as error:
        graph.topic(name)
    assert str(error.value) == f"topic '{name}' is not in core/graph.py"


@pytest.mark.parametrize("service", graph.SERVICES, ids=lambda service: service.name)
def test_every_service_is_found_by_its_name(service):
    assert graph.service(service.name) is service


def test_a_service_that_is_not_on_the_page_does_not_exist():
    with pytest.raises(ConfigError) as error:
        graph.service("safety/disarm")
    assert str(error.value) == "service 'safety/disarm' is not in core/graph.py"


def test_whatever_is_seen_moves_the_arm_stops_it_or_says_why_is_recorded():
    told = {"Image", "CameraInfo", "JointState", "JointTrajectory", "DiagnosticArray", "Bool", "Joy"}
    about_itself = "recorder/state"
    assert all(
        topic.recorded for topic in FILLED if topic.type.rpartition("/")[2] in told and topic.name != about_itself
    )


def test_the_recorder_may_read_what_is_recorded_and_nothing_else():
    for topic in FILLED:
        assert topic.read_by("recorder") == topic.recorded
        assert not topic.read_by("stranger")


def test_no_link_between_camera_and_arm_may_be_missing():
    chain = {"sim", "camera", "policy", "safety", "arm"}
    assert not any(node.optional for node in graph.NODES if node.name in chain)


@pytest.mark.parametrize("entry", [graph.NODES[0], graph.TOPICS[0], graph.TOPICS[0].qos, graph.SERVICES[0]], ids=repr)
def test_nothing_on_the_page_changes_while_running(entry):
    with pytest.raises(FrozenInstanceError):
        setattr(entry, fields(entry)[0].name, "other")


def test_every_node_has_its_console_script(config_folder):
    scripts = (config_folder.parent / "setup.cfg").read_text(encoding="utf-8").split()
    for node in graph.NODES:
        assert f"{node.module}:main" in scripts
        assert scripts[scripts.index(f"{node.module}:main") - 2] == node.executable
