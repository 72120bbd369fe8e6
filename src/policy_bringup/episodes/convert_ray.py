"""The conversion of many bags as tasks on a Ray cluster, or on a Ray that is started here for as long as it takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.conversion import Conversion, Job, convert_one

JOBS_PER_PROCESS = 16


def on_ray(jobs: Sequence[Job], conversion: Conversion, workers: int, address: str) -> Iterator[tuple[str, str | None]]:
    """Name and failure (None: done) of each job as it ends. Raises EpisodeError without Ray, or without the cluster."""
    try:
        import ray
    except ImportError as error:
        raise EpisodeError(
            "convert: Ray is not installed; install it with: pip install 'policy_bringup[ray]'"
        ) from error
    local = address == "local"
    try:
        # Ray takes no count of processors for a cluster that runs already.
        amount = {"num_cpus": workers, "include_dashboard": False} if local else {}
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **amount)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise EpisodeError(
            f"convert: there is no Ray cluster at '{address}' ({' '.join(str(error).split())})"
        ) from error
    try:
        shared = ray.put(conversion)
        task = ray.remote(max_calls=JOBS_PER_PROCESS, max_retries=0, num_cpus=1)(convert_one)
        at_once = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting, running = deque(jobs), dict[object, Job]()
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.popleft()
                running[task.remote(job, shared)] = job
            for finished in ray.wait(list(running))[0]:
                job = running.pop(finished)
                try:
                    failure = ray.get(finished)
                except ray.exceptions.RayError as error:
                    failure = f"{job.bag}: the Ray task that converted it ended ({str(error).splitlines()[0]})"
                yield job.cache.name, failure
    finally:
        ray.shutdown()
