"""A node that falls over while it starts says so: rclpy itself would end the transition without a word."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("hook", "words"), [("open", "configuring failed"), ("start", "activating failed")])
def test_an_error_that_nobody_foresaw_ends_the_process_with_its_story(config_folder, hook: str, words: str):
    program = (
        "from policy_bringup.nodes import safety_node\n"
        f"safety_node.SafetyNode.{hook} = lambda self: 1 / 0\n"
        "safety_node.main()\n"
    )
    arguments = ["-p", f"deployment:={config_folder / 'grasp.yaml'}", "-p", "source:=expert"]
    done = subprocess.run(
        [sys.executable, "-c", program, "--ros-args", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"[safety] {words}:" in done.stderr
    assert "ZeroDivisionError" in done.stderr
