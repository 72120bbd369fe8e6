from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.pipeline.faults import FAULTS, CameraFault, fault_of, impossible, onset_of

CAMERAS = ("front", "wrist")


def shot(level: int) -> dict[str, np.ndarray]:
    return {"front": np.full((4, 4, 3), level, np.uint8), "wrist": np.full((4, 4, 3), level + 100, np.uint8)}


def levels(fault: CameraFault, taken, time_s: float) -> tuple[int, int]:
    delivered = fault.pictures(taken, time_s)
    return int(delivered["front"].max()), int(delivered["wrist"].max())


@pytest.mark.parametrize("kind", FAULTS)
def test_before_its_onset_nothing_is_wrong(kind):
    fault = CameraFault(kind, CAMERAS, 0.5)
    assert levels(fault, shot(7), 0.49) == (7, 107)


def test_a_frozen_camera_repeats_its_last_sound_picture():
    fault = CameraFault("frozen", ("front",), 0.5)
    assert levels(fault, shot(1), 0.40) == (1, 101)
    assert levels(fault, shot(2), 0.45) == (2, 102)
    assert levels(fault, shot(3), 0.50) == (2, 103)
    assert levels(fault, shot(4), 5.00) == (2, 104)


def test_a_black_camera_is_black_and_the_other_one_is_not():
    assert levels(CameraFault("black", ("wrist",), 0.0), shot(9), 0.0) == (9, 0)


def test_swapped_cameras_show_each_others_pictures():
    assert levels(CameraFault("swapped", CAMERAS, 0.0), shot(9), 0.0) == (109, 9)


def test_which_camera_is_struck_depends_on_the_seed_alone():
    black = [tuple(fault_of("black", CAMERAS, seed, 0.0).pictures(shot(9), 1.0).values()) for seed in range(40)]
    struck = [int(not wrist.any()) for _, wrist in black]
    assert 10 < sum(struck) < 30
    again = [tuple(fault_of("black", CAMERAS, seed, 0.0).pictures(shot(9), 1.0).values()) for seed in range(40)]
    assert struck == [int(not wrist.any()) for _, wrist in again]


def test_onsets_are_spread_over_the_motion_and_over_nothing_else(make_attempt):
    """It moves from 0.1 to 1.1 s and from 2 to 3 s, of which the last half second is too late."""
    onsets = [onset_of("frozen", make_attempt(seed=seed), 2.5) for seed in range(1000)]
    early = [onset for onset in onsets if 0.1 <= onset <= 1.1]
    late = [onset for onset in onsets if 2.0 <= onset <= 2.5]
    assert len(early) + len(late) == 1000
    assert len(early) / 1000 == pytest.approx(2 / 3, abs=0.05)
    assert min(early) < 0.15
    assert max(late) > 2.45


def test_an_episode_without_motion_has_no_onset(make_attempt):
    assert onset_of("black", make_attempt(motion=()), 9.0) is None
    assert onset_of("black", make_attempt(), 0.1) is None


def test_faults_that_a_policys_cameras_cannot_have():
    assert impossible("swapped", CAMERAS) == impossible("black", ("front",)) == ""
    assert impossible("swapped", ("front",)) == "the policy reads 1 camera, the fault needs 2"
    assert impossible("frozen", ()) == "the policy reads no cameras, the fault needs 1"
