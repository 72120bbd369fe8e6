"""How a node raises or lowers itself above other sessions, where Linux does not let it at once."""

import pytest

from policy_bringup.nodes import runtime


class Busy:
    """/proc/self/autogroup while other processes of the user write theirs: refuses so many times."""

    def __init__(self, refusals: int, error: OSError) -> None:
        self.left, self.error, self.written = refusals, error, ""

    def write_text(self, text: str) -> None:
        if self.left:
            self.left -= 1
            raise self.error
        self.written = text


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(runtime.time, "sleep", lambda _seconds: None)


def test_nodes_that_start_together_all_get_their_priority(monkeypatch):
    busy = Busy(7, BlockingIOError(11, "Resource temporarily unavailable"))
    monkeypatch.setattr(runtime, "AUTOGROUP", busy)
    runtime._set_session_priority(5)
    assert busy.written == "5"


def test_a_refusal_is_not_tried_again(monkeypatch):
    busy = Busy(100, PermissionError(1, "Operation not permitted"))
    monkeypatch.setattr(runtime, "AUTOGROUP", busy)
    with pytest.raises(PermissionError):
        runtime._set_session_priority(-10)
    assert busy.left == 99


def test_a_node_that_may_not_have_its_priority_starts_and_says_so(monkeypatch, capsys):
    class Refused(Busy):
        def exists(self) -> bool:
            return True

    monkeypatch.setattr(runtime, "AUTOGROUP", Refused(10**6, BlockingIOError(11, "Resource temporarily unavailable")))
    monkeypatch.setattr(runtime.os, "nice", lambda _niceness: 5)
    monkeypatch.setattr(runtime.os, "getsid", lambda _pid: runtime.os.getpid())
    runtime._set_priority(5)
    assert "runs at normal priority" in capsys.readouterr().out
