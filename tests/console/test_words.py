import math
import time

import pytest

from policy_bringup.console import words
from policy_bringup.console.words import Health, Transition

HOSTILE = '<img src=x onerror="alert(1)">'
STOP = Transition(0, "tool.z 0.003 m is below its limit 0.005 m", "policy", "RETRY", "FALLBACK", "BOUNDS")


@pytest.mark.parametrize("state", words.COLOURS)
def test_every_state_has_its_own_colour_and_meaning(state: str):
    shown = words.banner(state, "a sentence", "policy", None)
    assert words.COLOURS[state] in shown
    assert words.MEANINGS[state] in shown
    assert f">{state}<" in shown
    assert list(words.COLOURS.values()).count(words.COLOURS[state]) == 1


def test_an_old_state_is_shown_as_silence_not_as_the_state():
    shown = words.banner("ACTIVE", "armed", "policy", 3.2)
    assert ">SILENT<" in shown
    assert "last heard: ACTIVE, 3 s ago" in shown
    assert words.COLOURS["ACTIVE"] not in shown
    assert "armed" not in shown


def test_before_the_first_state_the_page_says_so():
    assert "nothing heard yet" in words.banner("", "", "", math.inf)


def test_a_state_that_nobody_knows_is_shown_without_a_meaning():
    assert words.UNKNOWN_COLOUR in words.banner("DANCING", "", "", None)


@pytest.mark.parametrize(
    "shown",
    [
        words.banner(HOSTILE, HOSTILE, HOSTILE, None),
        words.banner(HOSTILE, "", "", 9.0),
        words.warnings([HOSTILE]),
        words.last_stop(Transition(0, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)),
        words.answer(HOSTILE, HOSTILE),
        words.log([Transition(0, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)]),
        words.verdicts({HOSTILE: 1}, HOSTILE),
        words.nodes([Health(HOSTILE, HOSTILE, HOSTILE, 0, {HOSTILE: HOSTILE})], 0, 3.0),
        words.facts({HOSTILE: HOSTILE}),
    ],
)
def test_what_came_over_a_topic_is_text_never_html(shown: str):
    assert "<img" not in shown
    assert 'onerror="' not in shown
    assert "&lt;img" in shown


def test_the_reason_of_the_last_stop_is_shown_in_its_colour():
    shown = words.last_stop(STOP)
    assert STOP.sentence in shown
    assert words.COLOURS["FALLBACK"] in shown
    assert "It has not stopped" in words.last_stop(None)


def test_the_log_says_who_went_where_by_which_rule():
    shown = words.log([STOP])
    for part in ("RETRY", "FALLBACK", STOP.sentence, "policy, BOUNDS", words.clock(0)):
        assert part in shown
    assert "No transition heard yet" in words.log([])


def test_verdicts_are_ordered_by_how_often_they_came():
    shown = words.verdicts({"BOUNDS": 1, "accepted": 99}, "0.12")
    assert shown.index("accepted") < shown.index("BOUNDS")
    assert "99.0 %" in shown
    assert "1.0 %" in shown
    assert "<b>0.12</b>" in shown
    assert "No verdict heard yet" in words.verdicts({}, "")
    assert "unknown" in words.verdicts({}, "")


def test_a_node_is_silent_only_after_its_age_limit():
    entry = Health("policy", "ok", "publishing", 0, {"published": "7"})
    at_the_limit, beyond = (words.nodes([entry], ns, 3.0) for ns in (3_000_000_000, 3_000_000_001))
    assert "publishing" in at_the_limit
    assert "published 7" in at_the_limit
    assert words.LEVELS["ok"] in at_the_limit
    assert "silent for 3 s" in beyond
    assert words.LEVELS["error"] in beyond


def test_ros_time_is_shown_as_time_of_day():
    now_s = 1_700_000_000
    assert words.clock(now_s * 10**9 + 42_999_999) == time.strftime("%H:%M:%S", time.localtime(now_s)) + ".042"
