import errno
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.graph import topics
from policy_bringup.episodes.layout import (
    absolute_name,
    bag_path,
    begin_episode,
    episode_name,
    episode_number,
    episodes,
    graph_name,
    lock,
    naming,
    write_durably,
)


def begin_many(dataset):
    return [begin_episode(dataset).name for _ in range(20)]


def test_a_bag_is_named_as_reindexing_expects_it(tmp_path):
    folder = tmp_path / episode_name(42)
    assert bag_path(folder) == tmp_path / "episode_000042" / "episode_000042_0.mcap"


def test_numbers_of_any_length_come_back_from_their_names(tmp_path):
    for number in (0, 7, 999_999, 1_000_000):
        assert episode_number(tmp_path / episode_name(number)) == number


@pytest.mark.parametrize(
    "name", ["episode_42", "episode_00004x", "Episode_000042", "episode_000042_0", "episode_٠٠٠٠٤٢"]
)
def test_a_folder_of_another_name_is_no_episode(tmp_path, name):
    (tmp_path / name).mkdir()
    assert episodes(tmp_path) == ()
    with pytest.raises(EpisodeError, match="must be like episode_000042"):
        episode_number(tmp_path / name)


def test_episodes_are_listed_by_number_and_files_are_not(tmp_path):
    for number in (1_000_000, 3, 20):
        (tmp_path / episode_name(number)).mkdir()
    (tmp_path / episode_name(5)).write_text("a file")
    assert [episode_number(folder) for folder in episodes(tmp_path)] == [3, 20, 1_000_000]


def test_a_dataset_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EpisodeError, match="absent: cannot be read as a dataset"):
        episodes(tmp_path / "absent")


def test_the_first_episode_creates_the_dataset_and_the_next_follows_the_last(tmp_path):
    dataset = tmp_path / "new" / "dataset"
    assert begin_episode(dataset).name == "episode_000000"
    (dataset / episode_name(7)).mkdir()
    assert begin_episode(dataset).name == "episode_000008"


def test_a_name_taken_by_a_file_is_passed_over(tmp_path):
    (tmp_path / episode_name(0)).write_text("a file")
    assert begin_episode(tmp_path).name == "episode_000001"


def test_two_recorders_never_get_the_same_folder(tmp_path):
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        names = [name for part in pool.map(begin_many, [tmp_path] * 4) for name in part]
    assert sorted(names) == [episode_name(number) for number in range(80)]


def test_an_episode_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "dataset").write_text("a file")
    with pytest.raises(EpisodeError, match="dataset: cannot be written"):
        begin_episode(tmp_path / "dataset")


def test_every_topics_name_comes_back_from_the_bag():
    for topic in topics(("wrist", "front")):
        assert absolute_name(topic.name).startswith("/")
        assert graph_name(absolute_name(topic.name)) == topic.name


def test_one_folder_has_one_writer_at_a_time(tmp_path):
    descriptor = lock(tmp_path)
    with pytest.raises(EpisodeError, match="is being written by somebody else"):
        lock(tmp_path)
    os.close(descriptor)
    os.close(lock(tmp_path))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "journal.yaml"
    write_durably(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_durably(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_full(tmp_path, code):
    with pytest.raises(EpisodeError, match="bag: the disk is full"), naming(tmp_path / "bag"):
        raise OSError(code, os.strerror(code))
