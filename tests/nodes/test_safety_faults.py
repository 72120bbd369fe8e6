"""What ends in FAULT though nothing that arrived was wrong: the real safety, arm and sim nodes on real DDS."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import SetBool

from policy_bringup.core import graph
from policy_bringup.core.types import ActionChunk
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.arm_node import ArmNode
from policy_bringup.nodes.safety_node import SafetyNode
from policy_bringup.nodes.sim_node import SimNode
from policy_bringup.safety import checks
from policy_bringup.safety.reasons import State

ROOT = Path(__file__).resolve().parents[2]


class Site:
    """A copied configuration and bundle, the three nodes on it, and the test in the policy's place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.executor = SingleThreadedExecutor()
        self.policy = Node("policy")
        entry = graph.topic("policy/action")
        profile = endpoints.profile(entry.qos)
        self._say = self.policy.create_publisher(endpoints.interface(entry.type), entry.name, profile)
        self._arm = self.policy.create_client(SetBool, "safety/arm")
        self.sim, self.arm, self.safety = SimNode(), ArmNode(), SafetyNode()
        self.nodes = [self.sim, self.arm, self.safety]
        self.executor.add_node(self.policy)
        for node in self.nodes:
            node.trigger_configure()
            assert node.refusal is None
            assert node.fault is None
            node.trigger_activate()
            self.executor.add_node(node)
        self.wait(lambda: self.arm._sample is not None and self.arm._began, "an arm that knows where it is")
        self._row = self.arm._proprioception.measured(self.arm._sample, self.arm._action)
        lower, upper = (np.array([getattr(c, side) for c in self.arm.deployment.limits]) for side in ("lower", "upper"))
        self._row = np.clip(self._row, lower, upper)
        self._row[-1] = 20.0
        self._moving_s: float | None = None

    @property
    def state(self) -> str:
        return self.safety._verdict.state.name if self.safety._verdict is not None else ""

    @property
    def sentence(self) -> str:
        verdict = self.safety._verdict
        refused = verdict.reason.sentence if verdict is not None and verdict.reason is not None else ""
        return self.safety.health()[1] + (f"; refused: {refused}" if refused else "")

    def propose(self) -> None:
        """A chunk that, once armed, sways the tool: the arm is in motion when the fault comes."""
        now_s = time.monotonic()
        if self._moving_s is None and self.state == "ACTIVE":
            self._moving_s = now_s
        spec = self.arm._action
        times_s = spec.dt_s * np.arange(1.0, spec.steps + 1.0)
        values = np.tile(self._row, (spec.steps, 1))
        if self._moving_s is not None:
            values[:, 1] += 0.03 * np.sin(1.5 * (now_s - self._moving_s + times_s))
        chunk = ActionChunk("policy", time.time_ns(), 0, spec.names, times_s, values, np.zeros(spec.steps))
        self._say.publish(messages.table_message(chunk, "panda_link0"))

    def follow(self) -> None:
        """Up to an arm that follows the policy through an armed safety."""
        self.wait(lambda: self.safety._monitor.offered == "policy", "a policy to arm", self.propose)
        self.wait(self._arm.service_is_ready, "the service that arms", self.propose)
        self._arm.call_async(SetBool.Request(data=True))
        self.wait(lambda: self.state == "ACTIVE", "ACTIVE", self.propose)
        followed = self.arm._arm.counts.followed
        self.wait(lambda: self.arm._arm.counts.followed > followed + 20, "the arm following", self.propose)

    def assert_holds(self) -> None:
        """Nothing moves the arm any more, though the policy goes on and somebody arms."""
        self.wait(lambda: self.arm._arm.holding, "the arm holding", self.propose)
        held = self.arm._arm.joints.copy()
        answer = self._arm.call_async(SetBool.Request(data=True))
        self.wait(answer.done, "an answer to arming", self.propose)
        assert not answer.result().success
        count = self.arm._arm.counts.held
        self.wait(lambda: self.arm._arm.counts.held > count + 50, "the arm holding on", self.propose)
        assert self.state == "FAULT"
        assert self.safety._verdict.output is None
        assert np.abs(self.arm._arm.joints - held).max() < 0.02  # the rest of braking

    def wait(self, condition: Callable[[], object], what: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        deadline = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for: {what}; safety: {self.state} {self.sentence}"
            meanwhile()
            self.executor.spin_once(timeout_sec=0.02)

    def close(self) -> None:
        for node in self.nodes:
            node.wind_down()
        self.executor.shutdown()
        for node in (*self.nodes, self.policy):
            node.destroy_node()


@pytest.fixture
def site(ros_environment, tmp_path: Path, request) -> Iterator[Site]:
    folder = tmp_path / "site"
    shutil.copytree(ROOT / "config", folder / "config")
    shutil.copytree(ROOT / "models" / "robot", folder / "models" / "robot")
    bundle = folder / "bundle"
    bundle.mkdir()
    shutil.copy(ROOT / "models" / "policies" / "grasp" / "policy.yaml", bundle)
    source = getattr(request, "param", "expert")
    given = {"deployment": folder / "config" / "grasp.yaml", "source": source, "bundle": bundle}
    rclpy.init(args=["--ros-args", *(text for key, value in given.items() for text in ("-p", f"{key}:={value}"))])
    site = Site(folder)
    yield site
    site.close()
    rclpy.try_shutdown()


def append(path: Path) -> None:
    path.write_text(path.read_text() + "# a remark\n")


@pytest.mark.parametrize(
    ("site", "name"),
    [
        ("expert", "config/safety.yaml"),
        ("expert", "config/grasp.yaml"),
        ("expert", "config/robot.yaml"),
        ("bundle", "bundle/policy.yaml"),
    ],
    indirect=["site"],
)
def test_a_configuration_file_edited_while_it_runs_is_a_fault_that_names_it_and_the_arm_holds(site: Site, name: str):
    site.follow()
    append(site.folder / name)
    site.wait(lambda: site.state == "FAULT", "FAULT", site.propose)
    assert site.sentence.startswith(f"configuration changed while safety runs: {site.folder / name};")
    site.assert_holds()


def test_a_configuration_file_that_is_taken_away_is_a_fault_too(site: Site):
    site.follow()
    (site.folder / "config" / "safety.yaml").unlink()
    site.wait(lambda: site.state == "FAULT", "FAULT", site.propose)
    assert "safety.yaml" in site.sentence
    site.assert_holds()


def test_files_that_safety_was_not_started_with_may_change(site: Site):
    """The watch is asked directly: for how long should one wait for nothing?"""
    append(site.folder / "bundle" / "policy.yaml")  # the source is the expert
    append(site.folder / "config" / "console.yaml")
    site.safety._watch.stop()
    said: list[str] = []
    site.safety._watch._changed = said.append
    site.safety._watch._look()
    assert said == []
    append(site.folder / "config" / "safety.yaml")
    site.safety._watch._look()
    assert len(said) == 1


def test_a_node_that_is_paused_meanwhile_finds_the_change_when_it_goes_on(site: Site):
    site.safety.trigger_deactivate()
    append(site.folder / "config" / "safety.yaml")
    site.safety.trigger_activate()
    site.wait(lambda: site.state == "FAULT", "FAULT")
    assert "safety.yaml" in site.sentence


def test_a_safety_that_cannot_publish_ends_with_the_reason_and_the_arm_holds(site: Site, monkeypatch):
    site.follow()

    def cut(*_: object) -> None:
        raise RuntimeError("the wire is cut")

    monkeypatch.setattr(site.safety._messages, "action", cut)
    site.wait(lambda: site.safety.fault, "the end of the safety node", site.propose)
    assert site.safety.fault == "safety cannot publish: RuntimeError('the wire is cut')"
    assert site.safety.ended.is_set()
    assert site.safety._monitor.state is State.FAULT
    site.wait(lambda: site.arm._arm.holding, "the arm holding", site.propose)
    held, count = site.arm._arm.joints.copy(), site.arm._arm.counts.held
    site.wait(lambda: site.arm._arm.counts.held > count + 50, "the arm holding on", site.propose)
    assert np.abs(site.arm._arm.joints - held).max() < 0.02  # the rest of braking


def test_a_failed_self_test_is_a_fault_from_the_first_tick_and_nothing_moves(ros_environment, monkeypatch, request):
    """A check that is blind while the node is configured, and sees again afterwards: the fault must come from the
    self-test, and from nowhere else."""
    honest, blind = checks._within, [True]

    def within(rule, columns, values, lower, upper):
        return (len(values), None) if blind else honest(rule, columns, values, lower, upper)

    monkeypatch.setattr(checks, "_within", within)
    configure = SafetyNode.open

    def open_and_see(node: SafetyNode) -> None:
        configure(node)
        blind.clear()

    monkeypatch.setattr(SafetyNode, "open", open_and_see)
    site = request.getfixturevalue("site")
    site.wait(lambda: site.state == "FAULT", "FAULT")
    assert site.sentence.startswith("failed self-test: tool.x just above its bounds was not refused by rule BOUNDS")
    site.assert_holds()
