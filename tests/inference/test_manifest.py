from dataclasses import replace

import pytest

from policy_bringup.core.types import Column, ImageSpec
from policy_bringup.inference.manifest import Fingerprint, Manifest, OnnxFile, Provenance, Uncertainty, read_manifest


@pytest.fixture
def make(contract):
    def make_manifest(change=lambda contract: contract, **fields):
        parts = {
            "format": 1,
            "contract": change(contract),
            "uncertainty": Uncertainty("ensemble", 0.25, 0.05, 40),
            "fingerprint": Fingerprint({"wrist": (0.0,) * 64, "front": (0.0,) * 64}, (0.0, 0.0, 0.0)),
            "onnx": OnnxFile("policy.onnx", "0" * 64, 17, 0.0),
            "files": {},
            "provenance": Provenance("d", "c", "a"),
        }
        return Manifest(**{**parts, **fields})

    return make_manifest


def action(**changes):
    return lambda contract: replace(contract, action=replace(contract.action, **changes))


def observed(**changes):
    return lambda contract: replace(contract, observation=replace(contract.observation, **changes))


def test_a_policy_that_is_not_calibrated_yet_has_a_threshold_that_stops_nothing(make):
    assert make(uncertainty=Uncertainty("ensemble", 1e9, 0.05, 0)).uncertainty.threshold == 1e9
    with pytest.raises(ValueError, match=r"threshold of 0.25 needs calibration_episodes"):
        Uncertainty("ensemble", 0.25, 0.05, 0)


@pytest.mark.parametrize("execute", [1, 4])
def test_executing_one_to_all_steps_is_accepted(make, execute):
    assert make(action(execute=execute)).contract.action.execute == execute


@pytest.mark.parametrize("execute", [0, 5])
def test_executing_no_step_or_more_than_there_are_is_rejected(make, execute):
    with pytest.raises(ValueError, match="execute must be from 1 to 4 steps"):
        make(action(execute=execute))


@pytest.mark.parametrize("change", [action(dt_s=0.0), action(dt_s=float("nan")), observed(spacing_s=-0.1)])
def test_a_period_that_is_not_positive_is_rejected(make, change):
    with pytest.raises(ValueError, match="must be more than 0 s"):
        make(change)


def test_a_history_of_nothing_is_rejected(make):
    with pytest.raises(ValueError, match="history must be 1 or more"):
        make(observed(history=0))


@pytest.mark.parametrize(
    "change",
    [
        action(columns=(Column("tool.x", "m"), Column("tool.x", "m"))),
        action(columns=(Column("tool.x", "m"), Column("uncertainty", ""))),
        observed(state=(Column("a", "m"), Column("b", "m"), Column("a", "m"))),
        observed(images=(ImageSpec("wrist", 6, 8), ImageSpec("wrist", 4, 5))),
    ],
)
def test_a_name_that_stands_twice_is_rejected(make, change):
    with pytest.raises(ValueError, match="stands twice"):
        make(change)


def test_a_manifest_that_does_not_say_by_what_its_pictures_were_aligned_means_their_stamps(make):
    assert make().fingerprint.aligned == {}


def test_a_fingerprint_of_other_cameras_is_rejected(make):
    with pytest.raises(ValueError, match="the contract's cameras"):
        make(fingerprint=Fingerprint({"wrist": (0.0,) * 64}, (0.0, 0.0, 0.0)))


@pytest.mark.parametrize("count", [63, 65])
def test_a_thumbnail_of_another_size_is_rejected(make, count):
    with pytest.raises(ValueError, match="64 grey values"):
        make(fingerprint=Fingerprint({"wrist": (0.0,) * count, "front": (0.0,) * 64}, (0.0, 0.0, 0.0)))


@pytest.mark.parametrize("count", [2, 4])
def test_a_start_pose_of_another_width_is_rejected(make, count):
    with pytest.raises(ValueError, match="start_pose must have 3 values"):
        make(fingerprint=Fingerprint({"wrist": (0.0,) * 64, "front": (0.0,) * 64}, (0.0,) * count))


def test_a_manifest_is_read_without_the_graph(folder):
    (folder / "policy.onnx").unlink()
    assert read_manifest(folder / "policy.yaml").uncertainty.threshold == 0.25


@pytest.mark.parametrize("count", [2, 4])
def test_a_start_spread_of_another_width_is_rejected(make, count):
    with pytest.raises(ValueError, match="start_spread must have 3 values, or none"):
        make(fingerprint=Fingerprint({"wrist": (0.0,) * 64, "front": (0.0,) * 64}, (0.0,) * 3, (0.1,) * count))


def test_a_bundle_from_before_start_spreads_were_kept_is_read(make):
    assert make().fingerprint.start_spread == ()
