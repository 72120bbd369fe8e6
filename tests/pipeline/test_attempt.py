from __future__ import annotations

import numpy as np
import pytest

from policy_bringup.pipeline.attempt import attempt_of, closed_at, motion_spans, path_length
from policy_bringup.pipeline.play import expert
from policy_bringup.sim.rollout import ClosedLoop
from policy_bringup.sim.trace import Stop, Trace


def trace_of(**changes) -> Trace:
    rows = 4
    fields = {
        "time_s": np.arange(rows) * 0.01,
        "tool": np.zeros((rows, 3)),
        "object": np.zeros((rows, 3)),
        "width": np.full(rows, 0.08),
        "asked_s": np.zeros(0),
        "uncertainty": np.zeros((0, 2)),
        "refusals": (),
        "stops": (),
        "arm_refusals": 0,
        "arm_reason": "",
    }
    return Trace(**{**fields, **changes})


def test_the_distance_is_taken_when_the_gripper_first_closes_and_sideways_only():
    tool = np.array([[0, 0, 9], [0.03, 0.04, 9], [0.5, 0.5, 9], [0, 0, 0]], float)
    trace = trace_of(tool=tool, width=np.array([np.nan, 0.039, 0.0, 0.08]))
    assert closed_at(trace, 0.04) == pytest.approx(0.05)


def test_a_gripper_that_stays_open_closed_nowhere():
    assert closed_at(trace_of(width=np.array([np.nan, 0.08, 0.04, 0.05])), 0.04) is None


def test_doubt_is_of_the_first_steps_up_to_the_first_stop():
    asked_s, uncertainty = np.array([0.0, 0.1, 0.2]), np.array([[0.2, 9.0], [0.3, 9.0], [0.7, 9.0]])
    assert trace_of(asked_s=asked_s, uncertainty=uncertainty).doubt == 0.7
    stops = (Stop(0.15, "UNCERTAINTY", ""), Stop(0.3, "AGE", ""))
    assert trace_of(asked_s=asked_s, uncertainty=uncertainty, stops=stops).doubt == 0.3
    assert trace_of().doubt == 0.0


def test_a_refusal_to_answer_is_the_largest_doubt():
    uncertainty = np.array([[0.2, 0.2], [np.nan, np.nan]])
    assert trace_of(asked_s=np.array([0.0, 0.1]), uncertainty=uncertainty).doubt == np.inf


def test_motion_is_where_the_tool_was_fast():
    time_s = np.arange(100) * 0.01
    x = np.where(time_s < 0.3, 0.0, np.minimum(time_s - 0.3, 0.2))  # still, 1 m/s for 0.2 s, still
    ((start, end),) = motion_spans(time_s, np.column_stack([x, x * 0, x * 0]))
    assert start == pytest.approx(0.31)
    assert end == pytest.approx(0.54, abs=0.011)  # it looks 50 ms back
    assert motion_spans(time_s, np.zeros((100, 3))) == ()


def test_a_creeping_tool_is_not_in_motion():
    time_s = np.arange(100) * 0.01
    for speed, spans in ((0.019, 0), (0.021, 1)):
        tool = np.column_stack([speed * time_s, 0 * time_s, 0 * time_s])
        assert len(motion_spans(time_s, tool)) == spans


def test_the_way_is_the_sum_of_its_pieces():
    assert path_length(np.array([[0, 0, 0], [3, 4, 0], [3, 4, 2], [3, 4, 1.0]])) == 8.0
    assert path_length(np.zeros((1, 3))) == 0.0


def test_an_experts_rollout_in_numbers(stack):
    loop = ClosedLoop(stack, *expert(stack), "raycast")
    rollout = loop.run(1_000_000)
    attempt = attempt_of(rollout, "plain", 1_000_000, "raycast", stack.robot.gripper.upper, 1.0, (1.0,))
    assert attempt.success
    assert (attempt.stop, attempt.unanswered, attempt.jumps, attempt.arm_refusals) == (None, 0, 0, 0)
    assert attempt.closed_m < 0.005
    assert attempt.peak_m >= 0.1
    first, last = attempt.motion[0][0], attempt.motion[-1][1]
    assert 0.0 < first < 0.5
    assert 3.0 < last <= attempt.time_s
    assert 0.2 < attempt.travel_m < 1.0
