import json
from pathlib import Path

import pytest

from policy_bringup.core.errors import ConfigError
from policy_bringup.core.trials import Episode, Latencies, Report, load_report, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (98, 100, 0.9300, 0.9945), (5, 10, 0.2366, 0.7634)],
)
def test_the_wilson_interval_agrees_with_published_values(successes: int, trials: int, low: float, high: float):
    assert wilson(successes, trials) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_without_trials_nothing_is_known():
    assert wilson(0, 0) == (0.0, 1.0)


def make_report() -> Report:
    latencies = Latencies()
    for ms in range(1, 101):
        latencies.add("total", float(ms))
    episodes = (Episode(1, True, "success", 4.2), Episode(2, False, "stopped", 1.0, ("tool.z is below its limit",)))
    return Report(episodes, latencies.summary(), {"ABRUPTNESS": 1}, {"camera_backend": "raycast"})


def test_stages_without_a_measurement_are_left_out():
    assert list(make_report().latency_ms) == ["total"]


def test_quantiles_are_those_of_the_samples():
    total = make_report().latency_ms["total"]
    assert total["count"] == 100
    assert total["p50"] == pytest.approx(50.5)
    assert total["p99"] == pytest.approx(99.01)
    assert total["max"] == 100.0


def test_successes_and_stops_are_counted():
    report = make_report()
    assert report.successes == 1
    assert report.stops == ("tool.z is below its limit",)


def test_a_report_survives_the_disk(tmp_path: Path):
    path = tmp_path / "deep" / "report.json"
    report = make_report()
    report.save(path)
    assert load_report(path) == report
    assert json.loads(path.read_text())["wilson_95"] == [
        pytest.approx(0.0945, abs=1e-3),
        pytest.approx(0.9055, abs=1e-3),
    ]
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]


@pytest.mark.parametrize("content", ["", "{}", '{"episodes": 3}'])
def test_something_else_is_not_taken_for_a_report(tmp_path: Path, content: str):
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="is not a report of episodes"):
        load_report(path)
