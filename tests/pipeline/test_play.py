from __future__ import annotations

import os
from dataclasses import replace

import pytest

from policy_bringup.core.errors import DeviceError, EpisodeError, ObservationError
from policy_bringup.pipeline import play
from policy_bringup.pipeline.failures import alarmed
from policy_bringup.pipeline.play import Job, Setting, Stage, backends, performers
from policy_bringup.sim.egl import missing

FIRST = 1_000_000


@pytest.fixture(scope="module")
def seeing(small_config, policies) -> Stage:
    return Stage(Setting(small_config, "grasp.yaml", policies["seeing"], "raycast", 8.0))


@pytest.fixture(scope="module")
def plain(seeing):
    return seeing.play(Job(FIRST))


def without_durations(played):
    return replace(played.attempt, taken_ms=())


def test_a_plain_episode_is_seen_in_time_and_succeeds(plain):
    attempt = plain.attempt
    assert attempt.success
    assert (attempt.condition, attempt.seed, attempt.backend) == ("plain", FIRST, "raycast")
    assert len(attempt.taken_ms) == pytest.approx(20 * attempt.time_s, abs=3)
    assert attempt.stop is None
    assert plain.strips == {}


def test_the_same_job_gives_the_same_attempt_whatever_was_played_before(seeing, plain):
    seeing.play(Job(FIRST + 1, "noise"))
    assert without_durations(seeing.play(Job(FIRST))) == without_durations(plain)


def test_a_black_camera_is_answered_by_silence_and_a_stop(seeing):
    attempt = seeing.play(Job(FIRST, "black", onset_s=0.8)).attempt
    assert not attempt.success
    assert attempt.stop.rule == "AGE"
    assert 0.8 < attempt.stop.time_s < 0.8 + 0.5
    assert attempt.unanswered > 3
    assert "is black" in attempt.unanswered_reason
    assert 0.0 < attempt.travel_m < 0.2
    assert alarmed(attempt)


def test_an_episode_ends_soon_after_its_stop(seeing):
    attempt = seeing.play(Job(FIRST, "black", onset_s=0.8)).attempt
    assert attempt.time_s == pytest.approx(attempt.stop.time_s + play.AFTER_STOP_S, abs=0.05)


def test_swapped_cameras_are_stopped_for_doubt_and_without_a_threshold_they_are_not(seeing):
    job = Job(FIRST, "swapped", onset_s=0.8)
    guarded, unguarded = (seeing.play(replace(job, unguarded=off)).attempt for off in (False, True))
    assert guarded.stop.rule == "UNCERTAINTY"
    assert guarded.doubt > seeing.threshold
    assert unguarded.stop is None
    assert unguarded.success  # the expert does not need the pictures that it doubts


def test_without_its_watch_the_network_answers_to_a_black_camera_and_only_doubts(seeing):
    job = Job(FIRST, "black", onset_s=0.8, unguarded=True, unwatched=True)
    alone = seeing.play(job).attempt
    assert (alone.unanswered, alone.stop, alone.success) == (0, None, True)
    assert seeing.threshold < alone.doubt < 10.0
    assert seeing.play(replace(job, unguarded=False)).attempt.stop.rule == "UNCERTAINTY"
    assert not job.counts


def test_a_job_may_have_less_patience_than_its_setting(seeing, plain):
    short = seeing.play(Job(FIRST, patience_s=1.0)).attempt
    assert not short.success
    assert 0.5 < short.time_s <= 1.0 < plain.attempt.time_s


def test_a_frozen_camera_changes_nothing_before_its_onset(seeing, plain):
    """Nor does it stop this policy, which does not notice."""
    attempt = seeing.play(Job(FIRST, "frozen", onset_s=1.5)).attempt
    assert attempt.success
    assert attempt.closed_m == plain.attempt.closed_m
    assert attempt.onset_s == 1.5


def test_late_chunks_and_lost_pictures_cost_time_or_predictions(seeing, plain):
    late, lossy = (seeing.play(Job(FIRST, name)).attempt for name in ("latency", "dropped"))
    assert late.success
    assert late.time_s > plain.attempt.time_s
    assert lossy.success
    # Of the moments, those with both pictures are left: 0.9 x 0.9.
    assert len(lossy.taken_ms) / (20 * lossy.time_s) == pytest.approx(0.81, abs=0.1)


def test_film_strips_show_what_the_policy_saw(seeing):
    played = seeing.play(Job(FIRST, "occlusion", strips=True))
    assert set(played.strips) == {"front", "wrist"}
    for pictures in played.strips.values():
        assert len(pictures) == play.STRIP
        times = [picture.time_ns for picture in pictures]
        assert times[0] == 0
        assert times[-1] / 1e9 == pytest.approx(played.attempt.time_s, abs=0.1)
        assert times == sorted(times)


def test_two_workers_find_what_one_process_finds(config_folder):
    stage = Stage(Setting(config_folder, "grasp.yaml", play.expert, "raycast", 1.0))
    jobs = [Job(FIRST), Job(FIRST + 1, "shape"), Job(FIRST + 2)]
    found = []
    for workers in (1, 2):
        with performers(stage, workers) as perform:
            found.append({played.job: without_durations(played) for played in perform(jobs)})
    assert found[0] == found[1]
    assert set(found[0]) == set(jobs)


class Resentful:
    """The expert, which never answers again once it has seen a black picture: not even after a reset."""

    def __init__(self, inner):
        self._inner, self.contract, self.reset = inner, inner.contract, inner.reset
        self._hurt = ""

    def predict(self, observation):
        try:
            assert not self._hurt
            return self._inner.predict(observation)
        except (AssertionError, ObservationError) as error:
            self._hurt = self._hurt or str(error)
            raise ObservationError(self._hurt) from error


def test_what_a_policy_remembers_of_a_fault_does_not_reach_the_next_episode(small_config, policies):
    def resentful(stack):
        policy, threshold = policies["seeing"](stack)
        return Resentful(policy), threshold

    stage = Stage(Setting(small_config, "grasp.yaml", resentful, "raycast", 1.2))
    assert stage.play(Job(FIRST, "black", onset_s=0.4)).attempt.unanswered > 0
    assert stage.play(Job(FIRST)).attempt.unanswered == 0


def dying(stack):
    """The expert, until it takes its process with it."""
    policy, threshold = play.expert(stack)
    policy.predict = lambda _observation: os._exit(9)
    return policy, threshold


def test_a_worker_that_dies_ends_the_series_with_a_sentence(config_folder):
    stage = Stage(Setting(config_folder, "grasp.yaml", dying, "raycast", 1.0))
    with pytest.raises(EpisodeError, match="was killed"), performers(stage, 2) as perform:
        list(perform([Job(FIRST), Job(FIRST + 1)]))


def test_the_expert_needs_no_picture(stack):
    policy, threshold = play.expert(stack)
    assert policy.contract.observation.images == ()
    assert threshold == stack.deployment.uncertainty_threshold


@pytest.mark.skipif(bool(missing()), reason=f"OpenGL without a screen needs {missing()}")
def test_the_other_backend_draws_nearly_the_same_episode(seeing, plain):
    attempt = seeing.play(Job(FIRST, "backend")).attempt
    assert attempt.backend == "egl"
    assert attempt.success
    assert attempt.time_s == pytest.approx(plain.attempt.time_s, abs=0.1)
    assert attempt.doubt != plain.attempt.doubt  # the pictures are not the same


def test_without_egl_rays_draw_and_the_reason_is_told(stack, monkeypatch):
    def broken(model, cameras, backend="auto"):
        if backend == "egl":
            raise DeviceError("no EGL here")
        raise AssertionError("nothing else is to be opened")

    monkeypatch.setattr(play, "open_view", broken)
    assert backends(stack, "auto") == backends(stack, "raycast") == ("raycast", "no EGL here")
    with pytest.raises(DeviceError, match="no EGL here"):
        backends(stack, "egl")
