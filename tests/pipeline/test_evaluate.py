from __future__ import annotations

from dataclasses import replace

import pytest

from policy_bringup.core.errors import ConfigError
from policy_bringup.pipeline import play
from policy_bringup.pipeline.evaluate import Plan, evaluate
from policy_bringup.pipeline.failures import failure_class
from policy_bringup.pipeline.figures import figures, unhindered
from policy_bringup.pipeline.wording import facts_of

FIRST = 1_000_000


@pytest.fixture(scope="module")
def moody_plan(small_config, policies) -> Plan:
    """Two scenes: the object to the right, then to the left."""
    return Plan(
        small_config, "moody", policies["moody"], episodes=2, backend="raycast", patience_s=6.0, successes_shown=0
    )


@pytest.fixture(scope="module")
def moody(moody_plan):
    return evaluate(moody_plan)


@pytest.fixture(scope="module")
def seeing(small_config, policies):
    plan = Plan(
        small_config,
        "seeing",
        policies["seeing"],
        episodes=2,
        perturbations=("occlusion", "latency"),
        faults=("black", "swapped"),
        others=2,
        fault_episodes=1,
        backend="raycast",
        patience_s=7.0,
    )
    heard = []
    return evaluate(plan, lambda done, total: heard.append((done, total))), heard


def test_every_stop_for_doubt_is_tried_again_without_the_threshold(moody):
    """It is unsure in every episode; without the stop, it succeeds where it does not reach beside the object."""
    assert [failure_class(attempt) for attempt in moody.plain] == ["monitor"] * 2
    assert all(attempt.stop.rule == "UNCERTAINTY" for attempt in moody.plain)
    assert sorted(moody.unguarded) == [attempt.seed for attempt in moody.plain]
    assert [moody.unguarded[attempt.seed].success for attempt in moody.plain] == [True, False]
    assert unhindered(moody) == [True, False]
    alarms = figures(moody).alarms
    assert (alarms.wrong, alarms.right, alarms.refused) == (1, 1, 0)
    assert (alarms.false_alarm.count, alarms.false_alarm.trials) == (1, 1)


def test_without_the_stops_the_failures_are_wrong_approach_points(moody_plan, policies):
    evaluation = evaluate(replace(moody_plan, policy=policies["careless"], successes_shown=1))
    assert [failure_class(attempt) for attempt in evaluation.plain] == ["", "perception"]
    assert evaluation.plain[1].closed_m > 0.03
    assert evaluation.unguarded == {}
    shown = [failure_class(strip.attempt) for strip in evaluation.strips]
    assert shown == ["", "perception"]
    assert all(set(strip.pictures) == {"front", "wrist"} for strip in evaluation.strips)


def test_conditions_are_played_on_the_seeds_of_the_plain_episodes(seeing):
    evaluation, _ = seeing
    assert [attempt.seed for attempt in evaluation.plain] == [FIRST, FIRST + 1]
    assert set(evaluation.attempts) == {"plain", "occlusion", "latency", "black", "swapped"}
    for name, attempts in evaluation.attempts.items():
        seeds = [FIRST] if name in ("black", "swapped") else [FIRST, FIRST + 1]
        assert [(attempt.seed, attempt.condition) for attempt in attempts] == [(seed, name) for seed in seeds]


def test_faults_begin_in_motion_and_are_noticed_by_a_policy_that_looks(seeing):
    evaluation, _ = seeing
    for name in ("black", "swapped"):
        for fault, plain in zip(evaluation.attempts[name], evaluation.plain, strict=False):
            assert any(start <= fault.onset_s <= end for start, end in plain.motion)
            assert fault.onset_s <= plain.time_s - 1.0
    found = {detection.name: detection for detection in figures(evaluation).detections}
    assert found["black"].stopped.count == found["swapped"].stopped.count == 1
    assert (found["black"].refused.count, found["swapped"].refused.count) == (1, 0)
    assert found["black"].refusal_s.worst == found["black"].delay_s.worst
    assert found["swapped"].refusal_s.worst is None
    assert 0.1 < found["black"].delay_s.median < 0.5
    assert found["black"].travel_m.worst < 0.3


def test_the_same_faults_are_played_with_the_network_alone_for_as_long_as_the_undisturbed_episode(seeing):
    """Its black pictures too: what it thinks of them is then its own doubt, and no refusal that counts as infinite."""
    evaluation, _ = seeing
    assert set(evaluation.network) == {"black", "swapped"}
    for name, attempts in evaluation.network.items():
        (alone,), (watched,), plain = attempts, evaluation.attempts[name], evaluation.plain[0]
        assert (alone.seed, alone.condition, alone.onset_s) == (watched.seed, name, watched.onset_s)
        assert (alone.unanswered, alone.stop) == (0, None)
        assert watched.time_s < alone.time_s <= plain.time_s
        assert evaluation.threshold < alone.doubt < 10.0
    assert evaluation.unguarded == {}
    for detection in figures(evaluation).detections:
        assert (detection.doubted.count, detection.doubted.trials, detection.auc) == (1, 1, 1.0)


def test_progress_counts_up_to_the_end(seeing):
    evaluation, heard = seeing
    played = 2 + 4 + 2 + 2 + len(evaluation.strips)
    assert heard[-1] == (played, played)
    assert [done for done, _ in heard] == list(range(1, played + 1))
    assert all(done <= total for done, total in heard)


def test_a_blind_policy_has_no_camera_faults(moody_plan):
    evaluation = evaluate(replace(moody_plan, episodes=1, faults=("frozen",), patience_s=0.2))
    assert evaluation.skipped == {"frozen": "the policy reads no cameras, the fault needs 1"}
    assert set(evaluation.attempts) == {"plain"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": 499}, "seeds must be from 1000000"),
        ({"perturbations": ("weather",)}, "perturb: must be among colour, size.*found 'weather'"),
        ({"faults": ("broken",)}, "faults: must be among frozen, black, swapped, found 'broken'"),
        ({"others": 0}, "episodes per perturbation: must be at least 1, found 0"),
        ({"fault_episodes": 0}, "episodes per fault: must be at least 1, found 0"),
        ({"episodes": 0}, "at least one episode"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_before_anything_is_played(moody_plan, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        evaluate(replace(moody_plan, **changes), lambda _done, _total: pytest.fail("something was played"))


def test_a_bundle_is_evaluated_with_its_own_threshold_and_cameras(small_config, hovering, tmp_path):
    contract = play.load_stack(small_config).deployment.contract
    hovering(tmp_path / "hover", contract)
    policy = play.bundle(tmp_path / "hover")
    plan = Plan(small_config, "hover", policy, episodes=2, faults=("frozen",), backend="raycast", patience_s=1.0)
    evaluation = evaluate(plan)
    assert (evaluation.threshold, evaluation.cameras) == (0.123, ("front", "wrist"))
    assert [failure_class(attempt) for attempt in evaluation.plain] == ["timeout", "timeout"]
    assert all(attempt.time_s > 0.9 and attempt.stop is None for attempt in evaluation.plain)
    assert evaluation.skipped == {"frozen": "nothing moved for long enough"}
    assert [strip.attempt.seed for strip in evaluation.strips] == [FIRST]
    assert facts_of(evaluation)["runs on"].startswith("CPUExecutionProvider")
