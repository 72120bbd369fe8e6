from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from policy_bringup.core.errors import LearningError
from policy_bringup.learning.checkpoint import (
    CHECKPOINT_FILE,
    Checkpoint,
    Course,
    check_same_run,
    fill,
    load_checkpoint,
    save_checkpoint,
    write_whole,
)


@pytest.fixture
def checkpoint() -> Checkpoint:
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    course = Course(step=7, best_score=0.5, best_step=4, history=({"step": 4.0, "validation/loss": 0.5},))
    config = {"family": "bc_cnn", "model": {"channels": [1, 2]}, "optimisation": {"seed": 0, "threads": 1}}
    weights = net.state_dict()
    return Checkpoint(config, {"train": "a", "validation": "b"}, weights, weights, optimiser.state_dict(), {}, course)


def test_everything_comes_back(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint)
    found = load_checkpoint(tmp_path)
    assert found.course == checkpoint.course
    assert (found.config, found.data, found.best) == (checkpoint.config, checkpoint.data, {})
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in checkpoint.weights.items())
    moments = found.optimiser["state"][0]["exp_avg_sq"], checkpoint.optimiser["state"][0]["exp_avg_sq"]
    assert torch.equal(*moments)


def test_shares_are_of_the_steps_time_with_the_waiting_for_their_data() -> None:
    course = Course(spent_s=100.0, waited_s=1.0, stepped_s=9.0, augmented_s=2.5)
    assert course.step_shares() == {"waiting": 0.1, "augmentation": 0.25}
    assert Course(waited_s=1.0).step_shares() == {}


def test_a_folder_without_a_run_holds_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "absent") is None


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT_FILE).write_bytes(content)
    with pytest.raises(LearningError, match=r"checkpoint\.pt: cannot be read .*; delete it to begin again$"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_checkpoint_that_was_cut_off_is_refused(checkpoint: Checkpoint, tmp_path: Path, share: float) -> None:
    save_checkpoint(tmp_path, checkpoint)
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(LearningError, match="cannot be read"):
        load_checkpoint(tmp_path)


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_no_code_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    torch.save({"format": 1, "config": Evil(tmp_path / "ran")}, tmp_path / CHECKPOINT_FILE)
    with pytest.raises(LearningError, match="cannot be read"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Evil(tmp_path / "ran"))).close()
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("found", [[1], {"format": 2}, {"format": 1}, {"format": 1, "course": {"stpe": 1}}])
def test_a_foreign_file_is_refused(tmp_path: Path, found: object) -> None:
    torch.save(found, tmp_path / CHECKPOINT_FILE)
    with pytest.raises(LearningError, match="delete it to begin again"):
        load_checkpoint(tmp_path)


def test_the_same_run_goes_on_and_threads_and_budget_do_not_matter(checkpoint: Checkpoint, tmp_path: Path) -> None:
    how = {"seed": 0, "threads": 8, "budget_min": 30.0}
    check_same_run(tmp_path, checkpoint, {**checkpoint.config, "optimisation": how}, checkpoint.data)


@pytest.mark.parametrize(
    ("config", "data", "sentence"),
    [
        ({"family": "bc_spatial"}, {}, "begun with family 'bc_cnn', and now it is 'bc_spatial'"),
        ({"model": {"channels": [1, 3]}}, {}, r"model.channels \[1, 2\], and now it is \[1, 3\]"),
        ({"model": {}}, {}, r"model.channels \[1, 2\], and now it is absent"),
        ({"model": {"channels": [1, 2], "depth": 3}}, {}, "model.depth absent, and now it is 3"),
        ({"optimisation": {"seed": 1}}, {}, "optimisation.seed 0, and now it is 1"),
        ({}, {"train": "c"}, "data.train 'a', and now it is 'c'"),
    ],
)
def test_another_run_is_refused_by_its_first_difference(
    checkpoint: Checkpoint, tmp_path: Path, config: dict[str, object], data: dict[str, str], sentence: str
) -> None:
    with pytest.raises(LearningError, match=sentence):
        check_same_run(tmp_path, checkpoint, {**checkpoint.config, **config}, {**checkpoint.data, **data})


def test_weights_of_another_net_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(LearningError, match="its weights are not those of"):
        fill(torch.nn.Linear(4, 2), checkpoint.weights, tmp_path)


def test_a_file_that_cannot_be_written_is_named_and_the_older_one_stays(tmp_path: Path) -> None:
    with pytest.raises(LearningError, match=r"absent/metrics\.json: cannot be written \(No such file"):
        write_whole(tmp_path / "absent" / "metrics.json", b"new")
    path = tmp_path / "metrics.json"
    write_whole(path, b"old")
    (tmp_path / "metrics.json.partial").mkdir()
    with pytest.raises(LearningError, match="cannot be written"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
