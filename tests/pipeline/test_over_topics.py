"""The deployment that `policy learn` runs at its end: real nodes, over topics."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from policy_bringup.core.errors import LearningError
from policy_bringup.core.startup import Options
from policy_bringup.learn_cli import _deploy
from policy_bringup.over_topics import EpisodeLog


def test_a_deployment_for_a_course_tells_its_progress_and_leaves_report_and_log(
    config_folder: Path, tmp_path: Path, handlers, domain_id: int
) -> None:
    told: list[tuple[int, int]] = []
    options = Options(
        "sim", config_folder / "grasp.yaml", source="expert", episodes=1, report=tmp_path / "topics.json",
        domain_id=domain_id,
    )  # fmt: skip
    report = _deploy(options, lambda done, total: told.append((done, total)))
    assert len(report.episodes) == 1
    assert told == [(1, 1)]
    assert "[trial]" in (tmp_path / "topics.log").read_text()


def test_a_deployment_that_ends_early_names_the_node_and_where_its_words_are(
    config_folder: Path, tmp_path: Path, handlers, domain_id: int
) -> None:
    options = Options(
        "sim", config_folder / "grasp.yaml", bundle=tmp_path, episodes=1, report=tmp_path / "topics.json",
        domain_id=domain_id,
    )  # fmt: skip
    with pytest.raises(LearningError, match=r"ended early: '(policy|safety)'.*what was said is in .*topics.log"):
        _deploy(options, lambda _done, _total: None)
    assert "policy.yaml" in (tmp_path / "topics.log").read_text()


def test_only_the_end_of_an_episode_counts_as_one() -> None:
    over: list[int] = []
    stream = io.StringIO()
    log = EpisodeLog(stream, over.append)
    lines = (
        "[trial] [INFO] [1.5] [trial]: episode 1: success after 4.8 s ",
        "[trial] [INFO] [1.5] [trial]: episode_000000 is a success",
        "[safety] [INFO] [1.5] [safety]: episode 2: no",
        "[trial] [INFO] [1.5] [trial]: episode 2: timeout after 20.0 s ",
    )
    for line in lines:
        print(line, file=log, flush=True)
    assert over == [1, 2]
    assert stream.getvalue().splitlines() == list(lines)
