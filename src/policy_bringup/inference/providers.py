"""Where a graph runs: onnxruntime execution providers in order of preference, and session options for a robot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnxruntime

from policy_bringup.core.errors import ConfigError, ContractError, DeviceError

CPU_PROVIDER = "CPUExecutionProvider"
PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", CPU_PROVIDER)
"""Every provider that may be configured, fastest first: the usual order of preference."""

DOES_NOT_LOAD = "installed, but its driver or libraries do not load"
"""Why a provider is passed over where somebody meant to have it."""

_NO_FOLDER = "/dev/null"
"""Never a folder. The bundle's hash covers one file; weights that a graph fetches from a second one are refused.
onnxruntime older than 1.21 does not know this option, and would fetch them."""


def available_providers() -> tuple[str, ...]:
    """Those of PROVIDERS that onnxruntime has here. Whether the driver beneath works shows when one is used."""
    return tuple(name for name in PROVIDERS if name in onnxruntime.get_available_providers())


def choose_providers(wanted: Sequence[str], available: Sequence[str] | None = None) -> tuple[str, ...]:
    """The providers of `wanted` that this machine's onnxruntime has (`available`), in the order of `wanted`.

    Raises ConfigError for an unknown name, or if none of them is available.
    """
    present = available_providers() if available is None else available
    for name in wanted:
        if name not in PROVIDERS:
            raise ConfigError(f"providers: unknown '{name}'; allowed are {', '.join(PROVIDERS)}")
    chosen = tuple(name for name in wanted if name in present)
    if not chosen:
        raise ConfigError(
            f"providers: none of [{', '.join(wanted)}] is available here; available are {', '.join(present)}"
        )
    return chosen


def session_options(threads: int) -> Any:
    """Options for a graph that shares its machine with control loops: `threads` for an operator, none of them spinning.

    Why no spinning: by default idle threads burn a core each between two inferences.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
    options.log_severity_level = 3
    return options


def open_session(model: bytes, providers: Sequence[str], threads: int, where: str) -> Any:
    """An onnxruntime session for the serialised graph `model`; `where` is the file that errors name.

    Raises ContractError if `model` is no usable graph.
    """
    try:
        return onnxruntime.InferenceSession(model, session_options(threads), providers=list(providers))
    except Exception as error:  # onnxruntime's errors have no base class but Exception
        raise ContractError(f"{where}: is no usable ONNX graph ({' '.join(str(error).split())})") from error


def provider_in_use(active: Sequence[str], wanted: Sequence[str]) -> str:
    """The provider that a session with the providers `active` runs on.

    Raises DeviceError if onnxruntime fell back to one that was not wanted: it does so with no more than a log line when
    a provider's libraries do not load, and a policy that needs a GPU is too slow without.
    """
    if active[0] not in wanted:
        raise DeviceError(
            f"providers: wanted {', '.join(wanted)}, but onnxruntime fell back to {active[0]}; "
            "check the driver and libraries of the accelerator, or allow this provider in the configuration"
        )
    return active[0]


def passed_over(wanted: Sequence[str], in_use: str) -> str:
    """Which of `wanted` come before the provider in use, and why they were passed over; "" if none was."""
    before, present = wanted[: wanted.index(in_use)], available_providers()
    reasons = {
        "not in the onnxruntime that is installed here": [name for name in before if name not in present],
        DOES_NOT_LOAD: [name for name in before if name in present],
    }
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items() if names)
