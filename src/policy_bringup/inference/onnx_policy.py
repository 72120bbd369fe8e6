"""A learned policy: runs the bundle's ONNX graph. Normalisation and uncertainty are inside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_bringup.core.errors import ContractError, ObservationError
from policy_bringup.core.types import ActionChunk, Contract, Observation
from policy_bringup.inference.bundle import Bundle, load_bundle
from policy_bringup.inference.providers import PROVIDERS, choose_providers, open_session, provider_in_use
from policy_bringup.inference.signature import (
    ACTION_OUTPUT,
    STATE_INPUT,
    UNCERTAINTY_OUTPUT,
    TensorSpec,
    expected_inputs,
    expected_outputs,
    image_input,
)

Feeds = dict[str, npt.NDArray[Any]]


class OnnxPolicy:
    """A core.interfaces.Policy. It passes on what the graph says, NaN included: judging is the safety monitor's work.

    providers: execution providers in order of preference; threads: threads for one operator; source: who the chunks
    are from. The first run, which is slow, is done here. Raises ConfigError, ContractError, DeviceError.
    """

    def __init__(
        self, bundle: Bundle, providers: Sequence[str] = PROVIDERS, threads: int = 1, source: str = "policy"
    ) -> None:
        self._contract = bundle.contract
        self._source = source
        self._where = f"{bundle.folder / bundle.manifest.onnx.file}"
        self._inputs = expected_inputs(bundle.contract)
        self._outputs = expected_outputs(bundle.contract)
        action = bundle.contract.action
        self._times_s = action.dt_s * np.arange(1, action.steps + 1, dtype=np.float64)
        self._session = open_session(bundle.model, choose_providers(providers), threads, self._where)
        self._provider = provider_in_use(self._session.get_providers(), providers)
        self._run({name: np.zeros(spec.shape, spec.dtype) for name, spec in self._inputs.items()})

    @property
    def contract(self) -> Contract:
        """What it reads and writes."""
        return self._contract

    @property
    def provider(self) -> str:
        """The execution provider in use."""
        return self._provider

    def reset(self) -> None:
        """Nothing to forget: the graph sees the past only through the observation's history."""

    def predict(self, observation: Observation) -> ActionChunk:
        """The chunk from `observation` on; its step k is due `(k + 1) dt_s` after the observation's stamp.

        `received_ns` is 0: nobody has received it yet. Raises ObservationError for an observation that is not the
        contract's, ContractError if the graph fails or puts out another shape than it declared.
        """
        outputs = self._run(self._feeds(observation))
        return ActionChunk(
            source=self._source,
            stamp_ns=observation.stamp_ns,
            received_ns=0,
            names=self._contract.action.names,
            times_s=self._times_s.copy(),
            values=outputs[ACTION_OUTPUT][0].astype(np.float64),
            uncertainty=outputs[UNCERTAINTY_OUTPUT][0].astype(np.float64),
        )

    def _feeds(self, observation: Observation) -> Feeds:
        feeds: Feeds = {image_input(camera): pixels[np.newaxis] for camera, pixels in observation.images.items()}
        if STATE_INPUT in self._inputs:
            feeds[STATE_INPUT] = observation.state[np.newaxis].astype(np.float32)
        for name, spec in self._inputs.items():
            if name not in feeds:
                raise ObservationError(f"the policy needs '{name}', the observation has none")
            found = _spec(feeds[name])
            if found != spec:
                raise ObservationError(f"the policy needs '{name}' as {spec}, the observation has {found}")
        return {name: feeds[name] for name in self._inputs}

    def _run(self, feeds: Feeds) -> Feeds:
        names = list(self._outputs)
        try:
            outputs: Feeds = dict(zip(names, self._session.run(names, feeds), strict=True))
        except Exception as error:  # onnxruntime's errors have no base class but Exception
            raise ContractError(f"{self._where}: the graph failed ({' '.join(str(error).split())})") from error
        for name, spec in self._outputs.items():
            found = _spec(outputs[name])
            if found != spec:
                raise ContractError(f"{self._where}: the graph put out '{name}' as {found}; it declared {spec}")
        return outputs


def load_policy(
    folder: Path | str,
    expected: Contract,
    providers: Sequence[str] = PROVIDERS,
    threads: int = 1,
    source: str = "policy",
) -> OnnxPolicy:
    """The policy of the bundle in `folder`, ready to run. Raises what `load_bundle` and OnnxPolicy raise."""
    return OnnxPolicy(load_bundle(folder, expected), providers, threads, source)


def _spec(array: npt.NDArray[Any]) -> TensorSpec:
    return TensorSpec(str(array.dtype), array.shape)
