"""A table of joint positions from which to start the search for any tool pose.

The first and the last joint of a chain need no table: turning the first spins the whole arm about its axis, turning
the last spins the tool about its own. So the table samples only the joints between them, an entry is compared with the
target by what those two joints cannot change, and they follow in closed form.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from policy_bringup.control.kinematics import Chain
from policy_bringup.core.errors import ConfigError
from policy_bringup.core.types import Array, Pose

REVOLUTION = 2.0 * math.pi
POOL = 48
START_WEIGHT = 0.1  # how much of the distance in features (m, and about rad) a radian away from the start is worth


class Seeds:
    """Built once, always the same: `size` samples spread evenly over the range of the inner joints."""

    def __init__(self, chain: Chain, lower: Array, upper: Array, size: int) -> None:
        if len(chain.names) < 3 or chain.sliding[0] or chain.sliding[-1]:
            raise ConfigError("a table of seeds needs a chain of three or more joints that begins and ends revolute")
        self._lower, self._upper = lower, upper
        self._to_first, self._from_last = np.linalg.inv(chain.offsets[0]), np.linalg.inv(chain.tip)
        q = np.zeros((size, len(lower)))
        q[:, 1:-1] = (lower + (upper - lower) * _spread(size, len(lower)))[:, 1:-1]
        inner = self._to_first @ chain.forward_batch(q) @ self._from_last
        azimuth, features, across = _invariants(inner)
        order = np.argsort(features[:, 0], kind="stable")
        self._joints, self._azimuth, self._across = q[order], azimuth[order], across[order]
        features = features[order]
        self._radius = features[:, 0].copy()
        self._features = np.vstack([-2.0 * features.T, np.sum(features**2, axis=1)]).astype(np.float32)

    def near(self, T_base_tool: Pose, start: Array, count: int) -> Array:
        """Up to `count` joint positions `(k, n)` within limits whose tool is near the target, the most promising first.

        Of those equally near the target, the one nearer to `start` `(n,)` comes first.
        """
        target = np.eye(4)
        target[:3, :3], target[:3, 3] = T_base_tool.rotation, T_base_tool.position
        azimuth, features, across = _invariants((self._to_first @ target @ self._from_last)[None])
        rows, gap = self._nearest(features[0])
        q = self._joints[rows]
        q[:, 0] = self._wrapped(azimuth[0] - self._azimuth[rows], 0)
        spin = self._across[rows] @ across[0, 0]
        q[:, -1] = self._wrapped(np.arctan2(spin[:, 1], spin[:, 0]), -1)
        within = ((q >= self._lower) & (q <= self._upper)).all(axis=1)
        cost = gap + START_WEIGHT * np.abs(q - start).max(axis=1)
        order = np.argsort(np.where(within, cost, np.inf), kind="stable")[: min(count, int(within.sum()))]
        result: Array = q[order]
        return result

    def _nearest(self, feature: Array) -> tuple[npt.NDArray[np.intp], Array]:
        """Rows of the POOL entries nearest to `feature` `(5,)`, and how far they are; of the quarter alike in radius.

        Not a matrix product: a BLAS would wake its threads for this, and wait for them on a busy machine.
        """
        size = len(self._radius)
        middle = int(np.searchsorted(self._radius, feature[0]))
        first = min(max(middle - size // 8, 0), size - size // 4)
        weights = np.append(feature, 1.0).astype(np.float32)
        squared = np.einsum("i,ij->j", weights, self._features[:, first : first + size // 4])
        pool = min(POOL, len(squared) - 1)
        chosen = np.argpartition(squared, pool)[:pool]
        gap: Array = np.sqrt(np.maximum(squared[chosen] + float(feature @ feature), 0.0))
        return np.asarray(first + chosen, dtype=np.intp), gap

    def _wrapped(self, angle: Array, joint: int) -> Array:
        """The same angle within half a turn of the middle of the joint's range."""
        middle = 0.5 * (self._lower[joint] + self._upper[joint])
        result: Array = middle + (angle - middle + math.pi) % REVOLUTION - math.pi
        return result


def _spread(count: int, dimensions: int) -> Array:
    """Evenly spread points in the unit cube, `(count, dimensions)`.

    Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018: additive recurrence with the powers of
    the root of x^(d+1) = x + 1.
    """
    root = 1.5
    for _ in range(64):
        root = (1.0 + root) ** (1.0 / (dimensions + 1))
    steps = root ** -np.arange(1.0, dimensions + 1.0)
    result: Array = (0.5 + np.outer(np.arange(1, count + 1), steps)) % 1.0
    return result


def _invariants(T: Array) -> tuple[Array, Array, Array]:
    """Transforms `(m, 4, 4)` from the first joint's frame to the last's, split into what each joint can change.

    Returns azimuth `(m,)`; features `(m, 5)`: radius, height, and direction of the last axis seen from that azimuth;
    x and y axes of the last frame seen from there, `(m, 2, 3)`.
    """
    azimuth = np.arctan2(T[:, 1, 3], T[:, 0, 3])
    cosine, sine = np.cos(azimuth), np.sin(azimuth)
    turned = np.empty((len(T), 3, 3))
    turned[:, 0] = cosine[:, None] * T[:, 0, :3] + sine[:, None] * T[:, 1, :3]
    turned[:, 1] = cosine[:, None] * T[:, 1, :3] - sine[:, None] * T[:, 0, :3]
    turned[:, 2] = T[:, 2, :3]
    radius = np.hypot(T[:, 0, 3], T[:, 1, 3])
    features = np.column_stack([radius, T[:, 2, 3], turned[:, :, 2]])
    return azimuth, features, turned[:, :, :2].transpose(0, 2, 1)
