"""Joins the chunks of one policy into one continuous path.

Two jumps are known from the field, both from inference taking time. From standstill, the first chunk's early steps
are already past when it arrives, so the arm leaps to where it should have been: here the first chunk starts when it
arrives, and fades in smoothly from where the arm stands. (The policy hears a moment later that it was armed, and may
until then begin once more: that is no jump as long as the arm has hardly any speed.) Later, a new chunk disagrees with
the one being executed: here the path leaves the old one where it is and fades into the new one over `blend_s`.

If that is longer than the time between two chunks, what is executed is a running mean of what several chunks asked for
at that moment, as in ACT (Zhao et al. 2023, "temporal ensembling"). A policy that sees one moment only needs it: in a
pause, when every picture is like the one before, each chunk says that motion begins soon, and none that it does now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from policy_bringup.core.errors import ChunkRefused
from policy_bringup.core.robot import ColumnLimits
from policy_bringup.core.types import ActionChunk, Array


def value_at(chunk: ActionChunk, stamp_ns: int) -> Array:
    """What the chunk asks for at a moment, `(columns,)`: linear between its steps, the first before, the last after."""
    t = (stamp_ns - chunk.stamp_ns) / 1e9
    later = int(np.searchsorted(chunk.times_s, t))
    if later == 0:
        first: Array = chunk.values[0]
        return first
    if later == len(chunk.times_s):
        last: Array = chunk.values[-1]
        return last
    t0, t1 = chunk.times_s[later - 1], chunk.times_s[later]
    return _mixed(chunk.values[later - 1], chunk.values[later], (t - t0) / (t1 - t0))


def remaining(chunk: ActionChunk, stamp_ns: int) -> ActionChunk | None:
    """The steps still ahead of `stamp_ns`, same stamp; None when all have expired."""
    first = int(np.searchsorted(chunk.times_s, (stamp_ns - chunk.stamp_ns) / 1e9, side="right"))
    if first == len(chunk.times_s):
        return None
    return replace(
        chunk,
        times_s=chunk.times_s[first:],
        values=chunk.values[first:],
        uncertainty=chunk.uncertainty[first:],
    )


def delayed(chunk: ActionChunk, start_ns: int) -> ActionChunk:
    """The same steps, begun at `start_ns`. The stamp stays: it says what was seen, not what is due."""
    return replace(chunk, times_s=chunk.times_s + (start_ns - chunk.stamp_ns) / 1e9)


def _mixed(old: Array, new: Array, weight: Array | float) -> Array:
    """From `old` (weight 0) to `new` (weight 1), never outside the two.

    Why not the new path plus a fading offset: beside a limit, two paths within it would add up to one beyond it. And
    why clipped: a gripper commanded to exactly its limit must not leave it by a rounding error.
    """
    mixed: Array = np.clip(old + weight * (new - old), np.minimum(old, new), np.maximum(old, new))
    return mixed


def _anchored(chunk: ActionChunk, stamp_ns: int, value: Array) -> ActionChunk:
    """The chunk with one step before its first: `value` `(columns,)` at `stamp_ns`, where following it begins."""
    return replace(
        chunk,
        times_s=np.insert(chunk.times_s, 0, (stamp_ns - chunk.stamp_ns) / 1e9),
        values=np.insert(chunk.values, 0, value, axis=0),
        uncertainty=np.insert(chunk.uncertainty, 0, chunk.uncertainty[0]),
    )


class ChunkStream:
    """One policy's chunks, joined. Deviations it may smooth are bounded; a jump it must not hide is refused.

    limits: of the action columns. Their max_step is the largest distance of a chunk's first step from the measured
    values at standstill, else from the path being executed at that moment. blend_s: time over which the old path fades
    out. lead_s: how late the arm is; steps are asked for so much before they are due, and those that it would reach too
    late are trimmed.
    """

    def __init__(self, limits: Sequence[ColumnLimits], blend_s: float, lead_s: float = 0.0) -> None:
        self._lower = np.array([limit.lower for limit in limits])
        self._upper = np.array([limit.upper for limit in limits])
        self._max_step = np.array([limit.max_step for limit in limits])
        self._holds_command = np.array([limit.holds_command for limit in limits])
        self._lead_s = lead_s
        self._blend_s = blend_s
        self.reset()

    def reset(self) -> None:
        """The robot stands still (again): the next chunk is a first one."""
        self._path: ActionChunk | None = None
        self._held: Array | None = None

    def stand(self, now_ns: int) -> None:
        """Safety holds the robot at `now_ns`, ROS time: the next chunk fades in from where it is measured by then.

        It would else join the path where that had gone on to meanwhile: a jump, for which the robot is held once more.
        A chunk that is too far from there is passed on as it is: safety is to see it, and to say what it objects to.
        A gripper goes on from what its path says now: what it measures would let go of a thing that it grasps.
        """
        if self._path is not None:
            self._held = value_at(self._path, now_ns)

    def join(self, chunk: ActionChunk, measured: Array, now_ns: int) -> ActionChunk:
        """What to publish for a new chunk. Raises ChunkRefused with the reason; the old path then goes on.

        measured: `(columns,)` where the robot is. now_ns: ROS time. The result starts after `now_ns`; whoever follows
        it goes straight from where it is to the first step.
        """
        if self._held is not None:
            here, self._held = self._within(np.where(self._holds_command, self._held, measured)), None
            standing = replace(chunk, values=np.tile(here, (len(chunk.values), 1)))
            try:
                return self._joined(chunk, standing, measured, now_ns)
            except ChunkRefused:
                ahead = self._ahead(chunk, now_ns)
                self._path = _anchored(ahead, now_ns, here)
                return ahead
        return self._joined(chunk, self._path, measured, now_ns)

    def _joined(self, chunk: ActionChunk, path: ActionChunk | None, measured: Array, now_ns: int) -> ActionChunk:
        # A robot that had run out of path when the picture was taken stood still, as at the very beginning.
        if path is None or remaining(path, chunk.stamp_ns) is None:
            joined = self._begun(chunk, measured, now_ns)
        else:
            joined = self._blend(chunk, path, now_ns)
        here = self._within(measured) if path is None else value_at(path, now_ns)
        self._path = _anchored(joined, now_ns, here)
        return joined

    def _begun(self, chunk: ActionChunk, measured: Array, now_ns: int) -> ActionChunk:
        begun = delayed(chunk, now_ns)
        self._refuse_jump(begun.values[0] - measured, chunk.names, "the measured position")
        share = self._share(begun, now_ns)
        start = self._within(measured)
        return replace(begun, values=_mixed(start, begun.values, share**2 * (3.0 - 2.0 * share)))

    def _within(self, measured: Array) -> Array:
        """Fingers at their stop may measure a hair beyond it: that is where the robot is, and nothing to ask for."""
        within: Array = np.clip(measured, self._lower, self._upper)
        return within

    def _share(self, chunk: ActionChunk, now_ns: int) -> Array:
        """`(steps, 1)`: how much of the blending time is over at each step, 0 to 1."""
        elapsed = chunk.times_s - (now_ns - chunk.stamp_ns) / 1e9
        share: Array = np.clip(elapsed / self._blend_s, 0.0, 1.0)[:, None]
        return share

    def _ahead(self, chunk: ActionChunk, now_ns: int) -> ActionChunk:
        # Not before its own stamp either, which may lie a little in the future: a table's times are not negative.
        ahead = remaining(replace(chunk, times_s=chunk.times_s - self._lead_s), max(now_ns, chunk.stamp_ns))
        if ahead is None:
            late_ms = (now_ns - chunk.stamp_ns) / 1e6
            raise ChunkRefused(f"the chunk is {late_ms:.0f} ms old and all its {len(chunk.times_s)} steps are past")
        return ahead

    def _blend(self, chunk: ActionChunk, path: ActionChunk, now_ns: int) -> ActionChunk:
        ahead = self._ahead(chunk, now_ns)
        old = np.stack([value_at(path, chunk.stamp_ns + round(t * 1e9)) for t in ahead.times_s.tolist()])
        self._refuse_jump(ahead.values[0] - old[0], chunk.names, "the path being executed")
        return replace(ahead, values=_mixed(old, ahead.values, self._share(ahead, now_ns)))

    def _refuse_jump(self, jump: Array, names: tuple[str, ...], start: str) -> None:
        within = np.abs(jump) <= self._max_step
        if not bool(within.all()):
            column = int(np.argmin(within))
            raise ChunkRefused(
                f"{names[column]} would jump by {jump[column]:+.4f} from {start}; "
                f"allowed is {self._max_step[column]:.4f}"
            )
