import numpy as np
import onnxruntime
import pytest

from policy_bringup.core.errors import ConfigError, ContractError, DeviceError
from policy_bringup.inference.onnx_policy import load_policy
from policy_bringup.inference.providers import (
    CPU_PROVIDER,
    PROVIDERS,
    available_providers,
    choose_providers,
    open_session,
    passed_over,
    provider_in_use,
    session_options,
)

TENSORRT, CUDA, CPU = PROVIDERS


def test_available_providers_are_used_in_the_order_of_the_configuration():
    assert choose_providers(PROVIDERS, PROVIDERS) == PROVIDERS
    assert choose_providers((CUDA, TENSORRT, CPU), (CPU, TENSORRT, CUDA)) == (CUDA, TENSORRT, CPU)


def test_unavailable_providers_are_passed_over():
    assert choose_providers(PROVIDERS, ("AzureExecutionProvider", CPU)) == (CPU,)


def test_what_this_machine_has_is_asked_of_onnxruntime():
    present = available_providers()
    assert choose_providers(PROVIDERS) == present
    assert set(present) == set(PROVIDERS) & set(onnxruntime.get_available_providers())
    assert present[-1] == CPU_PROVIDER


def test_an_unknown_provider_is_rejected_with_those_that_are_allowed():
    with pytest.raises(ConfigError, match=f"unknown 'CudaExecutionProvider'; allowed are {', '.join(PROVIDERS)}"):
        choose_providers(("CudaExecutionProvider", CPU))


def test_a_list_of_which_nothing_is_available_is_rejected():
    with pytest.raises(ConfigError, match=rf"none of \[{CUDA}\] is available here; available are {CPU}"):
        choose_providers((CUDA,), (CPU,))


def test_an_empty_list_is_rejected():
    with pytest.raises(ConfigError, match="none of"):
        choose_providers(())


def test_threads_are_as_configured_and_none_spins():
    options = session_options(3)
    assert options.intra_op_num_threads == 3
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"


def test_a_session_runs_on_the_provider_it_reports(state_contract, make_reference):
    session = open_session(make_reference(state_contract).model(), (CPU,), 1, "policy.onnx")
    assert provider_in_use(session.get_providers(), PROVIDERS) == CPU
    (action,) = session.run(["action"], {"state": np.zeros((1, 2, 3), np.float32)})
    assert action.shape == (1, 4, 3)


@pytest.mark.parametrize(("active", "wanted"), [((CPU,), (CUDA,)), ((CUDA, CPU), (TENSORRT, CPU))])
def test_a_silent_fall_back_to_another_provider_is_refused(active, wanted):
    with pytest.raises(DeviceError, match=f"wanted {', '.join(wanted)}, but onnxruntime fell back to {active[0]}"):
        provider_in_use(active, wanted)


def test_the_first_provider_of_a_session_is_the_one_in_use():
    assert provider_in_use((CUDA, CPU), PROVIDERS) == CUDA


ABSENT = "not in the onnxruntime that is installed here"
BROKEN = "installed, but its driver or libraries do not load"


@pytest.mark.parametrize(
    ("installed", "wanted", "in_use", "sentence"),
    [
        ([CPU], PROVIDERS, CPU, f"{TENSORRT}, {CUDA}: {ABSENT}"),
        ([CUDA, CPU], PROVIDERS, CPU, f"{TENSORRT}: {ABSENT}; {CUDA}: {BROKEN}"),
        ([CUDA, CPU], PROVIDERS, CUDA, f"{TENSORRT}: {ABSENT}"),
        ([TENSORRT, CUDA, CPU], PROVIDERS, CUDA, f"{TENSORRT}: {BROKEN}"),
        ([TENSORRT, CUDA, CPU], PROVIDERS, TENSORRT, ""),
        ([CUDA, CPU], (CPU, CUDA), CPU, ""),
    ],
)
def test_what_was_wanted_rather_than_the_provider_in_use_is_named_and_why_it_is_not(
    monkeypatch, installed, wanted, in_use, sentence
):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: installed)
    assert passed_over(wanted, in_use) == sentence


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_policy_whose_accelerator_does_not_load_says_so(monkeypatch, folder, contract):
    """onnxruntime claims to have CUDA, as its build for GPUs does without a driver, and runs on the processor."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    policy = load_policy(folder, contract, (CUDA, CPU))
    assert (policy.provider, policy.passed_over) == (CPU, f"{CUDA}: {BROKEN}")


def test_a_policy_that_runs_where_it_is_wanted_says_nothing(folder, contract):
    policy = load_policy(folder, contract, (CPU,))
    assert (policy.provider, policy.passed_over) == (CPU, "")


def test_bytes_that_are_no_graph_are_refused_in_one_line():
    with pytest.raises(ContractError, match=r"policy\.onnx: is no usable ONNX graph") as caught:
        open_session(b"no graph", (CPU,), 1, "policy.onnx")
    assert "\n" not in str(caught.value)
