"""Figures of made-up episodes, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from policy_bringup.pipeline.figures import GROUPS, faulted_doubts, figures, sound_doubts, spread, unhindered
from policy_bringup.sim.trace import Stop

FIRST = 1_000_000


def test_success_time_and_thinking_time(make_attempt, make_evaluation):
    times = [3.0, 4.0, 5.0, 20.0]
    plain = [make_attempt(seed=FIRST + i, time_s=t, success=t < 9) for i, t in enumerate(times)]
    found = figures(make_evaluation({"plain": plain}))
    assert (found.success.count, found.success.trials) == (3, 4)
    assert (found.time_s.count, found.time_s.median, found.time_s.worst) == (3, 4.0, 5.0)
    assert found.time_s.tail == pytest.approx(4.8)  # 90 % of the way from 3 to 5, over 4
    assert (found.inference_ms.count, found.inference_ms.median, found.inference_ms.worst) == (8, 3.0, 4.0)


def test_a_spread_of_nothing():
    assert spread([], 0.9).median is spread([], 0.9).worst is None


def test_groups_scatter_as_much_as_they_do_and_as_chance_would(make_attempt, make_evaluation):
    """Ten groups of two: nine with both successes, one with none. Mean 0.9, deviation sqrt(0.1)."""
    plain = [make_attempt(seed=FIRST + i, success=i >= 2, closed_m=0.1) for i in range(2 * GROUPS + 1)]
    groups = figures(make_evaluation({"plain": plain})).groups
    assert [group.count for group in groups.rates] == [0] + [2] * 9
    assert groups.deviation == pytest.approx(math.sqrt(0.1))
    assert groups.expected == pytest.approx(math.sqrt(0.9 * 0.1 / 2))


def test_too_few_episodes_make_no_groups(make_attempt, make_evaluation):
    groups = figures(make_evaluation({"plain": [make_attempt()] * (GROUPS - 1)})).groups
    assert (groups.rates, groups.deviation, groups.expected) == ((), None, None)


@pytest.fixture
def alarming(make_attempt, stopped, make_evaluation):
    """Four quiet successes; three stops for doubt, of which the first would have succeeded; two refusals of sound
    pictures, one of them during a success; a stop at a limit."""
    plain = [make_attempt(seed=FIRST + i, doubt=0.1 * i) for i in range(4)]
    plain += [stopped("UNCERTAINTY", seed=FIRST + i, doubt=2.0) for i in (4, 5, 6)]
    plain += [stopped("AGE", seed=FIRST + 7, unanswered=3, doubt=math.inf)]
    plain += [stopped("AGE", seed=FIRST + 8, unanswered=3, doubt=math.inf, success=True)]
    plain += [stopped("BOUNDS", seed=FIRST + 9, doubt=0.5)]
    unguarded = [make_attempt(seed=FIRST + 4)] + [make_attempt(seed=FIRST + i, success=False) for i in (5, 6)]
    return make_evaluation({"plain": plain}, unguarded)


def test_an_alarm_is_right_if_the_episode_fails_without_it(alarming):
    alarms = figures(alarming).alarms
    assert (alarms.right, alarms.wrong, alarms.refused) == (2, 1, 2)
    assert (alarms.false_alarm.count, alarms.false_alarm.trials) == (3, 7)


def test_whether_an_episode_would_have_succeeded(alarming):
    assert unhindered(alarming) == [True] * 5 + [False] * 3 + [True] + [False]


def test_doubt_is_held_against_what_would_have_happened(alarming):
    """Failures: doubts 2, 2, inf, 0.5. Successes: 0, .1, .2, .3, 2, inf."""
    below = (4 + 0.5) + (4 + 0.5) + (5 + 0.5) + 4
    assert figures(alarming).failure_auc == pytest.approx(below / 24)


def test_failures_are_counted_by_class(alarming, make_attempt, make_evaluation):
    assert figures(alarming).failures == {"perception": 0, "motor": 1, "grasp": 0, "monitor": 4, "timeout": 0}
    none = figures(make_evaluation({"plain": [make_attempt()]})).failures
    assert not any(none.values())


def test_a_perturbation_is_held_against_the_same_seeds_only(make_attempt, stopped, make_evaluation):
    plain = [make_attempt(seed=FIRST + i, success=i != 1, closed_m=0.1) for i in range(6)]
    light = [
        make_attempt(condition="light", seed=FIRST, success=False, closed_m=0.05),
        make_attempt(condition="light", seed=FIRST + 1),
        stopped("UNCERTAINTY", condition="light", seed=FIRST + 2),
    ]
    (effect,) = figures(make_evaluation({"plain": plain, "light": light})).effects
    assert (effect.plain.count, effect.plain.trials) == (2, 3)
    assert (effect.perturbed.count, effect.perturbed.trials) == (1, 3)
    assert (effect.pairs.lost, effect.pairs.gained) == (2, 1)
    assert effect.pairs.difference == pytest.approx(-1 / 3)
    assert effect.stopped == 1
    assert {kind: count for kind, count in effect.failures.items() if count} == {"perception": 1, "monitor": 1}


def test_a_fault_is_noticed_only_after_it_began(make_attempt, stopped, make_evaluation):
    plain = [make_attempt(seed=FIRST + i, doubt=0.1 * i) for i in range(5)]
    common = {"condition": "frozen", "onset_s": 1.0}
    frozen = [
        stopped("AGE", 1.4, seed=FIRST, unanswered=2, doubt=math.inf, travel_m=0.05, **common),
        stopped("UNCERTAINTY", 2.0, seed=FIRST + 1, doubt=0.35, travel_m=0.15, **common),
        stopped("UNCERTAINTY", 0.5, seed=FIRST + 2, doubt=2.0, travel_m=9.0, **common),  # a false alarm before it
        stopped("BOUNDS", 1.5, seed=FIRST + 3, doubt=0.0, travel_m=9.0, **common),  # not for what it saw
        make_attempt(seed=FIRST + 4, doubt=0.1, travel_m=9.0, **common),
    ]
    (found,) = figures(make_evaluation({"plain": plain, "frozen": frozen})).detections
    assert (found.doubted.trials, found.auc) == (0, None)  # nobody asked the network alone
    assert (found.stopped.count, found.stopped.trials, found.succeeded) == (2, 5, 1)
    assert (found.delay_s.median, found.delay_s.worst) == (pytest.approx(0.7), 1.0)
    assert (found.travel_m.median, found.travel_m.worst) == (pytest.approx(0.1), 0.15)


def test_refusals_by_rule_are_counted_apart_from_stops_for_doubt(make_attempt, stopped, make_evaluation):
    common = {"condition": "frozen", "onset_s": 1.0}
    frozen = [
        stopped("AGE", 1.4, seed=FIRST, unanswered=2, doubt=math.inf, **common),
        stopped("AGE", 2.6, seed=FIRST + 1, unanswered=2, doubt=math.inf, **common),
        stopped("UNCERTAINTY", 4.0, seed=FIRST + 2, unanswered=1, doubt=2.0, **common),
        stopped("AGE", 1.5, seed=FIRST + 3, **common),  # silent, and nobody knows why
        stopped("AGE", 0.5, seed=FIRST + 4, unanswered=2, **common),  # before the fault
    ]
    (found,) = figures(make_evaluation({"plain": [make_attempt()], "frozen": frozen})).detections
    assert (found.stopped.count, found.refused.count, found.refused.trials) == (4, 2, 5)
    assert (found.refusal_s.median, found.refusal_s.worst) == (pytest.approx(1.0), pytest.approx(1.6))
    assert found.delay_s.worst == 3.0


def test_doubt_as_a_detector_is_that_of_the_network_alone(make_attempt, stopped, make_evaluation):
    """Refusals by rule, which count as infinite doubt, neither help nor hurt it."""
    plain = [make_attempt(seed=FIRST + i, doubt=0.1 * i) for i in range(4)]
    plain += [stopped("UNCERTAINTY", seed=FIRST + 4, doubt=1.1)]
    plain += [make_attempt(seed=FIRST + 5, unanswered=1, doubt=math.inf)]
    unguarded = [make_attempt(seed=FIRST + 4, doubt=1.5)]
    common = {"condition": "black", "onset_s": 1.0}
    black = [stopped("AGE", 1.3, seed=FIRST, unanswered=3, doubt=math.inf, **common)]
    alone = [make_attempt(seed=FIRST + i, doubt=doubt, **common) for i, doubt in enumerate((0.15, 1.2, 1.5))]
    evaluation = make_evaluation({"plain": plain, "black": black}, unguarded, network={"black": tuple(alone)})
    assert sound_doubts(evaluation) == pytest.approx([0.0, 0.1, 0.2, 0.3, 1.5])
    assert faulted_doubts(evaluation) == {"black": [0.15, 1.2, 1.5]}
    (found,) = figures(evaluation).detections
    assert (found.doubted.count, found.doubted.trials) == (2, 3)
    assert found.auc == pytest.approx((2 + 4 + 4.5) / 15)


def test_a_stop_at_the_very_onset_counts(make_attempt, make_evaluation):
    stop = Stop(1.0, "AGE", "silent")
    black = [make_attempt(condition="black", success=False, onset_s=1.0, stop=stop, unanswered=1)]
    (found,) = figures(make_evaluation({"plain": [make_attempt()], "black": black})).detections
    assert (found.stopped.count, found.delay_s.worst) == (1, 0.0)
