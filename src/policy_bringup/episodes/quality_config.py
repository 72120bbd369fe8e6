"""config/quality.yaml as frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from policy_bringup.core.config import bounded


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """What an episode must be, to be worth learning from; config/quality.yaml explains every key."""

    min_duration_s: float = bounded(0.0, 60.0, "s")
    min_rate_share: float = bounded(0.0, 1.0)
    max_gap_periods: float = bounded(1.0, 1000.0, "periods")
    gap_floor_s: float = bounded(0.0, 10.0, "s")
    max_jitter_s: float = bounded(0.0, 1.0, "s")
    max_skew_s: float = bounded(0.0, 10.0, "s")
    max_bad_stamps: int = bounded(0, 10_000)
    max_frozen_s: float = bounded(0.05, 60.0, "s")
    max_dull_s: float = bounded(0.05, 60.0, "s")
    min_brightness: float = bounded(0.0, 255.0, "grey levels")
    max_brightness: float = bounded(0.0, 255.0, "grey levels")
    min_spread: float = bounded(0.0, 128.0, "grey levels")
    motion_window_s: float = bounded(0.01, 1.0, "s")
    idle_speed: float = bounded(0.0001, 1.0, "rad/s or m/s")
    max_idle_share: float = bounded(0.0, 1.0)
    max_jerk: float = bounded(1.0, 100_000.0, "rad/s^3")
    min_gripper_travel_m: float = bounded(0.0, 0.2, "m")

    def __post_init__(self) -> None:
        if not self.min_brightness < self.max_brightness:
            raise ValueError("max_brightness must be above min_brightness")
