"""A learned policy: runs the bundle's ONNX graph. Normalisation and uncertainty are inside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_bringup.core.errors import ObservationError
from policy_bringup.core.tensor_names import ACTION_OUTPUT, STATE_INPUT, UNCERTAINTY_OUTPUT, image_input
from policy_bringup.core.types import ActionChunk, Contract, Observation
from policy_bringup.inference.bundle import Bundle, load_bundle
from policy_bringup.inference.graph import Graph, spec_of
from policy_bringup.inference.parity import PARITY_FILE, check_difference, largest_difference, tolerance
from policy_bringup.inference.providers import PROVIDERS
from policy_bringup.inference.watched import WatchedPolicy

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
        action, path = bundle.contract.action, bundle.folder / bundle.manifest.onnx.file
        self._times_s = action.dt_s * np.arange(1, action.steps + 1, dtype=np.float64)
        self._graph = Graph(bundle.model, bundle.contract, providers, threads, str(path))
        _check_parity(bundle, self._graph)

    @property
    def contract(self) -> Contract:
        """What it reads and writes."""
        return self._contract

    @property
    def provider(self) -> str:
        """The execution provider in use."""
        return self._graph.provider

    @property
    def passed_over(self) -> str:
        """The execution providers that were wanted rather than the one in use, and why they are not; "" for none."""
        return self._graph.passed_over

    def reset(self) -> None:
        """Nothing to forget: the graph sees the past only through the observation's history."""

    def predict(self, observation: Observation) -> ActionChunk:
        """The chunk from `observation` on; its step k is due `(k + 1) dt_s` after the observation's stamp.

        `received_ns` is 0: nobody has received it yet. Raises ObservationError for an observation that is not the
        contract's, ContractError if the graph fails or puts out another shape than it declared.
        """
        outputs = self._graph.run(self._feeds(observation))
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
        inputs = self._graph.inputs
        feeds: Feeds = {image_input(camera): pixels[np.newaxis] for camera, pixels in observation.images.items()}
        if STATE_INPUT in inputs:
            feeds[STATE_INPUT] = observation.state[np.newaxis].astype(np.float32)
        for name, spec in inputs.items():
            if name not in feeds:
                raise ObservationError(f"the policy needs '{name}', the observation has none")
            found = spec_of(feeds[name])
            if found != spec:
                raise ObservationError(f"the policy needs '{name}' as {spec}, the observation has {found}")
        return {name: feeds[name] for name in inputs}


def load_policy(
    folder: Path | str,
    expected: Contract,
    providers: Sequence[str] = PROVIDERS,
    threads: int = 1,
    source: str = "policy",
) -> WatchedPolicy:
    """The policy of the bundle in `folder`, ready to run, and watched: it refuses pictures that it must not act on.

    Raises what `load_bundle` and OnnxPolicy raise.
    """
    return watched_policy(load_bundle(folder, expected), providers, threads, source)


def watched_policy(
    bundle: Bundle, providers: Sequence[str] = PROVIDERS, threads: int = 1, source: str = "policy"
) -> WatchedPolicy:
    """As `load_policy`, of a bundle that has been read. Raises what OnnxPolicy raises."""
    policy = OnnxPolicy(bundle, providers, threads, source)
    return WatchedPolicy(policy, bundle.manifest.fingerprint, policy.provider, policy.passed_over)


def _check_parity(bundle: Bundle, graph: Graph) -> None:
    if bundle.samples is not None:
        difference = largest_difference(graph.run, bundle.samples, bundle.contract)
        onnx = bundle.manifest.onnx
        allowed = tolerance(onnx.parity_max_abs_error, onnx.parity_limit)
        check_difference(difference, allowed, f"{bundle.folder / PARITY_FILE}: run by {graph.provider}")
