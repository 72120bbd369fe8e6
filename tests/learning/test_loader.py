import threading
import time
from collections import Counter
from itertools import chain, islice

import numpy as np
import pytest
import torch

from policy_bringup.core.errors import EpisodeError, LearningError
from policy_bringup.learning.dataset import batches
from policy_bringup.learning.loader import AHEAD, Loader


def key(batch) -> list[bytes]:
    """Windows by their pictures, which are all different."""
    return [picture.numpy().tobytes() for picture in batch.images["front"]]


def rows(loader) -> list[list[bytes]]:
    return [key(batch) for batch in loader]


def flat(parts: list[list[bytes]]) -> list[bytes]:
    return list(chain.from_iterable(parts))


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


def wait_for(condition) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_round_without_a_generator_goes_through_all_windows_in_order(dataset):
    loader = batches(dataset, 50, None, drop_last=False)
    found = rows(loader)
    assert [len(part) for part in found] == [50, 50, 20]
    assert len(loader) == 3
    assert flat(found) == key(dataset.batch(np.arange(120)))


def test_a_shuffled_round_holds_every_window_once(dataset):
    found = flat(rows(batches(dataset, 32, np.random.default_rng(3), drop_last=False)))
    everything = key(dataset.batch(np.arange(120)))
    assert Counter(found) == Counter(everything)
    assert found != everything


def test_windows_that_fill_no_batch_are_left_out_if_wanted(dataset):
    loader = batches(dataset, 50, np.random.default_rng(3))
    assert [len(part) for part in rows(loader)] == [50, 50]
    assert len(loader) == 2


def test_each_round_has_an_order_of_its_own_and_a_seed_brings_both_back(dataset):
    loader, again = (batches(dataset, 40, np.random.default_rng(5)) for _ in range(2))
    first, second = rows(loader), rows(loader)
    assert first != second
    assert [rows(again), rows(again)] == [first, second]


def test_a_round_that_goes_on_begins_where_it_was_left(dataset):
    whole = rows(batches(dataset, 16, np.random.default_rng(5)))
    rest = batches(dataset, 16, np.random.default_rng(5), first=3)
    assert len(rest) == 4
    assert rows(rest) == whole[3:]


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_batches_that_one_alone_would_see(dataset, world):
    alone = rows(batches(dataset, 24, np.random.default_rng(9)))
    shares = [rows(batches(dataset, 24, np.random.default_rng(9), rank, world)) for rank in range(world)]
    for number, batch in enumerate(alone):
        parts = [share[number] for share in shares]
        assert [len(part) for part in parts] == [24 // world] * world
        assert len(set(flat(parts))) == 24
        assert flat(parts) == batch


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch size 0 cannot be shared out"),
        ({"batch_size": 10, "world": 3}, "batch size 10 cannot be shared out equally to 3 processes"),
        ({"batch_size": 10, "rank": 2, "world": 2}, "cannot be shared out equally to 2"),
        ({"batch_size": 10, "world": 2, "drop_last": False}, "the last batch cannot be shared out"),
        ({"batch_size": 121}, "120 windows do not fill one batch of 121"),
    ],
)
def test_batches_that_cannot_be_are_refused_at_once(dataset, options, words):
    with pytest.raises(LearningError, match=words):
        batches(dataset, rng=None, **options)


def test_a_batch_as_large_as_the_dataset_is_allowed(dataset):
    assert [len(part) for part in rows(batches(dataset, 120, None))] == [120]


def test_two_batches_are_made_ahead_and_no_more(dataset):
    made = []

    def make(indices):
        made.append(indices[0])
        return dataset.batch(indices)

    iterator = iter(Loader(make, 120, 10, None))
    next(iterator)
    wait_for(lambda: len(made) == 1 + AHEAD)
    time.sleep(0.05)  # time in which a third one could be made
    assert len(made) == 1 + AHEAD == 3
    iterator.close()


def test_an_error_in_the_making_reaches_the_consumer_in_its_place(dataset):
    def make(indices):
        if indices[0] == 20:
            raise EpisodeError("the disk is gone")
        return dataset.batch(indices)

    iterator = iter(Loader(make, 120, 10, None))
    assert [len(next(iterator).state) for _ in range(2)] == [10, 10]
    with pytest.raises(EpisodeError, match="the disk is gone"):
        next(iterator)
    assert not workers()


def test_leaving_a_round_early_leaves_no_thread(dataset):
    for _ in batches(dataset, 10, None):
        assert len(workers()) == 1
        break
    assert not workers()
    for _ in islice(batches(dataset, 10, None), 2):
        pass
    assert not workers()


def test_an_error_of_the_consumer_leaves_no_thread(dataset):
    def consume() -> None:
        for _ in batches(dataset, 10, None):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()
    wait_for(lambda: not workers())


def test_a_finished_round_leaves_no_thread(dataset):
    assert len(rows(batches(dataset, 10, None))) == 12
    assert not workers()


def test_a_round_that_is_never_begun_starts_no_thread(dataset):
    iterator = iter(batches(dataset, 10, None))
    assert not workers()
    del iterator


def test_waiting_and_working_are_counted_apart_over_all_rounds(dataset):
    # asked for, given, given back, twice a round
    times = iter([0.0, 1.0, 5.0, 5.0, 7.0, 10.0, 20.0, 20.5, 21.0, 21.0, 22.5, 29.0])
    loader = Loader(dataset.batch, 120, 60, None, clock=lambda: next(times))
    assert len(list(loader)) == 2
    assert (loader.waited_s, loader.worked_s, loader.waited_share) == (3.0, 7.0, 0.3)
    assert len(list(loader)) == 2
    assert (loader.waited_s, loader.worked_s) == (5.0, 14.0)


def test_a_loader_that_was_not_used_has_not_waited(dataset):
    assert batches(dataset, 10, None).waited_share == 0.0


def test_tensors_of_a_batch_may_be_written_to_without_touching_the_dataset(dataset):
    before = dataset.batch(np.arange(10))
    for batch in batches(dataset, 10, None):
        batch.images["front"].zero_()
        batch.state.zero_()
        batch.action.zero_()
    after = dataset.batch(np.arange(10))
    assert torch.equal(before.images["front"], after.images["front"])
    assert torch.equal(before.state, after.state)
    assert torch.equal(before.action, after.action)
