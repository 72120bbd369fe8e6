"""The figures of an evaluation in words: one wording for the page, the table and the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from policy_bringup.core.fingerprints import code_version
from policy_bringup.core.trials import wilson
from policy_bringup.pipeline.confidence import Calibration
from policy_bringup.pipeline.evaluate import Evaluation
from policy_bringup.pipeline.failures import CLASSES
from policy_bringup.pipeline.figures import GROUPS, Alarms, Figures, Spread
from policy_bringup.pipeline.seeds import BLOCKS
from policy_bringup.pipeline.statistics import Paired, Rate

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Heads and rows."""


def facts_of(evaluation: Evaluation, command: str = "") -> dict[str, str]:
    """What was evaluated, how, and on what."""
    plan = evaluation.plan
    first, last = evaluation.plain[0].seed, evaluation.plain[-1].seed
    others = [f"{purpose} {block.start} to {block.stop - 1}" for purpose, block in BLOCKS.items() if first not in block]
    return {
        "policy": plan.name,
        "deployment": plan.deployment_file,
        "episodes": f"{len(evaluation.plain)}, seeds {first} to {last}",
        "seeds kept apart": "; ".join(others),
        "patience": f"{plan.patience_s:g} s",
        "pictures": evaluation.backend if evaluation.cameras else "none: the policy looks at none",
        **({"runs on": evaluation.runs_on} if evaluation.runs_on else {}),
        "uncertainty threshold": f"{evaluation.threshold:.6g}",
        "played": f"{sum(map(len, evaluation.attempts.values()))} episodes in {evaluation.seconds:.0f} s",
        "code version": code_version(),
        **({"command": command} if command else {}),
    }


def headline(evaluation: Evaluation, found: Figures) -> dict[str, str]:
    """What everybody asks first."""
    lines = {
        "success": rate_words(found.success),
        "time to success": spread_words(found.time_s, "s", "90 % within"),
        "false alarms": rate_words(found.alarms.false_alarm),
        "stops for doubt": alarm_words(found.alarms),
        "prediction": spread_words(found.inference_ms, "ms", "99 % within"),
        "confidence": confidence_words(found.confidence),
    }
    groups = found.groups
    if groups.deviation is not None and groups.expected is not None:
        size = groups.rates[0].trials
        lines[f"spread of {GROUPS} evaluations of {size}"] = (
            f"standard deviation {groups.deviation * 100:.1f} points; chance alone gives {groups.expected * 100:.1f}"
        )
    if found.failure_auc is not None:
        lines["doubt of failures"] = f"above that of successes in {found.failure_auc * 100:.0f} % of pairs (AUC)"
    return {**lines, **_over_topics(evaluation)}


def failure_table(found: Figures) -> Table:
    """Classes that occurred."""
    rows = [(kind, str(found.failures[kind]), words) for kind, words in CLASSES.items() if found.failures[kind]]
    return ("class", "episodes", "meaning"), rows


def effect_table(found: Figures) -> Table:
    """One row per perturbation."""
    rows = [
        (
            effect.words,
            rate_words(effect.plain),
            rate_words(effect.perturbed),
            difference_words(effect.pairs),
            str(effect.stopped),
            ", ".join(f"{count} {kind}" for kind, count in effect.failures.items() if count) or "–",
        )
        for effect in found.effects
    ]
    return ("change", "undisturbed", "changed", "difference", "stopped", "failures"), rows


DETECTIONS = "Camera faults, from a random moment of motion on"
REFUSALS = "Of these stops, those because the policy refused the pictures by rule"
DOUBTS = "The same faults, noticed by the network's doubt alone: nothing refuses its pictures, the threshold is off"


def detection_table(found: Figures) -> Table:
    """One row per fault: what safety made of it, with everything on."""
    rows = [
        (
            detection.words,
            rate_words(detection.stopped),
            str(detection.succeeded),
            spread_words(detection.delay_s, "s", "90 % within"),
            spread_words(detection.travel_m, "m", "90 % within"),
        )
        for detection in found.detections
    ]
    return ("fault", "stopped", "succeeded first", "onset to stop", "way of the tool since the onset"), rows


def refusal_table(found: Figures) -> Table:
    """One row per fault: what the rules of inference/watched.py noticed, without any doubt."""
    rows = [
        (detection.words, rate_words(detection.refused), spread_words(detection.refusal_s, "s", "90 % within"))
        for detection in found.detections
    ]
    return ("fault", "stopped by refusal", "onset to stop"), rows


def doubt_table(found: Figures) -> Table:
    """One row per fault: what the network's own doubt would notice, without any rule."""
    rows = [
        (detection.words, rate_words(detection.doubted), "–" if detection.auc is None else f"{detection.auc:.3f}")
        for detection in found.detections
    ]
    return ("fault", "doubt above the threshold", "AUC against undisturbed successes"), rows


def rate_words(rate: Rate) -> str:
    """E.g. "197 of 200: 98.5 % (95.7 to 99.5 %)"; the interval is Wilson's, 95 %."""
    if not rate.trials:
        return "no episode"
    low, high = rate.low * 100, rate.high * 100
    return f"{rate.count} of {rate.trials}: {rate.share * 100:.1f} % ({low:.1f} to {high:.1f} %)"


def difference_words(pairs: Paired) -> str:
    """E.g. "-10.0 (-19.7 to -0.9) points; 6 lost, 1 gained"."""
    if not pairs.trials:
        return "no episode"
    low, high = pairs.low * 100, pairs.high * 100
    return f"{pairs.difference * 100:+.1f} ({low:+.1f} to {high:+.1f}) points; {pairs.lost} lost, {pairs.gained} gained"


def spread_words(spread: Spread, unit: str, tail: str) -> str:
    """Median, tail and worst."""
    if spread.median is None or spread.tail is None or spread.worst is None:
        return "–"
    return f"median {spread.median:.3g} {unit}, {tail} {spread.tail:.3g} {unit}, worst {spread.worst:.3g} {unit}"


def alarm_words(alarms: Alarms) -> str:
    """How many, and how many of them were right."""
    total = alarms.right + alarms.wrong + alarms.refused
    if not total:
        return "none"
    words = f"{total}; right: {alarms.right} (without the stop, the episode fails), wrong: {alarms.wrong}"
    return words + (f", {alarms.refused} because the policy refused sound pictures" if alarms.refused else "")


def confidence_words(confidence: Calibration | str) -> str:
    """The expected calibration error, or why there is none."""
    if isinstance(confidence, str):
        return f"not judged: {confidence}"
    return f"expected calibration error {confidence.error * 100:.1f} points, in {len(confidence.bins)} bins"


def _over_topics(evaluation: Evaluation) -> dict[str, str]:
    report = evaluation.ros
    if report is None:
        return {}
    trials = len(report.episodes)
    done = Rate(report.successes, trials, *wilson(report.successes, trials))
    words = {"over topics, all nodes running": rate_words(done), "safety stops over topics": str(len(report.stops))}
    for stage, row in report.latency_ms.items():
        words[f"latency over topics, {stage}"] = (
            f"median {row['p50']:.1f} ms, 99 % within {row['p99']:.1f} ms, worst {row['max']:.1f} ms"
        )
    return words
