from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.journal import Outcome, save_journal
from policy_bringup.episodes.layout import episode_name
from policy_bringup.episodes.splits import SPLIT_FILE, Split, _sizes, load_split, save_split, split


@pytest.fixture
def make(tmp_path, journal):
    """A dataset with an episode for every outcome given."""

    def dataset(*outcomes: Outcome):
        for number, outcome in enumerate(outcomes):
            folder = tmp_path / episode_name(number)
            folder.mkdir()
            save_journal(folder, replace(journal, episode=number, outcome=outcome))
        return tmp_path

    return dataset


def names(parts: Split) -> list[str]:
    return [*parts.train, *parts.validation, *parts.test]


def test_every_episode_is_in_one_part_and_the_parts_have_their_shares(make):
    parts = split(make(*[Outcome.SUCCESS] * 20), seed=1)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [14, 3, 3]
    assert sorted(names(parts)) == [episode_name(number) for number in range(20)]
    assert all(list(part) == sorted(part) for part in (parts.train, parts.validation, parts.test))


def test_the_seed_decides(make):
    dataset = make(*[Outcome.SUCCESS] * 20)
    assert split(dataset, 1) == split(dataset, 1)
    assert split(dataset, 1) != split(dataset, 2)


def test_failures_are_left_out_unless_asked_for_and_discarded_ones_always(make):
    dataset = make(*[Outcome.SUCCESS, Outcome.FAILURE, Outcome.DISCARDED] * 4)
    assert {int(name[-6:]) % 3 for name in names(split(dataset, 1))} == {0}
    assert {int(name[-6:]) % 3 for name in names(split(dataset, 1, include_failures=True))} == {0, 1}


def test_too_few_episodes_are_refused_at_the_boundary(make):
    dataset = make(Outcome.SUCCESS, Outcome.SUCCESS, Outcome.FAILURE)
    assert Counter(map(len, [*vars_of(split(dataset, 1, include_failures=True))])) == {1: 3}
    with pytest.raises(EpisodeError, match="has 2 successful episodes; a split into 3 parts needs 3"):
        split(dataset, 1)
    assert len(names(split(dataset, 1, shares=(0.5, 0.5, 0.0)))) == 2


def vars_of(parts: Split) -> tuple[tuple[str, ...], ...]:
    return parts.train, parts.validation, parts.test


@pytest.mark.parametrize("shares", [(0.7, 0.2, 0.2), (0.7, 0.15, 0.1), (1.2, -0.1, -0.1)])
def test_shares_that_are_no_shares_are_refused(make, shares):
    with pytest.raises(EpisodeError, match="add up to 1"):
        split(make(*[Outcome.SUCCESS] * 20), 1, shares=shares)


def test_a_damaged_journal_is_named(make):
    dataset = make(*[Outcome.SUCCESS] * 5)
    (dataset / episode_name(3) / "journal.yaml").write_text("outcome: maybe")
    with pytest.raises(EpisodeError, match=episode_name(3)):
        split(dataset, 1)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    count=st.integers(3, 500),
    weights=st.tuples(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100)).filter(any),
)
def test_sizes_add_up_and_are_near_their_shares(count, weights):
    shares = [weight / sum(weights) for weight in weights]
    sizes = _sizes(count, shares)
    assert sum(sizes) == count
    assert all((size > 0) == (share > 0) for size, share in zip(sizes, shares, strict=True))
    assert all(abs(size - share * count) < 2.0 for size, share in zip(sizes, shares, strict=True))


def test_a_saved_split_is_loaded_as_it_was(make):
    dataset = make(*[Outcome.SUCCESS] * 7)
    parts = split(dataset, 5)
    save_split(dataset, parts, 5)
    assert load_split(dataset) == parts
    assert "seed: 5" in (dataset / SPLIT_FILE).read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("train: [a]\nvalidation: [b]\ntest: [a]\n", "a stands twice"),
        ("train: [a]\nvalidation: [b]\n", "test: must be a list"),
        ("train: [1]\nvalidation: []\ntest: []\n", "train: must be a list of episodes"),
        ("- a\n", "must have the keys train, validation, test"),
        ("train: [a", "is not valid YAML"),
    ],
)
def test_a_split_that_cannot_be_is_refused(tmp_path, content, said):
    (tmp_path / SPLIT_FILE).write_text(content)
    with pytest.raises(EpisodeError, match=said):
        load_split(tmp_path)


def test_a_dataset_without_a_split_is_told_how_to_make_one(tmp_path):
    with pytest.raises(EpisodeError, match="policy episodes split"):
        load_split(tmp_path)
