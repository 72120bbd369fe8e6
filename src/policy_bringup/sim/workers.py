"""Processes that play episodes: Ctrl+C is their owner's business, and they end with it, however it ends.

A pool of the standard library alone would not do: its processes die of a Ctrl+C meant for their owner, and those of an
owner that was killed play on, into the folder of its next start.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Spread(Protocol):
    """Does the same to many items, and yields what comes of each as it is done. function: of a module."""

    def __call__(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Raises what `function` raises, and BrokenProcessPool if a process dies."""


def _nothing() -> None:
    """No preparation."""


@contextmanager
def workers(count: int, prepare: Callable[..., None] = _nothing, *arguments: Any) -> Iterator[Spread]:
    """So many processes, each of which calls `prepare(*arguments)` once, before anything else.

    However the block ends, what they are at is done to its end first; only a KeyboardInterrupt ends it at once.
    """
    # Spawned, not forked: a copy of a process with threads (of the renderer, of numpy) may hang.
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    with theirs, ours:
        pool = ProcessPoolExecutor(count, context, _begin, (theirs, prepare, *arguments))
        try:
            yield partial(_spread, pool)
        except KeyboardInterrupt:
            ours.close()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _spread(pool: ProcessPoolExecutor, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    with _interrupts_held_back():
        futures = [pool.submit(function, item) for item in items]
    for future in as_completed(futures):
        yield future.result()


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Processes begun meanwhile never hear of a Ctrl+C, from their first moment on; this one does afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(owner: Connection, prepare: Callable[..., None], *arguments: Any) -> None:
    """The first thing in each process."""
    threading.Thread(target=_end_with, args=(owner,), daemon=True).start()
    prepare(*arguments)


def _end_with(owner: Connection) -> None:
    """Waits until nobody holds the pipe's other end: the owner let go of it, or is no more."""
    owner.poll(None)
    os._exit(1)
