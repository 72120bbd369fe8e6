from dataclasses import replace
from pathlib import Path

import pytest

from policy_bringup.core import graph
from policy_bringup.core.errors import ContractError
from policy_bringup.core.latency import UNMEASURED, Latency, measured_mode
from policy_bringup.core.types import Column, ImageSpec, Space
from policy_bringup.inference.agreement import check_agreement, check_alignment
from policy_bringup.inference.manifest import read_manifest


def action(**changes):
    return lambda contract: replace(contract, action=replace(contract.action, **changes))


def observed(**changes):
    return lambda contract: replace(contract, observation=replace(contract.observation, **changes))


WRIST, FRONT = ImageSpec("wrist", 6, 8), ImageSpec("front", 4, 5)
X, Y, WIDTH = Column("tool.x", "m"), Column("tool.y", "m"), Column("gripper.width", "m")

DIFFERENCES = [
    (lambda contract: replace(contract, robot="ur5e"), "the robot is ur5e"),
    (observed(images=(WRIST,)), "the number of images is 1"),
    (observed(images=(FRONT, WRIST)), "camera 1 is 'front'"),
    (observed(images=(ImageSpec("rear", 6, 8), FRONT)), "camera 1 is 'rear'"),
    (observed(images=(ImageSpec("wrist", 8, 6), FRONT)), "image 'wrist' size is 6x8"),
    (observed(images=(ImageSpec("wrist", 6, 8, "bgr8"), FRONT)), "image 'wrist' encoding is bgr8"),
    (observed(images=(ImageSpec("wrist", 6, 8, resize="crop"), FRONT)), "image 'wrist' resize rule is crop"),
    (observed(state=(X, Y)), "the number of state columns is 2"),
    (observed(state=(Y, X, WIDTH)), "state column 1 is 'tool.y' in m"),
    (observed(state=(X, Y, Column("gripper.width", "mm"))), "state column 3 is 'gripper.width' in mm"),
    (observed(history=1), "observation history is 1"),
    (observed(spacing_s=0.1), "observation spacing_s is 0.1"),
    (action(space=Space.JOINT), "action space is joint"),
    (action(columns=(X, Y, WIDTH, Column("gripper.force", "N"))), "the number of action columns is 4"),
    (action(columns=(X, WIDTH, Y)), "action column 2 is 'gripper.width' in m"),
    (action(columns=(X, Column("tool.y", "mm"), WIDTH)), "action column 2 is 'tool.y' in mm"),
    (action(steps=5), "action steps is 5"),
    (action(dt_s=0.1), "action dt_s is 0.1"),
    (action(dt_s=float("nan")), "action dt_s is nan"),
    (action(execute=3), "action execute is 3"),
]


def test_equal_contracts_agree(contract):
    check_agreement(contract, replace(contract), "policy.yaml")


@pytest.mark.parametrize(("change", "sentence"), DIFFERENCES, ids=[sentence for _, sentence in DIFFERENCES])
def test_every_difference_is_refused_and_named(contract, change, sentence):
    with pytest.raises(ContractError) as caught:
        check_agreement(change(contract), contract, "policy.yaml")
    assert str(caught.value).startswith(f"policy.yaml: {sentence}, the robot's configuration has ")


@pytest.mark.parametrize(("change", "sentence"), DIFFERENCES, ids=[sentence for _, sentence in DIFFERENCES])
def test_a_difference_is_refused_from_either_side(contract, change, sentence):
    with pytest.raises(ContractError):
        check_agreement(contract, change(contract), "policy.yaml")


def test_a_rounded_period_agrees_and_another_does_not(contract):
    exact = replace(contract, action=replace(contract.action, dt_s=1.0 / 30.0))
    check_agreement(replace(contract, action=replace(contract.action, dt_s=0.03333333)), exact, "policy.yaml")
    with pytest.raises(ContractError, match="dt_s"):
        check_agreement(replace(contract, action=replace(contract.action, dt_s=0.0333)), exact, "policy.yaml")


LATE = {"front": 0.03}


@pytest.mark.parametrize(
    ("aligned", "mode", "measured"),
    [
        ({}, "sim", {}),
        ({}, "hardware", {"front": 0.025}),
        ({}, "hardware", {"side": 0.1}),
        ({"hardware": LATE}, "hardware", {"front": 0.055}),
        ({"hardware": LATE}, "shadow", {"front": 0.005, "wrist": 0.025}),
        ({"hardware": LATE, "sim": {}}, "hardware", LATE),
        ({"sim": {}}, "hardware", {"front": 0.2}),
        ({"unknown": {}}, "hardware", {"front": 0.025}),
    ],
)
def test_a_policy_is_accepted_where_its_pictures_were_aligned_as_this_robots_are(contract, aligned, mode, measured):
    check_alignment(aligned, action(dt_s=0.05)(contract), Latency(measured), mode, "policy.yaml")


@pytest.mark.parametrize(
    ("aligned", "mode", "measured", "words"),
    [
        ({}, "hardware", {"front": 0.0251}, "'front' taken as 0 s late"),
        ({"hardware": LATE}, "hardware", {"front": 0.0551}, "'front' taken as 0.03 s late"),
        ({"hardware": LATE}, "shadow", {"front": 0.0049}, "has 0.0049 s in mode hardware"),
        ({"hardware": LATE}, "hardware", {}, "has 0 s in mode hardware"),
        ({"hardware": LATE}, "hardware", {**LATE, "wrist": 0.1}, "'wrist' taken as 0 s late"),
        ({"sim": {}, "hardware": {}}, "sim", LATE, "has 0.03 s in mode sim"),
        ({"unknown": {}}, "gazebo", LATE, "has 0.03 s in mode gazebo"),
        ({"import": LATE}, "hardware", {}, "'front' taken as 0.03 s late"),
    ],
)
def test_a_policy_whose_pictures_were_aligned_otherwise_is_refused(contract, aligned, mode, measured, words):
    with pytest.raises(ContractError, match=r"^policy\.yaml: fingerprint: aligned: ") as error:
        check_alignment(aligned, action(dt_s=0.05)(contract), Latency(measured), mode, "policy.yaml")
    assert words in str(error.value)
    assert "allowed is a difference of 0.025 s" in str(error.value)


def test_the_shipped_bundle_was_aligned_by_stamps_in_simulation_and_is_accepted_as_long_as_that_is_so():
    root = Path(__file__).resolve().parents[2]
    manifest = read_manifest(root / "models" / "policies" / "grasp" / "policy.yaml")
    aligned = manifest.fingerprint.aligned
    assert aligned == {"sim": {}}
    late = Latency({"wrist": 0.026})
    for mode in graph.MODES:
        check_alignment(aligned, manifest.contract, UNMEASURED, mode, "policy.yaml")
        if measured_mode(mode) == "sim":
            with pytest.raises(ContractError):
                check_alignment(aligned, manifest.contract, late, mode, "policy.yaml")
        else:
            check_alignment(aligned, manifest.contract, late, mode, "policy.yaml")
