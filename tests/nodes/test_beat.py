import threading
import time

from policy_bringup.nodes.beat import Beat


def test_the_work_is_done_again_and_again_in_a_thread_of_its_own():
    seen: list[int] = []
    enough = threading.Event()

    def work() -> None:
        seen.append(threading.get_ident())
        if len(seen) == 5:
            enough.set()

    beat = Beat(0.001, work, lambda error: None)
    assert enough.wait(5.0)
    beat.stop()
    assert set(seen) != {threading.get_ident()}


def test_after_stop_returns_nothing_is_started():
    count = [0]
    begun = threading.Event()

    def work() -> None:
        count[0] += 1
        begun.set()

    beat = Beat(0.001, work, lambda error: None)
    assert begun.wait(5.0)
    beat.stop()
    after = count[0]
    threading.Event().wait(0.02)
    assert count[0] == after


def test_time_lost_is_not_caught_up_in_a_burst():
    """A beat that was held up for twenty periods goes on with one call per period."""
    calls: list[float] = []
    enough = threading.Event()

    def work() -> None:
        calls.append(time.monotonic())
        if len(calls) == 2:
            time.sleep(0.2)
        if len(calls) == 6:
            enough.set()

    beat = Beat(0.01, work, lambda error: None)
    assert enough.wait(5.0)
    beat.stop()
    assert calls[5] - calls[2] >= 0.025


def test_an_exception_is_reported_and_ends_the_beat():
    failed = threading.Event()
    failures: list[BaseException] = []

    def report(error: BaseException) -> None:
        failures.append(error)
        failed.set()

    def work() -> None:
        raise RuntimeError("broken")

    beat = Beat(0.001, work, report)
    assert failed.wait(5.0)
    beat.stop()
    assert [str(error) for error in failures] == ["broken"]
