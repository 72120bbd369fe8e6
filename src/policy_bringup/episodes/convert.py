"""Many bags -> frames, in parallel processes or on a Ray cluster. A bag that cannot be read harms no other.

Each worker holds one episode at a time and is replaced after a few, so that memory stays bounded however many bags
there are. What is finished stays finished: a conversion that was cut off goes on where it was.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.latency import NOTHING_MEASURED, Measured
from policy_bringup.core.types import Contract
from policy_bringup.episodes.conversion import Conversion, Derive, Job, convert_one, is_finished
from policy_bringup.episodes.convert_ray import on_ray
from policy_bringup.episodes.layout import PARTIAL, naming

Progress = Callable[[int, int, str], None]
"""Called after each bag with: how many are finished, how many there are, and its name."""
JOBS_PER_WORKER = 16


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """Names of the episodes, in the order in which they were finished. failed: name -> why, in one sentence."""

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: Mapping[str, str]


def convert(
    bags: Sequence[Path],
    out: Path,
    contract: Contract,
    rate_hz: float,
    derive: Callable[[], Derive],
    workers: int,
    ray_address: str | None = None,
    progress: Progress | None = None,
    measured: Measured = NOTHING_MEASURED,
) -> ConvertReport:
    """Writes the frames of each bag into a folder of its name in `out`, with the bag's journal; skips finished ones.

    derive: makes the function that read_frames wants; it is called in each worker, so it must be picklable: a function
    of a module, or functools.partial of one. ray_address: of a Ray cluster ("auto", "ray://host:port"), whose machines
    must see `bags` and `out` under the same paths; "local" starts Ray here with `workers` processors; None uses
    `workers` processes of this machine. measured: how late the cameras are, in each mode. Raises EpisodeError, or what
    `derive` raises, when nothing can be begun at all.
    """
    if workers < 1:
        raise EpisodeError(f"convert: {workers} workers; at least 1 is needed")
    conversion = Conversion(contract, rate_hz, derive, measured)
    derive()  # what is wrong with it is wrong for every bag
    with naming(out):
        out.mkdir(parents=True, exist_ok=True)
    tally = _Tally(len(bags), progress)
    jobs = list(_unfinished(bags, out, conversion, tally))
    if ray_address is None:
        results = _in_processes(jobs, conversion, workers)
    else:
        results = on_ray(jobs, conversion, workers, ray_address)
    for name, failure in results:
        tally.note(name, failure)
    return ConvertReport(tuple(tally.done), tuple(tally.skipped), tally.failed)


class _Tally:
    """Counts and tells. note: failure None means done."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self.done: list[str] = []
        self.skipped: list[str] = []
        self.failed: dict[str, str] = {}

    def note(self, name: str, failure: str | None) -> None:
        if failure is None:
            self.done.append(name)
        else:
            self.failed[name] = failure
        self.tell(name)

    def skip(self, name: str) -> None:
        self.skipped.append(name)
        self.tell(name)

    def tell(self, name: str) -> None:
        if self._progress is not None:
            finished = len(self.done) + len(self.skipped) + len(self.failed)
            self._progress(min(finished, self._total), self._total, name)


def _unfinished(bags: Iterable[Path], out: Path, conversion: Conversion, tally: _Tally) -> Iterator[Job]:
    taken: dict[str, Path] = {}
    for bag in bags:
        job = Job(bag, out / bag.name)
        try:
            if bag.name in taken:
                raise EpisodeError(f"{bag}: has the same name as {taken[bag.name]}; convert it into another folder")
            taken[bag.name] = bag
            finished = is_finished(job, conversion)
        except EpisodeError as error:
            tally.note(bag.name if taken.get(bag.name) == bag else str(bag), str(error))
            continue
        if finished:
            tally.skip(bag.name)
        else:
            yield job


@dataclass(slots=True, eq=False)
class _Worker:
    """A process, our end of the pipe to it, what it works at, and how many it was given."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection
    job: Job
    given: int = 0


def _in_processes(jobs: Sequence[Job], conversion: Conversion, workers: int) -> Iterator[tuple[str, str | None]]:
    # Not a pool of the standard library: those hang, or give up every job, when one worker is killed for its memory.
    waiting, busy = deque(jobs), list[_Worker]()
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                busy.append(_hire(conversion, waiting.popleft()))
            for pipe in wait([worker.pipe for worker in busy]):
                worker = next(each for each in busy if each.pipe is pipe)
                name = worker.job.cache.name
                try:
                    failure = worker.pipe.recv()
                except (EOFError, OSError):
                    failure = _last_words(worker)
                if not worker.process.is_alive() or worker.given >= JOBS_PER_WORKER or not waiting:
                    busy.remove(worker)
                    _dismiss(worker)
                else:
                    _give(worker, waiting.popleft())
                yield name, failure
    finally:
        for worker in busy:
            worker.process.terminate()
            _dismiss(worker)


def _hire(conversion: Conversion, job: Job) -> _Worker:
    # Started afresh, not forked: the caller may have threads, and locks that they hold.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, conversion), daemon=True)
    with _one_thread_each():
        process.start()
    theirs.close()
    worker = _Worker(process, ours, job)
    _give(worker, job)
    return worker


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started meanwhile do their matrix products in one thread: those of several would only be in each
    other's way. A setting that is there already stays.
    """
    added = [name for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS") if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _give(worker: _Worker, job: Job) -> None:
    worker.job, worker.given = job, worker.given + 1
    with suppress(OSError):  # it is dead: its pipe will say so
        worker.pipe.send(job)


def _dismiss(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.join()
    for left in worker.job.cache.parent.glob(f".*.{worker.process.pid}{PARTIAL}"):
        shutil.rmtree(left, ignore_errors=True)


def _last_words(worker: _Worker) -> str:
    worker.process.join()
    code = worker.process.exitcode or 0
    reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    hint = ", perhaps because the memory was full" if code == -signal.SIGKILL else ""
    return f"{worker.job.bag}: the process that converted it ended with {reason}{hint}"


def _work(pipe: Connection, conversion: Conversion) -> None:
    """The loop of a worker process; ends when the other end of the pipe is closed, also by its owner's death."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the owner's business
    derive = conversion.derive()
    with suppress(EOFError, OSError):
        while True:
            pipe.send(convert_one(pipe.recv(), conversion, derive))
