"""config/console.yaml as frozen values. Lengths in metre, in the robot's base frame; the table's top is at z = 0."""

from __future__ import annotations

from dataclasses import dataclass

from policy_bringup.core.config import bounded, required


@dataclass(frozen=True, slots=True)
class Table:
    """The slab under the robot, as it is drawn. `size`: full lengths; `centre`: (x, y) of its middle."""

    size: tuple[float, float, float] = bounded(0.01, 5.0, "m")
    centre: tuple[float, float] = bounded(-2.0, 2.0, "m")


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """host: the one address that the page is served on. object_size: edge of the cube that stands for the object."""

    host: str = required()
    port: int = bounded(1024, 65535)
    answer_timeout_s: float = bounded(0.1, 10.0, "s")
    table: Table = required()
    object_size: float = bounded(0.005, 0.5, "m")
