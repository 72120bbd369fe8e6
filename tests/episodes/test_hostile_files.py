"""Files of a dataset that somebody else sends: what would run code is refused, and nothing runs."""

import os
from pathlib import Path

import numpy as np
import pytest

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.frames import Frames, load_frames, save_frames
from policy_bringup.episodes.journal import load_journal
from policy_bringup.episodes.splits import load_split

READERS = {"journal.yaml": load_journal, "split.yaml": load_split}


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self._marker),)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("tag", ["apply", "new"])
def test_a_python_tag_in_a_datasets_yaml_is_refused_and_runs_nothing(tmp_path: Path, name: str, tag: str):
    marker = tmp_path / "ran"
    (tmp_path / name).write_text(f"train: !!python/object/{tag}:os.mkdir ['{marker}']\n", encoding="utf-8")
    with pytest.raises(EpisodeError, match=f"{name}: is not valid YAML"):
        READERS[name](tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["state.npy", "stamps_ns.npy", "images_front.npy"])
def test_a_pickle_in_place_of_an_array_of_frames_is_refused_unopened(tmp_path: Path, name: str):
    marker, folder = tmp_path / "ran", tmp_path / "frames"
    images = {"front": np.zeros((2, 4, 4, 3), np.uint8)}
    save_frames(
        folder,
        Frames(
            stamps_ns=np.arange(2),
            images=images,
            state=np.zeros((2, 3)),
            action=np.zeros((2, 4)),
            driver=np.array(["", "policy"]),
        ),
    )
    trap = np.array([Trap(marker)], dtype=object)
    np.save(folder / name, trap, allow_pickle=True)
    with pytest.raises(EpisodeError, match=f"{name}: cannot be read"):
        load_frames(folder)
    assert not marker.exists()
    np.load(folder / name, allow_pickle=True)
    assert marker.exists(), "the trap itself must work"
