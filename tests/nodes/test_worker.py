import threading

from policy_bringup.nodes.worker import Worker


def test_jobs_are_done_in_a_thread_of_their_own():
    seen: list[tuple[int, int]] = []
    done = threading.Event()

    def work(job: int) -> None:
        seen.append((job, threading.get_ident()))
        done.set()

    worker = Worker(work, lambda error: None)
    worker.submit(1)
    assert done.wait(5.0)
    worker.stop()
    assert seen[0][0] == 1
    assert seen[0][1] != threading.get_ident()


def test_while_it_is_busy_only_the_newest_job_waits():
    seen: list[int] = []
    started, release, done = threading.Event(), threading.Event(), threading.Event()

    def work(job: int) -> None:
        seen.append(job)
        started.set()
        assert release.wait(5.0)
        if job == 4:
            done.set()

    worker = Worker(work, lambda error: None)
    worker.submit(1)
    assert started.wait(5.0)
    for job in (2, 3, 4):
        worker.submit(job)
    release.set()
    assert done.wait(5.0)
    worker.stop()
    assert seen == [1, 4]
    assert worker.replaced == 2


def test_an_exception_is_reported_and_ends_the_thread():
    failures: list[BaseException] = []
    failed = threading.Event()

    def work(job: int) -> None:
        raise RuntimeError("broken")

    def report(error: BaseException) -> None:
        failures.append(error)
        failed.set()

    worker = Worker(work, report)
    worker.submit(1)
    assert failed.wait(5.0)
    worker.stop()
    assert str(failures[0]) == "broken"
