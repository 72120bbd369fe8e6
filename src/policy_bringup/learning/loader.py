"""Batches in an order drawn anew for each round, made ready in the background."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policy_bringup.core.errors import LearningError
from policy_bringup.learning.batch import Batch

Indices = npt.NDArray[np.intp]
Make = Callable[[Indices], Batch]
"""Indices of windows `(B,)` -> the batch of them."""
AHEAD = 2
"""Batches that are made before they are asked for."""


class Loader:
    """Each `iter` is one round through `count` windows, in an order drawn from `rng`; without one, from the first on.

    batch_size: windows in a batch of all `world` processes together, of which this one, `rank`, gets its equal share;
    with generators of the same seed, all together get what one process alone would. drop_last: leave out the windows
    that do not fill a batch. first: the batch that a round begins with, for a run that goes on. waited_s and worked_s:
    time that the consumer has spent waiting for batches, and between them, in all rounds so far. Raises LearningError
    if batches cannot be shared out equally, or there is not one.

    An error in the making of a batch reaches the consumer in its place. Leaving a round early ends its thread.
    """

    def __init__(
        self,
        make: Make,
        count: int,
        batch_size: int,
        rng: np.random.Generator | None,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = True,
        first: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if batch_size < 1 or batch_size % world or not 0 <= rank < world:
            raise LearningError(f"batch size {batch_size} cannot be shared out equally to {world} processes")
        if world > 1 and not drop_last:
            raise LearningError(f"the last batch cannot be shared out equally to {world} processes; leave it out")
        if drop_last and count < batch_size:
            raise LearningError(f"{count} windows do not fill one batch of {batch_size}; choose a smaller size")
        self.waited_s = self.worked_s = 0.0
        self._make, self._count, self._rng, self._clock = make, count, rng, clock
        last = count - batch_size if drop_last else count - 1
        self._starts = range(first * batch_size, last + 1, batch_size)
        self._size, self._mine = batch_size, slice(rank * batch_size // world, (rank + 1) * batch_size // world)

    def __len__(self) -> int:
        """Batches in a round."""
        return len(self._starts)

    @property
    def waited_share(self) -> float:
        """Part of the consumer's time that went into waiting, 0..1."""
        return self.waited_s / max(self.waited_s + self.worked_s, 1e-9)

    def __iter__(self) -> Iterator[Batch]:
        """One round. The order is drawn at once, the work begins with the first batch."""
        order = np.arange(self._count) if self._rng is None else self._rng.permutation(self._count)
        return self._round([order[start : start + self._size][self._mine] for start in self._starts])

    def _round(self, parts: list[Indices]) -> Iterator[Batch]:
        ahead = _Ahead(self._make, parts)
        try:
            for _ in parts:
                asked_s = self._clock()
                batch = ahead.take()
                given_s = self._clock()
                self.waited_s += given_s - asked_s
                yield batch
                self.worked_s += self._clock() - given_s
        finally:
            ahead.stop()


@dataclass(frozen=True, slots=True, eq=False)
class _Failure:
    error: Exception


class _Ahead:
    """A thread that makes batches, `AHEAD` more than were taken. Copying them in numpy leaves Python to the others."""

    def __init__(self, make: Make, parts: list[Indices]) -> None:
        self._make, self._parts = make, parts
        self._made: queue.SimpleQueue[Batch | _Failure] = queue.SimpleQueue()
        self._room = threading.Semaphore(AHEAD)
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def take(self) -> Batch:
        """The next batch. Raises what its making raised."""
        made = self._made.get()
        self._room.release()
        if isinstance(made, _Failure):
            raise made.error
        return made

    def stop(self) -> None:
        """Ends the thread; a batch that is in the making is finished first."""
        self._stopped = True
        self._room.release()
        self._thread.join()

    def _work(self) -> None:
        try:
            for part in self._parts:
                self._room.acquire()
                if self._stopped:
                    return
                self._made.put(self._make(part))
        except Exception as error:
            self._made.put(_Failure(error))
