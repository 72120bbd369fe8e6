"""One running deployment under test: the stack, its operator, the recording, and who stands in for whom."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from harness.recording import (
    ACTION,
    COMMAND,
    ESTOP,
    JOINTS,
    RECORDER,
    SAFE,
    STATE,
    TRUE_JOINTS,
    Recording,
    wait,
    waited,
)
from harness.safe import STILL, Judge
from harness.stack import ROOT, Relay, Stack
from harness.standin import StandIn
from policy_bringup.core import graph
from policy_bringup.core.decoding import values_of
from policy_bringup.core.startup import Options, environment
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.runtime import URGENT

CONFIG = ROOT / "config"
MOVING = 0.1
"""Rad/s of a commanded joint."""
START_S = 60.0
HOME_RAD, HOMING_S = 0.05, 12.0


@dataclass
class Operator:
    """A person at the robot: buttons, and the box with the e-stop."""

    node: Node
    executor: SingleThreadedExecutor
    clients: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.box = self.node.create_publisher(Bool, ESTOP, endpoints.profile(graph.topic(ESTOP).qos))

    def call(self, name: str, request, timeout_s: float = 10.0):
        """Of any service of the graph; with its answer. Asks once more half-way: DDS may lose the answer to a client
        that its server has not discovered yet."""
        asked = [self.ask(name, request, timeout_s)]
        answered = lambda: self.executor.spin_once(timeout_sec=0.02) or any(one.done() for one in asked)  # noqa: E731
        if not waited(answered, timeout_s / 2):
            asked.append(self.ask(name, request, timeout_s))
            wait(answered, timeout_s / 2, f"answer of {name}")
        return next(one.result() for one in asked if one.done())

    def ask(self, name: str, request, timeout_s: float = 10.0):
        """As `call`, without waiting for the answer."""
        if name not in self.clients:
            kind = endpoints.interface(graph.service(name).type)
            self.clients[name] = self.node.create_client(kind, name)
        wait(self.clients[name].service_is_ready, timeout_s, f"service {name}")
        return self.clients[name].call_async(request)

    def arm(self, on: bool = True):
        return self.call("safety/arm", SetBool.Request(data=on))

    def reset(self):
        return self.call("safety/reset", Trigger.Request())

    def press(self, pressed: bool) -> None:
        self.box.publish(Bool(data=pressed))


@dataclass
class Bench:
    """policy: the stand-in, where there is one; relay: the liar, where there is one.

    home: joints (rad) to which the arm is brought before each fault, for a policy that has learned to begin there.
    """

    stack: Stack
    recording: Recording
    operator: Operator
    judge: Judge
    context: Context
    domain_id: int
    folder: Path
    policy: StandIn | None = None
    relay: Relay | None = None
    home: np.ndarray | None = None

    @property
    def state(self) -> str:
        return self.recording.safety.get("state", "")

    def set_in_motion(self, rng: np.random.Generator) -> None:
        """Armed by the operator, some time on its way, and fast just now."""
        for _ in range(5):  # a machine that stalls may stop it on the way
            self.recover()
            offered = lambda: self.recording.safety.get("offered") == "policy"  # noqa: E731
            wait(offered, START_S, "an acceptable policy")
            wait(lambda: self._alive(ACTION), START_S, "its tables, which the recording may hear later than safety")
            if self._is_set_in_motion(int(rng.uniform(0.0, 0.5e9))):
                return
        raise AssertionError(f"the arm was stopped again and again before anything was done: {self.recording.safety}")

    def record_in_motion(self, rng: np.random.Generator) -> None:
        """As above, recorded from before the arming on. Asks until it is: DDS may lose an answer of a recorder that has
        just begun to live."""
        since_ns = self.recording.mark("a recording is asked for")()
        for _ in range(10):
            self.operator.ask("recorder/start", Trigger.Request())
            if waited(lambda: self.recorder_state(since_ns) == "recording", 6.0):
                self.set_in_motion(rng)
                return
        raise AssertionError("no recording began")

    def recorder_state(self, since_ns: int) -> str:
        """As it has said since then; "" if it has not."""
        newest = self.recording.newest(RECORDER)
        if newest is None or newest.source_ns < since_ns:
            return ""
        return values_of(newest.message.status[0]).get("state", "")

    def _is_set_in_motion(self, after_ns: int) -> bool:
        since_ns = self.recording.newest(STATE).source_ns
        if not self.operator.arm().success:
            return False
        wait(lambda: self.recording.change(since_ns, "ACTIVE"), 5.0, "ACTIVE")
        began_ns = self.recording.newest(SAFE).source_ns
        late = lambda: self.recording.newest(SAFE).source_ns > began_ns + after_ns  # noqa: E731
        # It may stand although it is armed: for some seconds after a kill the arm node trusts nobody.
        waited(lambda: (late() and self.speed() > MOVING) or self.state != "ACTIVE", 6.0)
        return self.state == "ACTIVE" and self.speed() > MOVING

    def speed(self) -> float:
        """Of the fastest commanded joint, rad/s."""
        newest = self.recording.newest(COMMAND)
        return max(abs(v) for v in newest.message.points[0].velocities[:7]) if newest else 0.0

    def recover(self) -> None:
        """Everything true and good again, and READY, as an operator would bring it there."""
        if self.relay:
            self.relay.tell_the_truth()
        if self.policy:
            self.policy.behave()
        self.operator.press(False)
        wait(lambda: self.state not in ("", "INIT"), START_S, "a monitor")
        wait(lambda: all(map(self.recording.newest, (JOINTS, SAFE, COMMAND))), START_S, "a robot and an arm node")
        self.let(0.3)
        for _ in range(100):
            if self.state == "ESTOP":
                self.operator.reset()
            elif self.state != "READY":
                self.operator.arm(False)
            self.let(0.1)
            if self.state == "READY" and self.speed() < STILL:
                if self.home is not None and not self._is_home():
                    self._go_home()
                    continue
                if self.policy is None:  # it goes for an object, which is then elsewhere
                    self.operator.call("sim/reset", Trigger.Request())
                return
        raise AssertionError(f"the stack did not become READY again: {self.recording.safety}")

    def _is_home(self) -> bool:
        joints = np.array(self.recording.newest(JOINTS).message.position[:7])
        return bool(np.abs(joints - self.home).max() < HOME_RAD)

    def _go_home(self) -> None:
        """One try."""
        self.operator.call("arm/home", Trigger.Request())
        if waited(lambda: self.recording.safety.get("offered") == "home", 5.0) and self.operator.arm().success:
            waited(lambda: self._is_home() or self.state == "FALLBACK", HOMING_S)
        self.operator.arm(False)

    def let(self, seconds: float) -> None:
        """Time passes, by the stamps of what the arm node sends; or by the monitor's where that sends nothing."""
        topic = next((t for t in (COMMAND, SAFE, STATE, TRUE_JOINTS, JOINTS, ACTION) if self._alive(t)), JOINTS)
        began_ns = self.recording.newest(topic).source_ns
        wait(
            lambda: self.recording.newest(topic).source_ns > began_ns + seconds * 1e9,
            seconds + 20.0,
            f"{seconds} s of {topic}",
        )

    def _alive(self, topic: str) -> bool:
        last = self.recording.newest(topic)
        newest = max(
            s.source_ns for t in (COMMAND, SAFE, STATE, TRUE_JOINTS, JOINTS) if (s := self.recording.newest(t))
        )
        return last is not None and newest - last.source_ns < 200_000_000


@contextmanager
def bench(
    domain_id: int,
    folder: Path,
    rng: np.random.Generator,
    without: tuple[str, ...] = ("trial",),
    relayed: bool = False,
    sabotaged: tuple[str, ...] = (),
    remap: Mapping[str, Mapping[str, str]] | None = None,
    **choices: object,
) -> Iterator[Bench]:
    """A deployment with the expert, or, `without` a policy, with a stand-in for it."""
    options = {"mode": "sim", "deployment": CONFIG / "grasp.yaml", "source": "expert", "episodes": 0, **choices}
    options = Options(domain_id=domain_id, seed=int(rng.integers(0, 2**31)), **options)
    variables = environment(options.deployment.parent, domain_id, pictures=False)
    remap = {**(remap or {}), **({"sim": {JOINTS: TRUE_JOINTS}} if relayed else {})}
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in variables.items():
            patch.setenv(name, value)
        context = stack.enter_context(participant(domain_id))
        with urgent():
            node = Node("operator", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        stack.callback(node.destroy_node)
        stack.callback(executor.shutdown)
        recording = Recording(node, ("front", "wrist"))
        stack.callback(recording.close)
        relay = stack.enter_context(_closing(Relay(folder, variables))) if relayed else None
        running = stack.enter_context(Stack(options, folder, without, remap, sabotaged))
        stack.callback(lambda: print(running.output.getvalue()[-20_000:]))
        operator, judge = Operator(node, executor), Judge(options.deployment)
        made = Bench(running, recording, operator, judge, context, domain_id, folder, relay=relay)
        stack.callback(lambda: made.policy and made.policy.close())
        if "policy" in without:
            made.policy = StandIn(context, recording, options.deployment, rng)
        yield made


@contextmanager
def urgent() -> Iterator[None]:
    """Threads begun in here, as those of DDS, go before others where this user may say so: a message that waits too
    long in a socket is one that the recording misses."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, URGENT)  # of this thread, which is what they inherit
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


@contextmanager
def participant(domain_id: int) -> Iterator[Context]:
    """A DDS participant of its own: a process like any other, as far as the stack can tell."""
    context = Context()
    with urgent():
        rclpy.init(context=context, domain_id=domain_id)
    try:
        yield context
    finally:
        rclpy.try_shutdown(context=context)


@contextmanager
def _closing(thing):
    try:
        yield thing
    finally:
        thing.close()
