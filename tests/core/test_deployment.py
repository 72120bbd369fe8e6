import copy
from dataclasses import FrozenInstanceError, fields

import pytest
import yaml

from policy_bringup.core.config import read_yaml
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.types import GRIPPER_COLUMNS, TOOL_COLUMNS, Space

TASK = ", ".join((*TOOL_COLUMNS, *GRIPPER_COLUMNS))


@pytest.fixture(scope="module")
def shipped(config_folder):
    """The shipped deployment and robot, as read."""
    return read_yaml(config_folder / "grasp.yaml"), read_yaml(config_folder / "robot.yaml")


class Files:
    """A deployment and its robot in a folder, to be changed."""

    def __init__(self, folder, grasp, robot):
        self.path, self.robot_path = folder / "grasp.yaml", folder / "robot.yaml"
        self.grasp, self.robot = copy.deepcopy(grasp), copy.deepcopy(robot)

    def load(self, overrides=None):
        self.path.write_text(yaml.safe_dump(self.grasp), encoding="utf-8")
        self.robot_path.write_text(yaml.safe_dump(self.robot), encoding="utf-8")
        return load_deployment(self.path, overrides)

    def refused(self):
        """The sentence of the refusal behind the file's path."""
        with pytest.raises(ConfigError) as error:
            self.load()
        return str(error.value)

    @property
    def action(self):
        return self.grasp["contract"]["action"]

    @property
    def observation(self):
        return self.grasp["contract"]["observation"]

    def limit(self, name):
        return next(limit for limit in self.grasp["limits"] if limit["name"] == name)

    def to_joint_space(self):
        """The same deployment, acting on joints."""
        joints = [
            {"name": j["name"], "lower": j["lower"], "upper": j["upper"], "max_step": 0.1, "max_velocity": 2.0,
             "max_acceleration": 40.0, "max_window": 0.4, "tolerance": 0.05}
            for j in self.robot["joints"]
        ]  # fmt: skip
        columns = [{"name": j["name"], "unit": "rad"} for j in self.robot["joints"]]
        self.action["space"] = "joint"
        self.action["columns"] = [*columns, *self.action["columns"][-2:]]
        self.grasp["limits"] = [*joints, *self.grasp["limits"][-2:]]


@pytest.fixture
def files(tmp_path, shipped):
    return Files(tmp_path, *shipped)


def test_the_shipped_deployment_loads(config_folder):
    deployment, robot = load_deployment(config_folder / "grasp.yaml")
    assert (deployment.task, deployment.camera_names) == ("grasp", ("front", "wrist"))
    assert deployment.contract.robot == robot.name == "panda"
    assert deployment.contract.action.space is Space.TASK
    assert deployment.contract.action.names == (*TOOL_COLUMNS, *GRIPPER_COLUMNS)
    assert set(robot.joint_names) < set(deployment.contract.observation.names)


def test_a_deployment_does_not_change_once_it_is_read(config_folder):
    deployment, robot = load_deployment(config_folder / "grasp.yaml")
    for value in (deployment, deployment.cameras[0], deployment.limits[0], robot, robot.joints[0], robot.gripper):
        with pytest.raises(FrozenInstanceError):
            setattr(value, fields(value)[0].name, "other")


def test_only_columns_that_say_so_are_held_at_their_command(files):
    del files.limit("tool.x")["holds_command"]
    held = {limit.name for limit in files.load()[0].limits if limit.holds_command}
    assert held == {"gripper.width", "gripper.force"}


def test_the_robot_is_looked_for_beside_the_deployment(files):
    assert files.load()[1].name == "panda"
    files.grasp["robot"] = "other.yaml"
    assert files.refused() == f"{files.path.parent / 'other.yaml'}: cannot be read (No such file or directory)"


def test_overrides_replace_what_the_file_says(files):
    assert files.load({"uncertainty_threshold": 0.25})[0].uncertainty_threshold == 0.25
    with pytest.raises(ConfigError) as error:
        files.load({"uncertainty": 0.25})
    assert str(error.value).startswith(f"{files.path}: unknown key 'uncertainty'; allowed are cameras, contract, ")


def test_a_deployment_in_joint_space_loads(files):
    files.to_joint_space()
    deployment, robot = files.load()
    assert deployment.contract.action.names == (*robot.joint_names, *GRIPPER_COLUMNS)


@pytest.mark.parametrize("key", ["lower", "upper", "velocity", "acceleration", "effort", "home"])
def test_a_joint_without_one_of_its_numbers_is_refused(files, key):
    del files.robot["joints"][3][key]
    assert files.refused().startswith(
        f"{files.robot_path}: joints[3]: key '{key}' is missing; it must be a number from"
    )


@pytest.mark.parametrize("key", ["lower", "upper", "max_step", "max_velocity", "max_acceleration", "max_window"])
def test_a_limit_without_one_of_its_numbers_is_refused(files, key):
    del files.grasp["limits"][2][key]
    assert files.refused().startswith(f"{files.path}: limits[2]: key '{key}' is missing; it must be a number from")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_limit_that_is_no_finite_number_is_refused(files, value):
    files.limit("tool.z")["upper"] = value
    assert files.refused() == (
        f"{files.path}: limits[2]: upper: must be a number from -1000 to 1000 unit, found {value}"
    )


# --- the robot


@pytest.mark.parametrize("upper", [-1.0, -0.5])
def test_a_joint_range_must_not_be_empty(files, upper):
    files.robot["joints"][0].update(lower=-0.5, upper=upper, home=-0.5)
    assert files.refused() == f"{files.robot_path}: panda_joint1: lower -0.5 must be below upper {upper}"


def test_a_gripper_range_must_not_be_empty(files):
    files.robot["gripper"].update(lower=0.08, upper=0.08)
    assert files.refused() == f"{files.robot_path}: panda_finger_joint1: lower 0.08 must be below upper 0.08"


@pytest.mark.parametrize("home", [-2.8974, 2.8974])
def test_home_must_be_within_the_joint_range(files, home):
    files.robot["joints"][0]["home"] = home
    assert files.refused() == f"{files.robot_path}: panda_joint1: home {home} must be from -2.8973 to 2.8973"


@pytest.mark.parametrize("home", [-2.8973, 2.8973])
def test_home_may_be_at_the_edge_of_the_joint_range(files, home):
    files.robot["joints"][0]["home"] = home
    assert files.load()[1].joints[0].home == home


def test_the_gripper_s_home_must_be_within_its_range(files):
    files.robot["gripper"]["home"] = 0.081
    assert files.refused() == f"{files.robot_path}: panda_finger_joint1: home 0.081 must be from 0.0 to 0.08"


def test_a_robot_without_joints_is_refused(files):
    files.robot["joints"] = []
    assert files.refused() == f"{files.robot_path}: joints: there must be at least one"


@pytest.mark.parametrize(("group", "key"), [("arm", "name"), ("gripper", "joint"), ("gripper", "mimic")])
def test_a_joint_name_must_not_stand_twice(files, group, key):
    (files.robot["joints"][1] if group == "arm" else files.robot["gripper"])[key] = "panda_joint1"
    found = files.refused()
    assert found.startswith(f"{files.robot_path}: joints and gripper: a joint name stands twice in panda_joint1, ")


# --- the contract


def test_the_contract_must_be_for_this_robot(files):
    files.grasp["contract"]["robot"] = "ur5e"
    assert files.refused() == f"{files.path}: contract: robot is 'ur5e', but robot.yaml is 'panda'"


@pytest.mark.parametrize("change", ["swapped", "missing", "extra", "renamed"])
def test_action_columns_must_be_those_of_the_space_in_order(files, change):
    columns = files.action["columns"]
    if change == "swapped":
        columns[0], columns[1] = columns[1], columns[0]
    elif change == "missing":
        del columns[-1]
    elif change == "extra":
        columns.append({"name": "base.x", "unit": "m"})
    else:
        columns[0]["name"] = "tool.X"
    found = ", ".join(column["name"] for column in columns)
    assert files.refused() == f"{files.path}: contract: action columns of task space must be {TASK}, found {found}"


def test_tool_columns_are_refused_in_joint_space(files):
    files.action["space"] = "joint"
    joints = ", ".join(joint["name"] for joint in files.robot["joints"])
    assert files.refused() == (
        f"{files.path}: contract: action columns of joint space must be "
        f"{joints}, gripper.width, gripper.force, found {TASK}"
    )


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"execute": 0}, False),
        ({"execute": 1}, True),
        ({"execute": 16}, True),
        ({"execute": 17}, False),
        ({"steps": 0, "execute": 0}, False),
        ({"steps": 1, "execute": 1}, True),
        ({"dt_s": 0.0}, False),
        ({"dt_s": -0.05}, False),
        ({"dt_s": 1e-9}, True),
    ],
)
def test_steps_and_their_period_must_make_a_chunk(files, changes, passes):
    files.action.update(changes)
    if passes:
        files.load()
    else:
        assert files.refused() == f"{files.path}: contract: action needs 1 <= execute <= steps and dt_s > 0"


@pytest.mark.parametrize(
    ("columns", "name", "unit", "right"),
    [
        ("action", "tool.x", "mm", "m"),
        ("action", "tool.rz", "deg", "rad"),
        ("action", "gripper.width", "mm", "m"),
        ("action", "gripper.force", "kN", "N"),
        ("state", "panda_joint4", "deg", "rad"),
        ("state", "panda_finger_joint1", "mm", "m"),
        ("state", "tool.y", "mm", "m"),
    ],
)
def test_a_known_column_has_its_unit_and_no_other(files, columns, name, unit, right):
    listed = files.action["columns"] if columns == "action" else files.observation["state"]
    next(column for column in listed if column["name"] == name)["unit"] = unit
    assert files.refused() == f"{files.path}: contract: '{name}' is in {right}, found unit '{unit}'"


def test_a_joint_column_that_commands_a_velocity_is_refused(files):
    files.to_joint_space()
    files.action["columns"][6]["unit"] = "rad/s"
    assert files.refused() == f"{files.path}: contract: 'panda_joint7' is in rad, found unit 'rad/s'"


def test_a_state_column_of_another_device_may_have_any_unit(files):
    files.observation["state"].append({"name": "object.qw", "unit": "1"})
    assert files.load()[0].contract.observation.names[-1] == "object.qw"


# --- what is observed


@pytest.mark.parametrize("name", ["front", "left/front"])
def test_every_camera_needs_a_name_that_makes_a_topic_of_its_own(files, name):
    files.grasp["cameras"].append({"name": name, "width": 64, "height": 64})
    assert files.refused() == (
        f"{files.path}: cameras: each needs a name of its own without '/', found front, wrist, {name}"
    )


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"history": 0}, False),
        ({"history": 2}, True),
        ({"history": 2, "spacing_s": 0.0}, False),
        ({"history": 2, "spacing_s": -0.05}, False),  # would look into the future
        ({"history": 2, "spacing_s": 1e-9}, True),
    ],
)
def test_history_must_go_back_in_time(files, changes, passes):
    files.observation.update(changes)
    if passes:
        files.load()
    else:
        assert files.refused() == (
            f"{files.path}: contract: observation: history must be 1 or more, and spacing_s above 0"
        )


def test_an_image_must_not_stand_twice(files):
    files.observation["images"].append({"camera": "front", "height": 64, "width": 64})
    assert files.refused() == f"{files.path}: contract: observation: image 'front' stands twice"


def test_a_state_column_must_not_stand_twice(files):
    files.observation["state"].append({"name": "tool.x", "unit": "m"})
    assert files.refused() == f"{files.path}: contract: observation: state column 'tool.x' stands twice"


def test_an_image_needs_a_camera(files):
    files.observation["images"][1]["camera"] = "ceiling"
    assert files.refused() == f"{files.path}: contract: image 'ceiling' has no camera; there are front, wrist"


def test_a_camera_that_no_policy_reads_is_allowed(files):
    del files.observation["images"][1]
    assert files.load()[0].camera_names == ("front", "wrist")


@pytest.mark.parametrize("changes", [{"encoding": "bgr8"}, {"resize": "nearest"}, {"height": 0}, {"width": -1}])
def test_an_image_that_cannot_be_made_is_refused(files, changes):
    files.observation["images"][0].update(changes)
    assert files.refused() == (
        f"{files.path}: contract: image 'front' needs encoding rgb8, a size of at least 1 x 1, "
        "and resize one of area, crop_area"
    )


@pytest.mark.parametrize("changes", [{"resize": "crop_area"}, {"height": 1, "width": 1}])
def test_every_size_and_resize_rule_that_can_be_made_is_allowed(files, changes):
    files.observation["images"][0].update(changes)
    files.load()


# --- limits


@pytest.mark.parametrize("change", ["swapped", "missing"])
def test_limits_must_be_those_of_the_action_columns_in_order(files, change):
    limits = files.grasp["limits"]
    if change == "swapped":
        limits[0], limits[1] = limits[1], limits[0]
    else:
        del limits[3]
    assert files.refused() == f"{files.path}: limits: must list the action columns in order: {TASK}"


def test_a_workspace_without_inside_is_refused(files):
    files.limit("tool.z").update(lower=0.5, upper=0.4)
    assert files.refused() == f"{files.path}: limits: tool.z: lower 0.5 must not be above upper 0.4"


def test_a_column_may_be_held_at_one_value(files):
    files.limit("tool.rx").update(lower=0.0, upper=0.0)
    files.load()


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("gripper.width", {"upper": 0.0801}, "0.0 to 0.0801 leaves the robot's 0.0 to 0.08"),
        ("gripper.width", {"lower": -0.001}, "-0.001 to 0.08 leaves the robot's 0.0 to 0.08"),
        ("gripper.force", {"upper": 60.5}, "0.0 to 60.5 leaves the robot's 0.0 to 60.0"),
        ("gripper.force", {"lower": -1.0}, "-1.0 to 60.0 leaves the robot's 0.0 to 60.0"),
    ],
)
def test_limits_must_lie_within_what_the_gripper_can_do(files, name, changes, sentence):
    files.limit(name).update(changes)
    assert files.refused() == f"{files.path}: limits: {name}: {sentence}"


def test_limits_must_lie_within_the_joint_ranges(files):
    files.to_joint_space()
    files.limit("panda_joint4")["upper"] = 0.0
    assert files.refused() == (
        f"{files.path}: limits: panda_joint4: -3.0718 to 0.0 leaves the robot's -3.0718 to -0.0698"
    )
    files.limit("panda_joint4").update(lower=-2.0, upper=-1.0)
    files.load()
