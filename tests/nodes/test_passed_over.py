"""A policy that runs on the processor, although an accelerator was wanted, says so."""

import subprocess
import sys

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
PROGRAM = f"""
import onnxruntime

onnxruntime.get_available_providers = lambda: ["{CUDA}", "{CPU}"]
from policy_bringup.nodes import policy_node


def say_and_end(self):
    print(self.health()[2])
    self.finish()


policy_node.PolicyNode.start = say_and_end
policy_node.PolicyNode.stop = lambda self: None
policy_node.main()
"""


def test_what_was_passed_over_is_a_warning_in_the_log_and_named_in_the_diagnostics(config_folder):
    """As where onnxruntime's build for GPUs finds no driver: it claims to have CUDA and falls back."""
    bundle = config_folder.parent / "models" / "policies" / "grasp"
    arguments = ["-p", f"deployment:={config_folder / 'grasp.yaml'}", "-p", "source:=bundle", "-p", f"bundle:={bundle}"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--ros-args", *arguments, "-p", "mode:=sim"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    absent, broken = (
        "TensorrtExecutionProvider: not in the onnxruntime that is installed here",
        f"{CUDA}: installed, but",
    )
    (warning,) = [line for line in done.stderr.splitlines() if "passed over" in line]
    assert "[WARN]" in warning
    assert f"policy bundle {bundle} runs on {CPU}; passed over: {absent}; {broken}" in warning
    assert f"'provider': '{CPU}', 'providers_passed_over': '{absent}; {broken}" in done.stdout
