from dataclasses import replace

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ConfigError, ContractError, DeviceError, LearningError
from policy_bringup.inference.bundle import load_bundle
from policy_bringup.inference.manifest import Fingerprint, Uncertainty
from policy_bringup.inference.onnx_policy import load_policy
from policy_bringup.pipeline import play
from policy_bringup.pipeline.bundling import bundle
from policy_bringup.pipeline.calibrate import Calibration, Scored, apply, calibrate, score, take_stock
from policy_bringup.pipeline.play import Setting
from policy_bringup.sim.rollout import ClosedLoop, load_stack

FIRST = 500_000


@pytest.fixture(scope="module")
def site(config_folder, tmp_path_factory):
    """The configuration and a second deployment whose policy reads no picture: blind.yaml."""
    root = tmp_path_factory.mktemp("site")
    (root / "config").mkdir()
    (root / "models").symlink_to(config_folder.parent / "models")
    for path in config_folder.iterdir():
        (root / "config" / path.name).symlink_to(path)
    data = yaml.safe_load((config_folder / "grasp.yaml").read_text())
    data["contract"]["observation"]["images"] = []
    (root / "config" / "blind.yaml").write_text(yaml.safe_dump(data))
    return root / "config"


@pytest.fixture(scope="module")
def contract(site):
    return load_deployment(site / "blind.yaml")[0].contract


def hovering(contract):
    """Stay where the robot is. Uncertainty of step k: (k + 1) times the height of the tool, m."""
    steps, names, columns = contract.action.steps, contract.observation.names, contract.action.names
    weights = np.zeros((len(names), len(columns)), np.float32)
    for column in columns[:6]:
        weights[names.index(column), columns.index(column)] = 1.0
    weights[names.index("panda_finger_joint1"), columns.index("gripper.width")] = 2.0
    doubts = np.zeros((len(names), steps), np.float32)
    doubts[names.index("tool.z")] = np.arange(1, steps + 1)
    constants = {
        "weights": weights,
        "doubts": doubts,
        "force": np.where(np.array(columns) == "gripper.force", 20.0, 0.0).astype(np.float32),
        "shape": np.array([1, steps, len(columns)], np.int64),
        "row": np.array([1, steps], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["state", "weights"], ["product"]),
        helper.make_node("Add", ["product", "force"], ["sum"]),
        helper.make_node("Expand", ["sum", "shape"], ["action"]),
        helper.make_node("MatMul", ["state", "doubts"], ["heights"]),
        helper.make_node("Reshape", ["heights", "row"], ["uncertainty"]),
    ]
    tensor, f = helper.make_tensor_value_info, TensorProto.FLOAT
    made = helper.make_graph(
        nodes,
        "hover",
        [tensor("state", f, (1, 1, len(names)))],
        [tensor("action", f, (1, steps, len(columns))), tensor("uncertainty", f, (1, steps))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    answers = {
        "input.state": np.full((1, 1, len(names)), 0.1, np.float32),
        "output.action": np.tile(np.float32(0.1) * weights.sum(0) + constants["force"], (1, steps, 1)),
        "output.uncertainty": 0.1 * doubts.sum(0)[None],
    }
    return model.SerializeToString(), {name: array.astype(np.float32) for name, array in answers.items()}


@pytest.fixture
def hover(tmp_path, contract):
    """A bundle that is not calibrated."""
    model, answers = hovering(contract)
    nowhere = Fingerprint({}, (0.0,) * len(contract.observation.state))
    folder = tmp_path / "hover"
    files = {"report.md": b"# Report", "figures/loss.svg": b"<svg/>"}
    return bundle(
        folder, model, answers, contract, nowhere,
        dataset_sha256="d" * 64, configuration_sha256="c" * 64, opset=17, files=files,
    )  # fmt: skip


@pytest.fixture
def setting(site, hover):
    return Setting(site, "blind.yaml", play.bundle(hover.folder), "raycast", 0.3)


@pytest.fixture
def calibration(hover):
    return Calibration(0.7, 0.05, 30, tuple(0.01 * n for n in range(25)), hover.manifest.onnx.sha256)


def scored(successes, failures=0, start=0.0):
    """Scores rise by 0.01; those of failures are huge."""
    good = [Scored(FIRST + n, "raycast", True, start + 0.01 * n) for n in range(successes)]
    return [*good, *(Scored(FIRST + successes + n, "raycast", False, 1e6) for n in range(failures))][::-1]


def snapshot(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_score_is_the_largest_first_step_with_the_rule_off(site, setting, hover, contract):
    (rollout,) = score(setting, [FIRST], ["raycast"], 1, lambda _: None)
    stack = load_stack(site, "blind.yaml")
    loop = ClosedLoop(stack, load_policy(hover.folder, contract), 1e9, "raycast")
    trace = loop.run(FIRST, 0.3).trace
    assert rollout.score == trace.uncertainty[:, 0].max()
    assert rollout.score == pytest.approx(trace.tool[:, 2].max(), abs=0.01)
    assert (rollout.seed, rollout.backend, rollout.success) == (FIRST, "raycast", False)


def test_the_number_of_workers_changes_no_score_and_progress_hears_of_each(setting):
    heard = []
    seeds = [FIRST + 2, FIRST, FIRST + 1]
    alone = score(setting, seeds, ["raycast"], 1, heard.append)
    assert [rollout.seed for rollout in alone] == [rollout.seed for rollout in heard] == seeds
    assert score(setting, seeds, ["raycast"], 2, heard.append) == alone
    assert sorted(heard[3:], key=lambda rollout: seeds.index(rollout.seed)) == alone


def test_backends_take_turns(site, setting):
    _, no_egl = play.backends(load_stack(site, "blind.yaml"), "raycast")
    usable = ["raycast"] if no_egl else ["raycast", "egl"]
    rollouts = score(replace(setting, patience_s=0.05), range(FIRST, FIRST + 3), usable, 1, lambda _: None)
    assert [rollout.backend for rollout in rollouts] == (["raycast"] * 3 if no_egl else ["raycast", "egl", "raycast"])


def test_a_threshold_at_the_score_changes_nothing_and_one_below_it_does(site, setting, hover, contract):
    (rollout,) = score(setting, [FIRST], ["raycast"], 1, lambda _: None)
    stack, ends = load_stack(site, "blind.yaml"), []
    for threshold in (1e9, rollout.score, np.nextafter(rollout.score, 0.0)):
        loop = ClosedLoop(stack, load_policy(hover.folder, contract), threshold, "raycast")
        played = loop.run(FIRST, 0.3)
        ends.append((loop.world.qpos, played.verdicts, played.time_s))
    np.testing.assert_array_equal(ends[0][0], ends[1][0])
    assert ends[0][1:] == ends[1][1:]
    assert not ends[0][1]
    assert ends[2][1] or ends[2][2] < ends[0][2]


class FarDoubt:
    """The expert, sure of the first step and of no other."""

    def __init__(self, stack):
        self._expert, _ = play.expert(stack)
        self.contract, self.reset = self._expert.contract, self._expert.reset

    def predict(self, observation):
        chunk = self._expert.predict(observation)
        return replace(chunk, uncertainty=np.arange(len(chunk.times_s), dtype=float))


def test_doubt_about_later_steps_does_not_change_the_motion_by_a_bit(site):
    stack, ends = load_stack(site, "blind.yaml"), []
    for threshold in (1e9, 0.0):
        loop = ClosedLoop(stack, FarDoubt(stack), threshold, "raycast")
        rollout = loop.run(3, patience_s=1.5)
        assert not rollout.verdicts
        assert rollout.trace.doubt == 0.0
        assert np.ptp(rollout.trace.tool, axis=0).max() > 0.1
        ends.append(loop.world.qpos)
    np.testing.assert_array_equal(*ends)


def test_the_threshold_is_that_of_the_successful_ones(hover):
    found = take_stock(scored(39, failures=4), 0.05, hover)
    assert found.threshold == pytest.approx(0.37)  # the 38th of 39
    assert (found.episodes, found.successes, found.false_alarm_rate) == (43, 39, 0.05)
    assert found.scores == tuple(sorted(found.scores))
    assert found.model_sha256 == hover.manifest.onnx.sha256


def test_fewer_than_19_successes_are_refused(hover):
    assert take_stock(scored(19, failures=1), 0.05, hover).threshold == pytest.approx(0.18)
    with pytest.raises(LearningError) as caught:
        take_stock(scored(18, failures=12), 0.05, hover)
    assert str(caught.value) == (
        f"{hover.folder}: 18 of 30 rollouts succeeded: a false-alarm rate of 0.05 needs 19 successful episodes or "
        "more, there are 18"
    )


def test_a_policy_that_often_refuses_to_answer_has_no_threshold(hover):
    refusing = [Scored(FIRST + n, "raycast", True, np.inf if n < 2 else 0.1) for n in range(39)]
    assert take_stock([*refusing[1:], scored(1)[0]], 0.05, hover).threshold == 0.1
    with pytest.raises(LearningError, match="in 2 of 39 successful rollouts the policy refused to answer at times"):
        take_stock(refusing, 0.05, hover)


def test_too_few_episodes_are_refused_before_any_is_played(site, hover):
    with pytest.raises(LearningError, match="needs 19 successful episodes or more, so 18 cannot do"):
        calibrate(hover.folder, site, 18, deployment_file="blind.yaml")
    with pytest.raises(LearningError, match="needs 99 successful episodes or more, so 98 cannot do"):
        calibrate(hover.folder, site, 98, false_alarm_rate=0.01, deployment_file="blind.yaml")


@pytest.mark.parametrize("seed", [0, 499_999, 999_990, 1_000_000])
def test_seeds_of_training_and_evaluation_are_refused(site, hover, seed):
    with pytest.raises(ConfigError, match="calibration: seeds must be from 500000 to 999999"):
        calibrate(hover.folder, site, 19, seed, deployment_file="blind.yaml")


def test_a_policy_that_never_succeeds_is_not_calibrated_and_its_bundle_stays(site, hover):
    before, heard = snapshot(hover.folder), []
    with pytest.raises(LearningError, match=r"0 of 19 rollouts succeeded: a false-alarm rate of 0\.05 needs 19"):
        calibrate(
            hover.folder, site, 19, backends=("raycast",), progress=heard.append, deployment_file="blind.yaml",
            patience_s=0.02,
        )  # fmt: skip
    assert [rollout.seed for rollout in heard] == list(range(FIRST, FIRST + 19))
    assert snapshot(hover.folder) == before


def test_a_bundle_for_another_deployment_is_refused(site, hover):
    with pytest.raises(ContractError, match="the number of images is 0, the robot's configuration has 2"):
        calibrate(hover.folder, site, 19)


def test_no_backend_at_all_is_refused(site, hover):
    with pytest.raises(DeviceError, match="needs at least one camera backend"):
        calibrate(hover.folder, site, 19, backends=(), deployment_file="blind.yaml")


def test_a_calibrated_bundle_has_the_threshold_and_all_that_it_had(hover, contract, calibration):
    before, old = snapshot(hover.folder), hover.manifest
    written = apply(hover.folder, calibration)
    read = load_bundle(hover.folder, contract)
    assert read.manifest == written.manifest
    assert read.manifest == replace(old, uncertainty=Uncertainty("ensemble", 0.7, 0.05, 25))
    after = snapshot(hover.folder)
    assert after.keys() == before.keys() >= {"report.md", "figures/loss.svg", "parity.npz"}
    assert {name for name in after if after[name] != before[name]} == {"policy.yaml"}
    assert [path.name for path in hover.folder.parent.iterdir()] == ["hover"]
    load_policy(hover.folder, contract)


def test_a_threshold_keeps_every_digit(hover, contract, calibration):
    apply(hover.folder, replace(calibration, threshold=0.1 + 0.2))
    assert load_bundle(hover.folder, contract).manifest.uncertainty.threshold == 0.1 + 0.2


def test_the_threshold_of_another_graph_is_not_put_in(hover, calibration):
    before = snapshot(hover.folder)
    with pytest.raises(ContractError, match=r"policy.onnx: is not the graph that was calibrated; calibrate again"):
        apply(hover.folder, replace(calibration, model_sha256="0" * 64))
    assert snapshot(hover.folder) == before


def test_a_damaged_bundle_is_left_alone(hover, calibration):
    (hover.folder / "parity.npz").write_bytes(b"")
    with pytest.raises(ContractError, match=r"parity.npz: its sha256 is not the one"):
        apply(hover.folder, calibration)
    assert (hover.folder / "parity.npz").read_bytes() == b""
