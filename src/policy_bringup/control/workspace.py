"""The box that the tool stays in, looked at along the whole way of a command before it leaves.

Safety bounds where the tool is asked to go, and how hard it is asked to brake there. What joints can do about it
depends on the pose: with the elbow nearly straight, a tool that goes at 0.15 m/s takes joints at 1 rad/s, which come to
rest a centimetre further, each in its own time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policy_bringup.control.kinematics import Chain
from policy_bringup.core.robot import ColumnLimits
from policy_bringup.core.types import TOOL_COLUMNS, Array

POSITION = TOOL_COLUMNS[:3]


class Workspace:
    """limits: of the action columns. Without columns for the position of the tool, everywhere is inside.

    tolerance: m, that the tool may be outside: joints that go together follow a straight line no better.
    """

    def __init__(self, chain: Chain, limits: Sequence[ColumnLimits], tolerance: float) -> None:
        of = {limit.name: (limit.lower - tolerance, limit.upper + tolerance) for limit in limits}
        self._chain, self._bounded = chain, set(POSITION) <= set(of)
        if self._bounded:
            self._lower, self._upper = np.array([of[name] for name in POSITION]).T

    def excess(self, positions: Array) -> float:
        """How far outside, m, the tool gets at worst along a way of joint positions `(points, n)`; 0 if nowhere."""
        if not self._bounded:
            return 0.0
        tool = self._chain.forward_batch(positions)[:, :3, 3]
        return max(0.0, float(np.maximum(self._lower - tool, tool - self._upper).max()))
