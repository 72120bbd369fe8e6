from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
import tyro
from rich.console import Console

from policy_bringup.core.errors import ConfigError, ContractError
from policy_bringup.evaluate_cli import Advise, Evaluate, print_advice
from policy_bringup.pipeline.advise import Situation, advise
from policy_bringup.pipeline.perturbations import PERTURBATIONS


def test_the_expert_is_evaluated_and_reported(out, capsys):
    assert Evaluate("expert", episodes=2, workers=1, backend="raycast", out=out)() == 0
    printed = capsys.readouterr().out
    assert "2 of 2: 100.0 %" in printed
    assert str(out / "report.html") in printed
    data = json.loads((out / "evaluation.json").read_text())
    assert data["facts"]["episodes"] == "2, seeds 1000000 to 1000001"
    assert data["facts"]["pictures"] == "none: the policy looks at none"
    assert (out / "report.md").read_text().startswith("# Evaluation of expert\n")


def test_a_deployment_over_topics_is_part_of_the_report(out, handlers, domain_id):
    command = Evaluate(
        "expert", episodes=1, workers=1, backend="raycast", out=out, ros=True, ros_episodes=1, domain_id=domain_id
    )
    assert command() == 0
    ros = json.loads((out / "evaluation.json").read_text())["over_topics"]
    (episode,) = ros["episodes"]  # on a busy machine it may be stopped: that is for the system tests
    assert (episode["outcome"] == "success") is episode["success"]
    assert ros["facts"]["episode"]
    assert f"| over topics, all nodes running | {int(episode['success'])} of 1" in (out / "report.md").read_text()


def test_names_on_the_command_line_reach_the_plan(config_folder):
    line = "expert --perturb light noise --faults --others 7 --fault-episodes 9 --seed 1000100"
    plan = tyro.cli(Evaluate, args=line.split())._plan(config_folder / "grasp.yaml")
    assert (plan.perturbations, plan.faults) == (("light", "noise"), ("frozen", "black", "swapped"))
    assert (plan.others, plan.fault_episodes, plan.seed) == (7, 9, 1_000_100)
    everything = tyro.cli(Evaluate, args=["expert", "--perturb", "all"])._plan(config_folder / "grasp.yaml")
    assert everything.perturbations == tuple(PERTURBATIONS)
    assert everything.faults == ()


def test_the_command_line_starts_without_simulator_runtime_and_torch():
    heavy = "{'mujoco', 'onnxruntime', 'torch', 'cv2'}"
    code = f"import sys, policy_bringup.evaluate_cli; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_bundle_that_is_not_there_is_refused_before_anything_is_played(out, tmp_path):
    with pytest.raises(ContractError, match="there is no such policy folder"):
        Evaluate(str(tmp_path / "nowhere"), episodes=1, workers=1, backend="raycast", out=out)()
    assert not out.exists()


def test_the_seeds_of_training_are_refused(out):
    with pytest.raises(ConfigError, match="seeds must be from 1000000"):
        Evaluate("expert", episodes=1, seed=0, workers=1, out=out)()


def test_advice_is_printed_with_its_reasons(capsys):
    assert tyro.cli(Advise, args=["--demonstrations", "200"])() == 0
    printed = capsys.readouterr().out
    assert "bc_spatial" in printed
    assert "expected success: 75 to 98 %" in printed
    assert "Levine et al. 2016" in " ".join(printed.split())


def test_advice_says_what_this_package_lacks():
    buffer = io.StringIO()
    print_advice(advise(Situation(200, multimodal=True, gpu=True, hours=24.0), ()), Console(file=buffer, width=200))
    assert "cannot train it" in buffer.getvalue()
    assert "policy evaluate <bundle>" in buffer.getvalue()


def test_advice_needs_to_know_how_much_there_is(tmp_path):
    for line in ([], ["--demonstrations", "5", "--dataset", str(tmp_path)]):
        with pytest.raises(ConfigError, match="give either --demonstrations or --dataset"):
            tyro.cli(Advise, args=line)()
