"""What a series of episodes showed: successes with their interval, latencies per stage, verdicts by rule."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from policy_bringup.core.errors import ConfigError

STAGES = ("camera", "policy", "safety", "arm", "total")
"""camera: stamp of the picture -> picture published. policy: -> action published. safety: -> first safe action of that
picture published. arm: -> first controller command that answers it published. total: stamp of the picture -> that
command."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One attempt. outcome: "success", or why not. stops: sentences of the safety stops in it."""

    number: int
    success: bool
    outcome: str
    duration_s: float
    stops: tuple[str, ...] = ()


@dataclass(slots=True)
class Latencies:
    """Collects one list per stage, ms."""

    samples: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})

    def add(self, stage: str, ms: float) -> None:
        """Takes one measurement in."""
        self.samples[stage].append(ms)

    def summary(self) -> dict[str, dict[str, float]]:
        """Per stage: count, p50, p99, max; stages without a measurement are left out."""
        return {stage: _quantiles(values) for stage, values in self.samples.items() if values}


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(values, [50, 99])
    return {"count": len(values), "p50": float(p50), "p99": float(p99), "max": max(values)}


@dataclass(frozen=True, slots=True)
class Report:
    """A whole series. verdicts: rule -> number of judgements; facts: what ran where."""

    episodes: tuple[Episode, ...]
    latency_ms: Mapping[str, Mapping[str, float]]
    verdicts: Mapping[str, int]
    facts: Mapping[str, Any]

    @property
    def successes(self) -> int:
        """Number of successful episodes."""
        return sum(episode.success for episode in self.episodes)

    @property
    def stops(self) -> tuple[str, ...]:
        """Sentences of all safety stops."""
        return tuple(stop for episode in self.episodes for stop in episode.stops)

    def save(self, path: Path) -> None:
        """Writes JSON, whole or not at all."""
        low, high = wilson(self.successes, len(self.episodes))
        data = {**asdict(self), "successes": self.successes, "wilson_95": [low, high]}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(path.suffix + ".partial")
        partial.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)


def load_report(path: Path) -> Report:
    """Reads what `Report.save` wrote. Raises ConfigError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        episodes = tuple(Episode(**{**entry, "stops": tuple(entry["stops"])}) for entry in data["episodes"])
        return Report(episodes, data["latency_ms"], data["verdicts"], data["facts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: is not a report of episodes ({error})") from error


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a success rate. Source: Wilson, JASA 22 (1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    p = successes / trials
    centre = p + z * z / (2 * trials)
    spread = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
