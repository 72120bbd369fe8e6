from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from policy_bringup.core.errors import EpisodeError
from policy_bringup.episodes.film_strip import Thumbnail
from policy_bringup.pipeline.ledger import Ledger
from policy_bringup.pipeline.play import Job, Played, Setting, expert
from policy_bringup.sim.trace import Stop

FIRST = 1_000_000
MADE_WITH = {"graph": "a" * 64, "configuration": "b" * 64, "code": "1.0+c"}
SETTING = Setting(Path("config"), "grasp.yaml", expert, "raycast", 20.0)
JOB = Job(FIRST)


def stage(threshold: float = 0.5, **changes) -> SimpleNamespace:
    """As much of a play.Stage as decides about what comes of an episode."""
    return SimpleNamespace(setting=replace(SETTING, **changes), threshold=threshold)


class Players:
    """Plays what it is given, in turn, and remembers it."""

    def __init__(self, make_attempt) -> None:
        self._make_attempt = make_attempt
        self.played: list[Job] = []

    def __call__(self, jobs):
        for job in jobs:
            self.played.append(job)
            yield Played(job, self._make_attempt(seed=job.seed, condition=job.condition, doubt=job.seed / 3), {})


@pytest.fixture
def players(make_attempt) -> Players:
    return Players(make_attempt)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "played.jsonl"


def play(path: Path, players, jobs, *, made_with=MADE_WITH, at=None) -> list[Played]:
    """One start of a program."""
    return list(Ledger(path, made_with).remembering(at or stage(), players)(jobs))


def test_what_was_played_is_not_played_again_and_is_the_same(path, players):
    jobs = [JOB, Job(FIRST + 1, "light"), Job(FIRST, "black", 0.7, unguarded=True, unwatched=True, patience_s=3.0)]
    first = play(path, players, jobs)
    assert play(path, players, [*jobs, Job(FIRST + 2)])[:3] == first
    assert players.played == [*jobs, Job(FIRST + 2)]


def test_every_number_and_every_picture_comes_back_as_it_was(path, make_attempt):
    attempt = make_attempt(
        success=False, doubt=math.inf, closed_m=None, time_s=0.1 + 0.2, onset_s=1 / 3, travel_m=1e-17, taken_ms=(),
        stop=Stop(2.0, "AGE", "nothing new"), motion=(), unanswered=2, unanswered_reason="„schwarz“",
    )  # fmt: skip
    strips = {"front": (Thumbnail(0, b"\xff\xd8\x00", 192, 108), Thumbnail(5, b"", 1, 1)), "wrist": ()}
    played = Played(replace(JOB, strips=True), attempt, strips)
    assert play(path, lambda jobs: [played for _ in jobs], [played.job]) == [played]
    assert play(path, lambda jobs: [pytest.fail("played again") for _ in jobs], [played.job]) == [played]


@pytest.mark.parametrize("name", MADE_WITH)
def test_another_policy_configuration_or_code_plays_anew(path, players, name):
    play(path, players, [JOB])
    play(path, players, [JOB], made_with={**MADE_WITH, name: "other"})
    assert players.played == [JOB, JOB]
    play(path, players, [JOB])
    assert len(players.played) == 2


@pytest.mark.parametrize(
    "other",
    [
        stage(threshold=0.6),
        stage(backend="egl"),
        stage(patience_s=19.0),
        stage(deployment_file="other.yaml"),
    ],
    ids=["threshold", "backend", "patience", "deployment"],
)
def test_another_stage_plays_anew(path, players, other):
    play(path, players, [JOB])
    play(path, players, [JOB], at=other)
    assert players.played == [JOB, JOB]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": FIRST + 1},
        {"condition": "light"},
        {"onset_s": 1.0},
        {"unguarded": True},
        {"unwatched": True},
        {"strips": True},
        {"patience_s": 19.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_job_is_played(path, players, changes):
    play(path, players, [JOB])
    play(path, players, [replace(JOB, **changes)])
    assert players.played == [JOB, replace(JOB, **changes)]


def test_an_episode_without_a_threshold_does_not_depend_on_it(path, players):
    job = replace(JOB, unguarded=True)
    play(path, players, [job])
    play(path, players, [job], at=stage(threshold=0.6))
    assert players.played == [job]


def test_an_episode_is_on_the_disk_before_anybody_hears_of_it(path, players):
    played = Ledger(path, MADE_WITH).remembering(stage(), players)([JOB, Job(FIRST + 1)])
    next(played)
    assert [json.loads(line)["episode"]["seed"] for line in path.read_text().splitlines()] == [FIRST]


@pytest.mark.parametrize("left", [1, 40, -2], ids=["a letter", "a part", "all but its end"])
def test_a_line_that_was_cut_short_counts_for_nothing_and_harms_no_other(path, players, left):
    jobs = [Job(FIRST + n) for n in range(3)]
    whole = play(path, players, jobs)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:left])
    assert sorted(play(path, players, jobs), key=lambda played: played.job.seed) == whole
    assert players.played == [*jobs, jobs[2]]
    play(path, players, jobs)
    assert len(players.played) == 4


def test_what_the_kept_ones_took_is_counted_and_what_is_of_another_policy_is_not(path, players):
    play(path, players, [JOB])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, "seconds": 12.5}) + "\n" for line in lines))
    ledger = Ledger(path, MADE_WITH)
    list(ledger.remembering(stage(), players)([JOB, Job(FIRST + 1)]))
    assert ledger.saved_s == 12.5
    other = Ledger(path, {**MADE_WITH, "graph": "other"})
    list(other.remembering(stage(), players)([JOB]))
    assert other.saved_s == 0.0


def test_a_file_that_cannot_be_read_is_one_sentence(path):
    path.mkdir()
    with pytest.raises(EpisodeError, match=r"played\.jsonl: cannot be read"):
        Ledger(path, MADE_WITH)
