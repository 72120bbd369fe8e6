"""How the trial node asks for services whose answers may be lost."""

from types import SimpleNamespace

import pytest
from rclpy.task import Future

from policy_bringup.nodes import trial_node
from policy_bringup.nodes.trial_node import NoAnswer, TrialNode


class Service:
    """Seen by a client: answers the request of this number, and none before it."""

    def __init__(self, answers: int) -> None:
        self.answers, self.asked, self.forgotten = answers, 0, []

    def call_async(self, request: str) -> Future:
        self.asked += 1
        future = Future()
        if self.asked == self.answers:
            future.set_result(f"answer to {request}")
        return future

    def remove_pending_request(self, future: Future) -> None:
        self.forgotten.append(future)


@pytest.fixture
def ask(monkeypatch):
    """Runs the script of one call, with a clock that goes on by 1 s in each step."""
    seconds = iter(range(1000))
    monkeypatch.setattr(trial_node, "received_now", lambda: next(seconds) * 1_000_000_000)

    def run(service: Service):
        node = TrialNode.__new__(TrialNode)
        node._remote, node._config = {"arm/home": service}, SimpleNamespace(ready_timeout_s=30.0)
        script = node._call("arm/home", "home")
        try:
            while next(script):
                pass
        except StopIteration as end:
            return end.value

    return run


def test_an_answer_that_is_lost_is_asked_for_again(ask):
    service = Service(answers=3)
    assert ask(service) == "answer to home"
    assert (service.asked, len(service.forgotten)) == (3, 2)


def test_a_service_that_never_answers_ends_the_trial_with_a_sentence(ask):
    with pytest.raises(NoAnswer, match="arm/home did not answer within 30 s"):
        ask(Service(answers=99))
