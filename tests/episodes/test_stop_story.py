from dataclasses import replace

import pytest

from policy_bringup.episodes.stop_record import Change
from policy_bringup.episodes.stop_story import DEFAULTS, RULES, WIDTH, headline, moment, story, totals
from policy_bringup.episodes.stops import Answer, Ending, Episode, Scene, Stop

STOP = Stop(
    Change("policy", "RETRY", "FALLBACK", "AGE", "age of the action by arrival 0.260 s is above its limit 0.250 s",
           "age of the action by arrival",
           0.26012345, 0.25),
    1_700_000_000_123_456_789,
    3.456,
    Scene("policy", 3.21, 0.2137, False, "panda_joint2", 0.624),
    3,
    judged={"accepted": 30, "AGE": 3, "ABRUPTNESS": 4},
    answer=Answer(0.05, 0.0061, 0.0),
    rest_s=0.18,
    ending=Ending(2.31, "ACTIVE", "operator", "armed for policy"),
)  # fmt: skip


def told(**changes) -> str:
    return " ".join(story(replace(STOP, **changes), "stop 1 of 1").split())


def test_a_story_tells_when_what_how_fast_why_what_was_done_and_how_it_ended():
    text = told()
    for part in (
        "stop 1 of 1, 3.46 s into the recording, 2023-11-1",
        "RETRY -> FALLBACK",
        "before Policy had driven the arm for 3.2 s; the tool was told to move at 0.214 m/s, panda_joint2 was the "
        "fastest joint, at 0.62 rad/s.",
        "what The actions came too late, or not at all: "
        "\"age of the action by arrival 0.260 s is above its limit 0.250 s\" "
        "(rule AGE: age of the action by arrival 0.2601 against 0.25).",
        "safety Of 37 verdicts in the 2 s before, 7 were refusals (4 ABRUPTNESS, 3 AGE). It repeated the last safe "
        "action 3 times (RETRY), then went to the safe default. The command stood still after 0.05 s, the tool 6 mm "
        "from where it had been.",
        "rest The arm was at rest 0.18 s after the stop.",
        'end After 2.31 s it went to ACTIVE by the operator: "armed for policy".',
        "look at Whether the source is alive",
    ):  # fmt: skip
        assert part in text, part


def test_the_lines_of_a_story_fit_a_terminal():
    lines = story(STOP, "stop 1 of 1").splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) >= 7


def test_an_arm_that_stood_still_and_nobody_in_charge_are_said_so():
    text = told(scene=Scene("", None, 0.0001, False, "panda_joint2", 0.001), tries=0, judged={"accepted": 4})
    assert "Nobody drove the arm (RETRY); it stood still." in text
    assert "safety It went straight to the safe default." in text
    assert "how it moved is not known" in told(scene=Scene("policy", None))
    assert "the tool moved at 0.300 m/s." in told(scene=Scene("policy", None, 0.3, True))


def test_counts_are_words_where_people_say_words():
    assert "the last safe action once (RETRY)" in told(tries=1)
    assert "the last safe action twice (RETRY)" in told(tries=2)


def test_what_safety_did_with_the_gripper_is_told_only_if_it_did_something():
    assert "opened by 59 mm" in told(answer=Answer(1.2, 0.0, 0.059))
    assert "opened" not in told(answer=Answer(1.2, 0.0, -0.02))
    assert "stood still" not in told(answer=None)
    assert "The command stood still at once." in told(answer=Answer(0.01, 0.0, 0.0))


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_stop_record_knows_the_configured_default_and_not_what_came_after(name):
    text = told(fallback=name, at_s=None, answer=None, rest_s=None, ending=None)
    assert f"the safe default, by configuration: {DEFAULTS[name]}." in text
    assert "into the recording" not in text
    assert "at rest" not in text
    assert "Not in this record, which ends with the stop." in text


def test_what_is_not_known_is_not_invented():
    lost = told(change=Change("", "ACTIVE", "ESTOP", "", "the e-stop is pressed"), rest_s=None, ending=Ending(0.4))
    assert "Why is not in this recording" in lost
    assert "do not show the arm at rest" in lost
    assert "The recording ended 0.4 s later, without a change." in lost
    assert "went straight to" in told(tries=0)
    assert "The arm was at rest already." in told(rest_s=0.0)


def test_a_silent_safety_is_not_said_to_have_done_anything():
    text = told(change=Change("", "ACTIVE", "SILENT", "SILENCE", "nothing was heard of safety any more"))
    assert "Safety fell silent" in text
    assert "safe default" not in text


def test_every_rule_and_default_of_the_monitor_has_its_words():
    from typing import get_args, get_type_hints

    from policy_bringup.safety.limits import SafetyConfig
    from policy_bringup.safety.reasons import Rule

    assert {rule.name for rule in Rule} | {"", "SILENCE"} == set(RULES)
    assert set(get_args(get_type_hints(SafetyConfig)["fallback"])) == set(DEFAULTS)
    assert all(words and hint and not hint.endswith(".") for words, hint in RULES.values())


def test_an_unknown_rule_of_a_later_version_is_named():
    assert "Rule WEATHER" in told(change=Change("policy", "ACTIVE", "FALLBACK", "WEATHER", "it rains"))


def test_a_simulators_time_is_not_shown_as_a_date():
    assert moment(12_345_000_000) == "at ROS time 12.345 s"
    assert moment(1_700_000_000_123_456_789).endswith(".123")


def test_an_episode_and_a_dataset_are_summed_up():
    quiet = Episode("episode_000000", 12.34, {"accepted": 140, "AGE": 3}, "", ())
    assert headline(quiet) == "episode_000000: no stops in 12.3 s; 143 verdicts: 140 accepted, 3 AGE"
    assert headline(replace(quiet, verdicts={}, began="ESTOP")).endswith("it began in ESTOP; 0 verdicts: none")
    once = replace(quiet, stops=(STOP,))
    assert "1 stop in" in headline(once)
    twice = replace(quiet, stops=(STOP, replace(STOP, change=Change("", "ACTIVE", "ESTOP", "", "pressed"))))
    assert "2 stops in" in headline(twice)
    assert totals([quiet, once, twice]) == "2 of 3 episodes were stopped: 2 AGE, 1 unknown"
    assert totals([quiet]) == "0 of 1 episodes were stopped"
