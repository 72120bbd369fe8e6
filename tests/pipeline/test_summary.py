from __future__ import annotations

import json
import math
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from policy_bringup.core.errors import EpisodeError
from policy_bringup.core.trials import Episode, Report
from policy_bringup.episodes.film_strip import thumbnail
from policy_bringup.pipeline.evaluate import Strip
from policy_bringup.pipeline.figures import figures
from policy_bringup.pipeline.statistics import paired, rate
from policy_bringup.pipeline.summary import write_report
from policy_bringup.pipeline.wording import difference_words, rate_words

FIRST = 1_000_000


class Balance(HTMLParser):
    """Every tag that is opened is closed, in order."""

    EMPTY = ("meta", "img", "line", "circle", "rect", "path")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.EMPTY or (tag == "path" and not self.get_starttag_text().endswith("/>")):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def rich(make_attempt, stopped, make_evaluation):
    """An evaluation with something in every section."""
    plain = [make_attempt(seed=FIRST + i, doubt=0.01 * i, time_s=4.0 + 0.1 * i) for i in range(18)]
    plain += [make_attempt(seed=FIRST + 18, success=False, closed_m=0.05, doubt=0.7, outcome="<pushed>")]
    plain += [stopped("UNCERTAINTY", seed=FIRST + 19, doubt=1.2)]
    attempts = {
        "plain": plain,
        "light": [make_attempt(condition="light", seed=FIRST + i, success=i > 0, closed_m=0.1) for i in range(3)],
        "black": [
            stopped("AGE", condition="black", seed=FIRST, onset_s=1.0, unanswered=4, doubt=math.inf, travel_m=0.1)
        ],
    }
    pictures = {"front": (thumbnail(500_000_000, np.zeros((8, 8, 3), np.uint8)),)}
    strips = (Strip(plain[0], pictures), Strip(plain[18], pictures))
    unguarded = [make_attempt(seed=FIRST + 19, doubt=1.4)]
    alone = {"black": (make_attempt(condition="black", seed=FIRST, onset_s=1.0, success=False, doubt=0.165),)}
    skipped = {"swapped": "one camera <only>"}
    return make_evaluation(attempts, unguarded, strips=strips, skipped=skipped, network=alone)


def test_the_three_files_say_the_same(rich, out):
    written = write_report(rich, out, "policy evaluate x")
    data = json.loads(written.data.read_text())
    assert data["figures"]["success"] == {"count": 18, "trials": 20, "low": 0.698966, "high": 0.972134}
    words = rate_words(figures(rich).success)
    assert words == "18 of 20: 90.0 % (69.9 to 97.2 %)"
    assert words in written.table.read_text()
    assert words in written.page.read_text()
    assert written.text == written.table.read_text()
    assert data["facts"]["command"] == "policy evaluate x"


def test_the_data_holds_every_episode_as_plain_json(rich, out):
    data = json.loads(write_report(rich, out).data.read_text(), parse_constant=pytest.fail)
    assert len(data["episodes"]) == 20 + 3 + 1
    black = data["episodes"][-1]
    assert (black["condition"], black["doubt"], black["class"]) == ("black", None, "monitor")
    doubted = data["episodes"][19]
    assert doubted["success_with_threshold_off"] is True
    assert doubted["doubt_with_threshold_off"] == 1.4
    (alone,) = data["episodes_of_the_network_alone"]
    assert (alone["condition"], alone["doubt"]) == ("black", 0.165)
    assert "success_with_threshold_off" not in data["episodes"][0]
    assert data["figures"]["effects"][0]["pairs"]["lost"] == 1
    assert "taken_ms" not in black
    assert data["skipped"] == {"swapped": "one camera <only>"}


def test_the_page_is_one_sound_file_without_script_or_network(rich, out):
    text = write_report(rich, out).page.read_text()
    assert Balance(text).open == []
    seen = Balance(text).seen
    assert "script" not in seen
    assert seen.count("svg") == 6  # groups, times, doubts, confidence, effects, ROC
    assert seen.count("img") == 2
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert "<pushed>" not in text
    assert "&lt;pushed&gt;" in text
    assert "one camera &lt;only&gt;" in text


def test_rules_and_doubt_are_reported_apart_each_with_its_own_figures(rich, out):
    """Of the doubts of 19 good ones, 0 to 0.17 by 0.01 and 1.4, that of the black camera is above 17."""
    text = write_report(rich, out).text
    faults = text.split("## Camera faults, from a random moment of motion on")[1].split("\n## How")[0]
    whole, refused, alone = faults.split("\n## ")
    assert "| 1 of 1: 100.0 % (20.7 to 100.0 %) | 0 | median 1 s, 90 % within 1 s, worst 1 s |" in whole
    assert refused.startswith("Of these stops, those because the policy refused the pictures by rule\n")
    assert "| 1 of 1: 100.0 % (20.7 to 100.0 %) | median 1 s, 90 % within 1 s, worst 1 s |" in refused
    assert alone.startswith("The same faults, noticed by the network's doubt alone")
    assert "| 0 of 1: 0.0 % (0.0 to 79.3 %) | 0.895 |" in alone
    assert "AUC" not in whole + refused


def test_the_page_shows_failures_with_their_class(rich, out):
    text = write_report(rich, out).page.read_text()
    assert 'Seed 1000018 <span class="badge failure">perception</span>' in text
    assert "closed 50 mm beside the object" in text
    assert 'Seed 1000000 <span class="badge success">success</span>' in text


def test_an_evaluation_of_one_calm_episode_has_a_page_too(make_attempt, make_evaluation, out):
    written = write_report(make_evaluation({"plain": [make_attempt(doubt=0.0)]}), out)
    assert Balance(written.page.read_text()).open == []
    assert "needs 20 episodes or more" in written.text
    assert "## Failures" not in written.text


def test_no_success_at_all_has_a_page_too(make_attempt, make_evaluation, out):
    evaluation = make_evaluation({"plain": [make_attempt(success=False, closed_m=None, taken_ms=())] * 30})
    written = write_report(evaluation, out)
    assert Balance(written.page.read_text()).open == []
    assert "| time to success | – |" in written.text
    assert "| timeout | 30 |" in written.text


def test_the_deployments_report_is_merged(rich, out):
    episodes = tuple(Episode(i, i > 0, "success" if i else "stopped", 4.0, ("because",) * (not i)) for i in range(10))
    stages = {"policy": {"count": 9, "p50": 8.04, "p99": 14.0, "max": 20.0}}
    written = write_report(replace(rich, ros=Report(episodes, stages, {}, {})), out)
    assert "| over topics, all nodes running | 9 of 10: 90.0 % (59.6 to 98.2 %) |" in written.text
    assert "| latency over topics, policy | median 8.0 ms, 99 % within 14.0 ms, worst 20.0 ms |" in written.text
    assert json.loads(written.data.read_text())["over_topics"]["episodes"][0]["stops"] == ["because"]


def test_a_report_that_cannot_be_written_is_an_error_of_one_sentence(rich, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EpisodeError, match="cannot be created"):
        write_report(rich, tmp_path / "file" / "out")


def test_words_for_rates_and_differences():
    assert rate_words(rate([])) == "no episode"
    assert difference_words(paired([], [])) == "no episode"
    assert difference_words(paired([True] * 10, [True] * 9 + [False])).startswith("-10.0 (")
    assert difference_words(paired([True], [True])).endswith("; 0 lost, 0 gained")
