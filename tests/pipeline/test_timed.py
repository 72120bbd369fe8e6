from __future__ import annotations

import pytest

from policy_bringup.core.errors import ObservationError
from policy_bringup.pipeline.timed import TimedPolicy


class Scripted:
    contract = "its contract"

    def __init__(self, *answers):
        self.answers, self.resets = list(answers), 0

    def reset(self):
        self.resets += 1

    def predict(self, observation):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return observation, answer


def test_every_prediction_is_timed_and_passed_on():
    clock = iter([0, 2_000_000, 5_000_000, 12_000_000]).__next__
    inner = Scripted("a", ObservationError("black"))
    timed = TimedPolicy(inner, clock)
    timed.reset()
    assert timed.predict("seen") == ("seen", "a")
    with pytest.raises(ObservationError, match="black"):
        timed.predict("seen")
    assert timed.taken_ms == [2.0, 7.0]
    assert (timed.contract, inner.resets) == ("its contract", 1)
