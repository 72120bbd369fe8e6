"""What a person reads after a run."""

import io

from rich.console import Console

from policy_bringup.core.latency import Latency
from policy_bringup.core.trials import Episode, Report
from policy_bringup.doctor import Finding
from policy_bringup.latency_cli import merged
from policy_bringup.tables import print_findings, print_latencies, print_report

LATENCY = {"total": {"count": 10.0, "p50": 13.3, "p99": 23.7, "max": 26.5}}


def printed(show, what) -> str:
    console = Console(file=io.StringIO(), width=160)
    show(what, console)
    return console.file.getvalue()


def test_a_report_shows_successes_interval_latency_verdicts_and_every_stop():
    episodes = (Episode(1, True, "success", 4.8), Episode(2, False, "stopped", 1.0, ("tool.z [m] is below its limit",)))
    text = printed(print_report, Report(episodes, LATENCY, {"BOUNDS": 3}, {"real_time_factor": "0.999"}))
    for words in ("50.0%", "9.5% to 90.5%", "4.8 s", "13.3", "23.7", "26.5", "BOUNDS", "0.999 of real time"):
        assert words in text
    assert "stopped: tool.z [m] is below its limit" in text


def test_a_report_of_nothing_is_still_a_report():
    text = printed(print_report, Report((), {}, {}, {}))
    assert "0.0% to 100.0%" in text
    assert "latency" not in text


def test_findings_say_what_to_type_brackets_included_and_only_where_something_is_missing():
    findings = [
        Finding("simulator", "no mujoco", False, True, "pip install 'policy_bringup[sim]'"),
        Finding("viser", "installed", True, False, "pip install 'policy_bringup[console]'"),
    ]
    text = printed(print_findings, findings)
    assert "pip install 'policy_bringup[sim]'" in text
    assert "[console]" not in text
    assert "missing" in text


def test_latencies_show_how_late_how_sure_and_why_one_is_not_known():
    rows = {
        "camera front": {"s": 0.0812, "plus_minus_s": 0.0031, "likeness": 0.9876},
        "camera wrist": {"failed": "camera 'wrist': cannot be measured, it does not follow the motion"},
    }
    text = printed(print_latencies, rows)
    for words in ("81.2", "± 3.1", "0.988", "camera wrist", "camera 'wrist': cannot be measured"):
        assert words in text


def test_what_was_measured_replaces_what_was_known_and_nothing_is_early():
    rows = {"camera front": {"s": 0.08123}, "camera wrist": {"failed": "no"}, "actuator": {"s": -0.002}}
    assert merged(Latency({"wrist": 0.03}, 0.1), rows) == Latency({"wrist": 0.03, "front": 0.0812}, 0.0)
    for known in (0.1, None):
        assert merged(Latency({}, known), {"actuator": {"failed": "no"}}) == Latency({}, known)
