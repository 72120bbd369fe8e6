import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from policy_bringup.core import graph, security_policies
from policy_bringup.core.config import read_yaml
from policy_bringup.core.errors import ConfigError

CAMERAS = ("front", "wrist")
TOPICS = graph.topics(CAMERAS)
OWN = [topic.name.lstrip("/") for topic in TOPICS]
RIGHTS = {"topics": ("publish", "subscribe"), "services": ("reply", "request")}


@pytest.fixture(scope="module")
def policy() -> ET.Element:
    return ET.fromstring(security_policies.policy(CAMERAS))


def holders(policy: ET.Element, right: str, name: str) -> set[str]:
    """The nodes whose enclave has a right to a name, read from the XML alone."""
    found = set()
    for enclave in policy.iter("enclave"):
        (profile,) = enclave.iter("profile")
        granted = {entry.text for block in profile if block.get(right) == "ALLOW" for entry in block}
        if f"/{name}" in granted:
            found.add(enclave.get("path").removeprefix("/policy_bringup/"))
    return found


def assert_shape(element: ET.Element, shape: dict) -> None:
    """An element has the attributes it must have, and only known children, at least one of each group."""
    assert set(element.attrib) == set(shape["attributes"]), element.tag
    children = [child for child in element if child.tag is not ET.Comment]
    assert children, f"<{element.tag}> is empty"
    for child in children:
        assert child.tag in shape["children"], f"<{child.tag}> in <{element.tag}>"
        assert not (child.tail or "").strip()


def test_the_policy_has_the_form_that_sros2_reads(policy: ET.Element):
    """Its schema: policy 0.2.0 > enclaves > enclave(path) > profiles > profile(ns, node) > lists, none empty."""
    assert (policy.tag, policy.get("version")) == ("policy", "0.2.0")
    assert_shape(policy, {"attributes": ["version"], "children": ["enclaves"]})
    (enclaves,) = policy.findall("enclaves")
    assert_shape(enclaves, {"attributes": [], "children": ["enclave"]})
    for enclave in enclaves:
        assert_shape(enclave, {"attributes": ["path"], "children": ["profiles"]})
        for profiles in enclave:
            assert_shape(profiles, {"attributes": [], "children": ["profile"]})
            for profile in profiles:
                assert_shape(profile, {"attributes": ["ns", "node"], "children": list(RIGHTS)})
                for block in profile:
                    assert_block(block)


def assert_block(block: ET.Element) -> None:
    ((right, answer),) = block.items()
    assert right in RIGHTS[block.tag]
    assert answer == "ALLOW"
    assert len(block)
    for entry in block:
        assert (entry.tag, dict(entry.attrib), len(entry)) == (block.tag.removesuffix("s"), {}, 0)
        assert entry.text.startswith(("/", "~/"))


def test_every_process_has_one_enclave_of_its_own_that_names_it(policy: ET.Element):
    paths = [enclave.get("path") for enclave in policy.iter("enclave")]
    assert sorted(paths) == sorted(f"/policy_bringup/{name}" for name in security_policies.participants())
    for enclave in policy.iter("enclave"):
        (profile,) = enclave.iter("profile")
        assert (profile.get("ns"), profile.get("node")) == ("/", enclave.get("path").rpartition("/")[2])


def test_only_safety_may_publish_safe_actions(policy: ET.Element):
    assert holders(policy, "publish", "safety/action") == {"safety"}


def test_only_the_arm_node_may_command_the_controller(policy: ET.Element):
    assert holders(policy, "publish", "arm_controller/joint_trajectory") == {"arm"}


def test_only_who_is_meant_to_may_arm_and_reset(policy: ET.Element):
    assert holders(policy, "request", "safety/arm") == {"trial", "teleop", "console", "operator"}
    assert holders(policy, "request", "safety/reset") == {"console", "operator"}


@pytest.mark.parametrize("topic", TOPICS, ids=OWN)
def test_every_topic_is_granted_to_exactly_its_publishers_and_readers(policy: ET.Element, topic: graph.Topic):
    name = topic.name.lstrip("/")
    assert holders(policy, "publish", name) == set(topic.publishers)
    assert holders(policy, "subscribe", name) == set(topic.readers) | ({"recorder"} if topic.recorded else set())


@pytest.mark.parametrize("service", graph.SERVICES, ids=lambda service: service.name)
def test_every_service_is_granted_to_exactly_its_server_and_clients(policy: ET.Element, service: graph.Service):
    assert holders(policy, "reply", service.name) == set(service.servers)
    assert holders(policy, "request", service.name) == set(service.clients)


def test_nothing_is_granted_by_a_pattern_and_nothing_that_is_neither_of_the_graph_nor_of_every_node(policy: ET.Element):
    known = {f"/{name}" for name in (*OWN, *(service.name for service in graph.SERVICES))}
    known |= {*security_policies.EVERY_NODE_PUBLISHES, *security_policies.LIFECYCLE_PUBLISHES}
    known |= {*security_policies.EVERY_NODE_SERVES, *security_policies.LIFECYCLE_SERVES}
    names = {entry.text for tag in ("topic", "service") for entry in policy.iter(tag)}
    assert names <= known
    assert not [name for name in names if set(name) & set("*?[]!{}")]


def test_nobody_may_set_parameters_or_change_the_state_of_another_process(policy: ET.Element):
    own = {entry.text for block in policy.iter("services") if block.get("request") for entry in block}
    assert own == {f"/{service.name}" for service in graph.SERVICES}


@pytest.mark.parametrize("name", ["*", "front/../x", "", "a b", "[a-z]", "größe"])
def test_a_camera_that_could_be_a_pattern_is_refused(name: str):
    with pytest.raises(ConfigError, match="must be a word of letters"):
        security_policies.policy((name,))


def test_who_takes_no_part_has_no_rights():
    with pytest.raises(ConfigError, match="'intruder' takes no part"):
        security_policies.grants("intruder", CAMERAS)


def test_the_committed_policy_is_that_of_the_present_graph_and_deployment(config_folder: Path):
    cameras = tuple(camera["name"] for camera in read_yaml(config_folder / "grasp.yaml")["cameras"])
    assert (config_folder / "sros2_policy.xml").read_text(encoding="utf-8") == security_policies.policy(cameras)


def test_the_module_writes_the_policy(tmp_path: Path):
    out = tmp_path / "policy.xml"
    command = [sys.executable, "-m", "policy_bringup.core.security_policies", str(out), *CAMERAS]
    subprocess.run(command, check=True, timeout=60)
    assert out.read_text(encoding="utf-8") == security_policies.policy(CAMERAS)


def test_a_secured_process_takes_up_its_enclave_and_starts_only_with_its_keys(tmp_path: Path):
    folder = tmp_path / "enclaves" / "policy_bringup" / "safety"
    with pytest.raises(ConfigError, match=r"permissions\.p7s is missing; make it with `ros2 security"):
        security_policies.environment(tmp_path, "safety")
    folder.mkdir(parents=True)
    (folder / "permissions.p7s").touch()
    assert security_policies.environment(tmp_path, "safety") == {
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
        "ROS_SECURITY_KEYSTORE": str(tmp_path),
    }
    assert security_policies.arguments("safety") == ("--enclave", "/policy_bringup/safety")
