"""A policy that makes a recorded motion again: the same actions, at the same times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from policy_bringup.control.way import Way
from policy_bringup.core.errors import ObservationError
from policy_bringup.core.robot import ColumnLimits
from policy_bringup.core.types import ActionChunk, Array, Contract, Observation


class Replay:
    """A core.interfaces.Policy that plays a table of actions: times_s `(m,)`, values `(m, columns)`; sure of itself.

    contract: the deployment's; it looks at no picture, the first camera only sets its pace. limits: of the action
    columns, in their order; an arm that is further from the beginning than their max_step gets no action.
    """

    def __init__(self, contract: Contract, limits: Sequence[ColumnLimits], times_s: Array, values: Array) -> None:
        spec, action = contract.observation, contract.action
        self._contract = replace(
            contract, observation=replace(spec, images=spec.images[:1], state=action.columns, history=1)
        )
        # What holds its command, as a gripper, measures something else while it presses: that may be anywhere.
        self._max_step = np.array([np.inf if limit.holds_command else limit.max_step for limit in limits])
        self._times_s, self._values = times_s, values
        self.waits = False
        self.reset()

    @property
    def contract(self) -> Contract:
        """It reads the measured action columns."""
        return self._contract

    @property
    def over(self) -> bool:
        """Whether all of it was played; what follows is its last action."""
        return self._way.over

    def reset(self) -> None:
        """The next prediction is the table's beginning."""
        self._way = Way("replay", self._contract.action, self._times_s, self._values)
        self._begun = False

    def predict(self, observation: Observation) -> ActionChunk:
        """What is due after the observation; while it `waits`, no time passes for the motion.

        Raises ObservationError, at the beginning only, for an arm that stands elsewhere: column, distance, what helps.
        """
        chunk = self._way.chunk(observation.stamp_ns, not self.waits)
        if not self._begun:
            complaint = self._elsewhere(chunk.values[0], observation.state[-1])
            if complaint:
                self.reset()
                raise ObservationError(complaint)
            self._begun = True
        return chunk

    def _elsewhere(self, first: Array, measured: Array) -> str:
        """What is furthest from where the motion begins, in terms of what is allowed to it; "": nothing."""
        off = measured - first
        within = np.abs(off) <= self._max_step  # not a number is not within
        if bool(within.all()):
            return ""
        worst = int(np.where(np.isfinite(off), np.abs(off) / self._max_step, np.inf).argmax())
        column = self._contract.action.columns[worst]
        return (
            f"the motion begins elsewhere: '{column.name}' is at {measured[worst]:.3f} {column.unit}, "
            f"{off[worst]:+.3f} from where it began ({first[worst]:.3f}); allowed is {self._max_step[worst]:.3g} "
            f"{column.unit}: bring the arm there, driven, led by hand, or home if it began there"
        )
