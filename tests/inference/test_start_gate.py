import cv2
import numpy as np
import pytest

from policy_bringup.core.errors import ObservationError
from policy_bringup.core.thumbnail import coarse, thumbnail
from policy_bringup.core.types import Column, ImageSpec, Observation, ObservationSpec
from policy_bringup.inference.manifest import Fingerprint
from policy_bringup.inference.start_check import GAP, StartCheck, StartLimits
from policy_bringup.inference.start_gate import IN_A_ROW, KEPT, StartGate

SPEC = ObservationSpec((ImageSpec("front", 64, 64),), (Column("joint1", "rad"),))
GOOD = np.random.default_rng(5).integers(0, 256, (8, 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
BLACK = np.zeros_like(GOOD)
NOON_NS = 1_784_635_200_000_000_000


@pytest.fixture
def said():
    return []


@pytest.fixture
def make(said):
    def gate(folder):
        grey = tuple(coarse(thumbnail(GOOD)).ravel().tolist())
        return StartGate(
            StartCheck(Fingerprint({"front": grey}, (1.0,)), SPEC, StartLimits(0.8, 0.05, 0.01)), folder, said.append
        )

    return gate


def ask(gate, pixels=GOOD, joint=1.0, wall_ns=NOON_NS):
    """What it says to one moment; "" if it lets the policy propose."""
    try:
        gate.admit(Observation(1, {"front": pixels[None]}, np.array([[joint]])), wall_ns)
    except ObservationError as error:
        return str(error)
    return ""


def test_a_good_start_passes_after_enough_moments_and_without_a_word(make, tmp_path, said):
    gate = make(tmp_path / "starts")
    answers = [ask(gate) for _ in range(IN_A_ROW + 3)]
    assert answers == ["the start is being compared with the training data"] * (IN_A_ROW - 1) + [""] * 4
    assert gate.passed
    assert said == []
    assert not (tmp_path / "starts").exists()


def test_a_bad_one_is_refused_for_as_long_as_it_lasts_and_goes_on_without_a_restart(make, tmp_path, said):
    gate = make(tmp_path)
    refused = [ask(gate, BLACK) for _ in range(50)]
    assert len(set(refused)) == 1
    assert refused[0].startswith("no action before this is put right: camera 'front': the picture is black")
    assert not gate.passed
    answers = [ask(gate) for _ in range(IN_A_ROW)]
    assert [bool(answer) for answer in answers] == [True] * (IN_A_ROW - 1) + [False]
    assert said == [refused[0], "the start is now like the training data's: the policy goes on"]


def test_good_moments_count_in_a_row_only(make, tmp_path):
    gate = make(tmp_path)
    for _ in range(4):
        assert all(ask(gate) for _ in range(IN_A_ROW - 1))
        assert ask(gate, joint=1.5)
    assert not gate.passed


def test_once_passed_it_does_not_look_again_until_it_is_reset(make, tmp_path):
    gate = make(tmp_path)
    for _ in range(IN_A_ROW):
        ask(gate)
    assert ask(gate, BLACK, joint=3.0) == ""
    gate.reset()
    assert not gate.passed
    assert "black" in ask(gate, BLACK)


def test_each_thing_that_is_wrong_is_said_once_and_its_pictures_are_kept_once(make, tmp_path, said):
    gate = make(tmp_path)
    for number in range(30):
        ask(gate, (BLACK, 255 - GOOD)[number % 2], wall_ns=NOON_NS + number * 50_000_000)
    sheets = sorted(tmp_path.iterdir())
    assert [path.name for path in sheets] == ["start_20260721T120000.000000Z.png", "start_20260721T120000.050000Z.png"]
    assert all(str(path) in sentence for path, sentence in zip(sheets, said[:2], strict=True))
    assert "seen on the left, the training data's on the right" in said[0]
    seen = cv2.imread(str(sheets[0]))[GAP : GAP + 64, GAP : GAP + 64]
    np.testing.assert_array_equal(seen, BLACK)


def test_only_the_newest_sheets_stay(make, tmp_path):
    (tmp_path / "note.png").touch()
    for number in range(KEPT + 5):
        gate = make(tmp_path)
        ask(gate, BLACK, wall_ns=NOON_NS + number * 1_000_000)
    kept = sorted(path.name for path in tmp_path.glob("start_*.png"))
    assert len(kept) == KEPT
    assert kept[-1] == "start_20260721T120000.024000Z.png"
    assert (tmp_path / "note.png").exists()


def test_a_disk_that_takes_nothing_costs_the_pictures_and_not_the_refusal(make, tmp_path):
    (tmp_path / "file").touch()
    sentence = ask(make(tmp_path / "file" / "starts"), BLACK)
    assert "the picture is black" in sentence
    assert "(the pictures could not be saved in" in sentence


def test_without_a_folder_the_sentence_has_to_do(make):
    assert ask(make(None), BLACK).endswith("needed is 2")
