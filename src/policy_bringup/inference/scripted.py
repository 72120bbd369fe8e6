"""Policies that are not learned. The smallest one doubles as the template for adding a policy."""

from __future__ import annotations

import numpy as np

from policy_bringup.core.errors import ContractError, ObservationError
from policy_bringup.core.types import ActionChunk, Contract, Observation


class HoldPolicy:
    """Stay where you are: every step of the chunk is the newest measured state. A core.interfaces.Policy.

    Raises ContractError if an action column is not also a state column, in the same unit: it cannot be measured then.
    """

    def __init__(self, contract: Contract, source: str = "hold") -> None:
        state = contract.observation.state
        for column in contract.action.columns:
            if column not in state:
                raise ContractError(
                    f"hold: action column '{column.name}' in {column.unit} is not measured; "
                    f"the state has {', '.join(f'{c.name} in {c.unit}' for c in state)}"
                )
        self._contract = contract
        self._source = source
        self._columns = [state.index(column) for column in contract.action.columns]

    @property
    def contract(self) -> Contract:
        """What it reads and writes."""
        return self._contract

    def reset(self) -> None:
        """Nothing to forget."""

    def predict(self, observation: Observation) -> ActionChunk:
        """The measured columns in every step, uncertainty 0. Raises ObservationError for another shape of state."""
        if observation.state.ndim != 2 or observation.state.shape[1] != len(self._contract.observation.state):
            raise ObservationError(
                f"hold: the state must have shape (history, {len(self._contract.observation.state)}), "
                f"found {observation.state.shape}"
            )
        action = self._contract.action
        return ActionChunk(
            source=self._source,
            stamp_ns=observation.stamp_ns,
            received_ns=0,
            names=action.names,
            times_s=action.dt_s * np.arange(1, action.steps + 1, dtype=np.float64),
            values=np.tile(observation.state[-1, self._columns], (action.steps, 1)),
            uncertainty=np.zeros(action.steps),
        )
