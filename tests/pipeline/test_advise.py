from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from policy_bringup.core.errors import ConfigError, EpisodeError
from policy_bringup.episodes.journal import Journal, Outcome, Provenance, save_journal
from policy_bringup.episodes.layout import begin_episode
from policy_bringup.pipeline.advise import (
    TREE,
    Question,
    Situation,
    advise,
    count_demonstrations,
    expected,
    hours_needed,
    measured_claims,
    trainable_methods,
)
from policy_bringup.pipeline.methods import BASE, METHODS

HERE = Situation(200)
"""The grasp of this package: 200 short demonstrations, two CPU cores."""


def chosen(situation: Situation) -> str:
    return advise(situation, ()).method


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({}, "bc_spatial"),
        ({"precision_mm": 31.0}, "bc_cnn"),
        ({"precision_mm": 30.0}, "bc_spatial"),
        ({"varied": True}, "bc_spatial"),  # no time for more
        ({"varied": True, "hours": 50.0}, "bc_resnet"),
        ({"varied": True, "demonstrations": 5000, "gpu": True, "hours": 20.0}, "bc_vit"),
        ({"varied": True, "demonstrations": 5000, "hours": 1e4}, "bc_resnet"),  # without a graphics card
        ({"moving": True}, "bc_cnn_lstm"),
        ({"long_horizon": True}, "bc_cnn_lstm"),
        ({"long_horizon": True, "gpu": True, "hours": 24.0}, "act"),
        ({"long_horizon": True, "gpu": True, "hours": 24.0, "demonstrations": 49}, "bc_cnn_lstm"),
        ({"precision_mm": 2.0, "gpu": True, "hours": 24.0}, "act"),
        ({"precision_mm": 2.0}, "bc_spatial"),
        ({"multimodal": True, "gpu": True, "hours": 24.0}, "diffusion"),
        ({"multimodal": True}, "bc_cnn_lstm"),
        ({"failing": True, "corrections": True}, "dagger"),
        ({"failing": True, "reward": True}, "bc_rl"),
        ({"failing": True}, "bc_spatial"),
        ({"tasks": 5}, "multi_task"),
        ({"tasks": 5, "failing": True, "corrections": True}, "multi_task"),
    ],
)
def test_a_situation_leads_to_its_method(changes, method):
    assert chosen(replace(HERE, **changes)) == method


def leaves(node):
    return {node} if isinstance(node, str) else leaves(node.yes) | leaves(node.no)


def test_the_tree_reaches_every_method_and_no_other():
    assert leaves(TREE) == set(METHODS)


def test_the_path_says_what_was_asked_and_ends_at_the_advice():
    advice = advise(replace(HERE, moving=True), ())
    assert advice.path[-1] == ("does the object move by itself?", True)
    assert all(not answer for _, answer in advice.path[:-1])
    node = TREE
    for words, answer in advice.path:
        assert isinstance(node, Question)
        assert node.words == words
        node = node.yes if answer else node.no
    assert node == advice.method


def test_every_claim_says_where_it_comes_from():
    measured = measured_claims([])
    for method in METHODS:
        assert METHODS[method].claims
    for changes in ({}, {"moving": True}, {"varied": True}, {"tasks": 2}):
        claims = advise(replace(HERE, **changes), (), measured).claims
        assert all(claim.text and claim.source for claim in claims)
        assert {claim.kind for claim in claims} == {"literature", "judgement"}
        assert all("20" in claim.source for claim in claims if claim.kind == "literature")  # a year


def test_time_is_passes_times_pictures_over_rate():
    """200 demonstrations of 5 s at 20 Hz, two cameras: 40,000 pictures, ten times, at 116 per second."""
    assert hours_needed("bc_spatial", HERE) == pytest.approx(10 * 40_000 / 116 / 3600)
    assert hours_needed("bc_spatial", replace(HERE, gpu=True)) == pytest.approx(10 * 40_000 / 116 / 3600 / 40)
    assert hours_needed("bc_resnet", HERE) == pytest.approx(8 * hours_needed("bc_spatial", HERE))
    advice = advise(HERE, ())
    assert advice.hours == pytest.approx((hours_needed("bc_spatial", HERE) / 2, hours_needed("bc_spatial", HERE) * 2))


def test_too_little_time_is_told():
    assert advise(HERE, ()).enough_time
    assert not advise(replace(HERE, hours=0.5), ()).enough_time


def test_more_demonstrations_never_promise_less():
    spans = [expected("bc_spatial", replace(HERE, demonstrations=count)) for count in (0, 1, 10, 50, 200, 1000)]
    assert spans == [span for _, span in BASE]
    for fewer, more in pairwise(spans):
        assert fewer[0] <= more[0]
        assert fewer[1] <= more[1]


@pytest.mark.parametrize("harder", ["long_horizon", "moving", "varied", "multimodal"])
def test_a_harder_task_promises_less(harder):
    before, after = expected("bc_cnn", HERE), expected("bc_cnn", replace(HERE, **{harder: True}))
    assert after[0] < before[0]
    assert after[1] <= before[1]


def test_a_promise_stays_within_bounds():
    worst = Situation(1, precision_mm=1, long_horizon=True, moving=True, varied=True, multimodal=True)
    assert expected("multi_task", worst) == (0, 5)
    low, high = expected("bc_rl", Situation(100_000))
    assert 0 <= low <= high == 99
    assert expected("bc_cnn", Situation(0)) == (0, 0)


def test_what_can_be_trained_here_is_what_has_a_configuration(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "bc_cnn.yaml").write_text("")
    (tmp_path / "train" / "notes.yaml").write_text("")
    assert trainable_methods(tmp_path) == ("bc_cnn",)
    assert advise(replace(HERE, precision_mm=50), ("bc_cnn",)).trainable
    assert not advise(HERE, ("bc_cnn",)).trainable


def test_evaluations_made_here_are_quoted_with_their_command(tmp_path):
    path = tmp_path / "evaluation.json"
    facts = {"policy": "grasp", "command": "policy evaluate models/policies/grasp"}
    success = {"count": 197, "trials": 200, "low": 0.957, "high": 0.995}
    path.write_text(json.dumps({"facts": facts, "figures": {"success": success}}))
    (claim,) = measured_claims([path])
    assert claim.text == "'grasp' succeeded in 197 of 200 (96 to 100 %)"
    assert (claim.kind, claim.source) == ("measured", "policy evaluate models/policies/grasp")
    assert advise(HERE, (), [claim]).claims[-1] is claim


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"facts": {}, "figures": {"success": {"count": 1}}}'])
def test_a_file_that_is_no_evaluation_is_refused(tmp_path, text):
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"evaluation.json: is not an evaluation"):
        measured_claims([path])


def test_demonstrations_are_the_successes_of_a_dataset(tmp_path):
    origin = Provenance("grasp", (), "", "teleop", "sim", "", "", "")
    for number, outcome in enumerate([Outcome.SUCCESS, Outcome.FAILURE, Outcome.SUCCESS, Outcome.DISCARDED]):
        stopped_ns = (1 + 4 * (number + 1)) * 1_000_000_000
        journal = Journal(number, 1_000_000_000, origin, outcome, stopped_ns)
        save_journal(begin_episode(tmp_path), journal)
    assert count_demonstrations(tmp_path) == (2, 8.0)  # of 4 and 12 s


def test_a_dataset_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(EpisodeError):
        count_demonstrations(tmp_path / "nowhere")


@pytest.mark.parametrize("changes", [{"hours": 0.0}, {"precision_mm": -1.0}, {"tasks": 0}, {"demonstrations": -1}])
def test_a_situation_that_cannot_be_is_refused(changes):
    with pytest.raises(ConfigError, match=f"advise: {next(iter(changes))} must be"):
        replace(HERE, **changes)
