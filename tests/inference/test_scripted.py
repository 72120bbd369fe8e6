from dataclasses import replace

import numpy as np
import pytest

from policy_bringup.core.errors import ContractError, ObservationError
from policy_bringup.core.interfaces import Policy
from policy_bringup.core.types import Column
from policy_bringup.inference.scripted import HoldPolicy


def test_it_holds_the_newest_measured_columns(contract, observation):
    chunk = HoldPolicy(contract).predict(observation)
    assert np.array_equal(chunk.values, np.tile(observation.state[1], (4, 1)))
    assert np.array_equal(chunk.uncertainty, np.zeros(4))
    np.testing.assert_allclose(chunk.times_s, [0.05, 0.10, 0.15, 0.20])


def test_columns_are_found_by_name_whatever_their_order(contract, observation):
    columns = (Column("gripper.width", "m"), Column("tool.x", "m"))
    other = replace(contract, action=replace(contract.action, columns=columns))
    chunk = HoldPolicy(other).predict(observation)
    assert chunk.names == ("gripper.width", "tool.x")
    assert np.array_equal(chunk.values[3], observation.state[1, [2, 0]])


def test_a_chunk_is_stamped_with_its_observation(contract, observation):
    chunk = HoldPolicy(contract).predict(observation)
    assert (chunk.stamp_ns, chunk.received_ns, chunk.source) == (observation.stamp_ns, 0, "hold")
    assert HoldPolicy(contract, source="policy").predict(observation).source == "policy"


def test_it_is_a_policy_without_memory(contract, observation):
    policy: Policy = HoldPolicy(contract)
    before = policy.predict(observation).values
    policy.predict(replace(observation, state=observation.state + 1.0))
    policy.reset()
    assert policy.contract == contract
    assert np.array_equal(policy.predict(observation).values, before)


@pytest.mark.parametrize("column", [Column("gripper.force", "N"), Column("tool.x", "mm")])
def test_a_column_that_is_not_measured_is_refused(contract, column):
    other = replace(contract, action=replace(contract.action, columns=(column,)))
    with pytest.raises(ContractError, match=f"action column '{column.name}' in {column.unit} is not measured"):
        HoldPolicy(other)


@pytest.mark.parametrize("shape", [(2, 2), (2, 4), (3,)])
def test_a_state_of_another_shape_is_rejected(contract, observation, shape):
    with pytest.raises(ObservationError, match=r"must have shape \(history, 3\)"):
        HoldPolicy(contract).predict(replace(observation, state=np.zeros(shape)))
