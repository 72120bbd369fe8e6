"""What benchmarks/safety.py does to a running deployment, and the time that each takes to become safe."""

from __future__ import annotations

import io
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
from joint_relay import FALSE, TRUE
from onlooker import (
    ACTION,
    BOX,
    COMMAND,
    JOINTS,
    POLICY,
    ROOT,
    STATE,
    VERDICT,
    Change,
    Heard,
    Onlooker,
    dead,
    looking_on,
)
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from policy_bringup.control.kinematics import Chain
from policy_bringup.core import graph
from policy_bringup.core.decoding import stamp_of
from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.startup import Options, environment, processes
from policy_bringup.core.types import Array
from policy_bringup.episodes.stop_record import STOPS
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.messages import time_of
from policy_bringup.runner import Runner

DEPLOYMENT = ROOT / "config" / "grasp.yaml"
TOPICS = (JOINTS, POLICY, ACTION, VERDICT, STATE, COMMAND, BOX)
PERIOD_NS = round(1e9 / graph.topic(ACTION).rate_hz)
MOVING = 0.1
"""Rad/s of a commanded joint: in motion."""
STILL = 0.01
"""Rad/s of the fastest measured joint: standing."""
HELD = 1e-3
"""Rad by which the end of a command may wander while the arm holds."""
SILENCE_NS = 50_000_000
"""The arm answers a safe action within milliseconds: what it sends so much later is its own."""
START_S = 90.0
ENDS = (*STOPS, "READY")
"""States in which nobody drives."""
STANDS = 1e-3
"""Rad/s of the fastest commanded joint: asked to stand."""
SETTLED_S, BRIEF_S = 0.6, 1e-4
VIOLATION = "violation"
BUSY = "while True: pass"


EPISODE_ENDED = "the episode ended by itself just then"


class Missed(Exception):
    """Something else came first, which the message names: this time counts for nothing."""


class Bench:
    """One running deployment, looked on, and what is done to it."""

    def __init__(self, runner: Runner, onlooker: Onlooker, rng: random.Random) -> None:
        self.runner, self.onlooker, self._rng = runner, onlooker, rng
        _, robot = load_deployment(DEPLOYMENT)
        urdf = DEPLOYMENT.parent / robot.urdf
        self._chain = Chain.from_urdf(urdf, robot.base_frame, robot.tool_frame, robot.joint_names)
        self._box = onlooker.publisher(BOX)
        self._joints = onlooker.node.create_publisher(JointState, FALSE, endpoints.profile(graph.topic(JOINTS).qos))

    def in_motion(self) -> None:
        """The policy drives, for some time already, and the arm moves. Raises TimeoutError, RuntimeError."""
        driven = lambda: self._alive() and self._driven()  # noqa: E731
        for _ in range(100):
            self.onlooker.wait(driven, START_S, "a policy in charge")
            self.onlooker.last(self._rng.uniform(0.2, 1.2))
            if self._driven() and self._speed() > MOVING:
                return
        raise TimeoutError("the arm never moved while the policy was in charge")

    def estop_ms(self) -> tuple[float, float]:
        """Pressed on the box, until the arm's hold, and until the last command that asks for motion; then released and
        reset.

        The hold: the first command after the monitor's answer from which on the tool gets slower and slower in the
        direction in which it was going, until it goes there no more. Joints need up to 0.1 s for that, and stand past
        the place at which safety stopped its own output.
        """
        since_ns = time.time_ns()
        self._box.publish(Bool(data=True))
        try:
            answer_ns = self._output(self._stop("ESTOP", since_ns))
            self.onlooker.last(SETTLED_S)
            commands = [heard for heard in self.onlooker.heard[COMMAND] if heard.published_ns >= since_ns - 10**9]
        finally:
            self._box.publish(Bool(data=False))
            lifted = lambda: self.onlooker.call("safety/reset", Trigger.Request()).success  # noqa: E731
            self.onlooker.wait(lifted, 20.0, "the reset")
        pressed_ns = next(h.published_ns for h in self.onlooker.heard[BOX] if h.published_ns >= since_ns)
        before = [heard for heard in commands if heard.published_ns <= answer_ns][-1]
        after = [heard for heard in commands if heard.published_ns > answer_ns]
        moving = [h.published_ns for h in after if max(map(abs, h.message.points[0].velocities[:7])) > STANDS]
        hold_ns = self._braking_from(before, after)
        return (hold_ns - pressed_ns) / 1e6, (max(moving, default=pressed_ns) - pressed_ns) / 1e6

    def violation_ms(self) -> float:
        """A joint is measured beyond its limit: from the first such joint state to the monitor's default.

        The simulator stands still meanwhile: none of its own joint states comes between.
        """
        simulator, message, since_ns = self.runner.children["sim"].pid, self._beyond(), time.time_ns()
        os.kill(simulator, signal.SIGSTOP)
        try:
            while not self._stops(since_ns) and time.time_ns() - since_ns < 1e9:
                message.header.stamp = time_of(time.time_ns())
                self._joints.publish(message)
                self.onlooker.last(PERIOD_NS / 1e9)
        finally:
            os.kill(simulator, signal.SIGCONT)
        stop = self._stop("FALLBACK", since_ns)
        if stop.values["rule"] != "BREACH":
            raise Missed(f"stopped for {stop.values['rule']} before BREACH")
        safe_ns = self._output(stop)
        self.onlooker.last(0.1)
        false = [h for h in self.onlooker.heard[JOINTS] if h.message.header.frame_id == VIOLATION]
        return (safe_ns - next(h.published_ns for h in false if h.published_ns >= since_ns)) / 1e6

    def policy_killed_ms(self) -> float:
        """Until the monitor's default."""
        killed_ns = time.time_ns()
        self.runner.children["policy"].kill()
        return (self._output(self._stop("FALLBACK", killed_ns)) - killed_ns) / 1e6

    def monitor_killed_ms(self) -> tuple[float, float]:
        """Until the arm's hold, and until the robot stands.

        The hold: the first command from which on all lead to the same end, and that no safe action asked for.
        """
        killed_ns = time.time_ns()
        self.runner.children["safety"].kill()
        self.onlooker.last(1.0)
        last_ns = max(heard.published_ns for heard in self.onlooker.heard[ACTION])
        own = [heard for heard in self.onlooker.heard[COMMAND] if heard.published_ns > last_ns + SILENCE_NS]
        if not own:
            return math.inf, math.inf
        ends = np.array([heard.message.points[-1].positions for heard in own])
        astray = np.flatnonzero(np.abs(ends - ends[-1:]).max(axis=1) > HELD)
        holds = own[astray[-1] + 1 if len(astray) else 0 :]
        after = [heard for heard in self.onlooker.heard[JOINTS] if heard.published_ns >= killed_ns]
        moving = [h.published_ns for h in after if max(abs(v) for v in h.message.velocity[:7]) > STILL]
        return (holds[0].published_ns - killed_ns) / 1e6, (max(moving, default=killed_ns) - killed_ns) / 1e6

    def node_ms(self, seconds: float) -> list[tuple[float, float]]:
        """Of every proposal of the next seconds that was accepted: what the node adds, and the whole way.

        Ticks are half a period apart or more: what a proposal waits for that is the schedule's, not the node's.
        """
        since_ns = time.time_ns()
        self.onlooker.last(seconds)
        found, actions = [], list(self.onlooker.heard[ACTION])
        proposals = {stamp_of(h.message.header.stamp): h.published_ns for h in self.onlooker.heard[POLICY]}
        for before, heard in pairwise(actions):
            proposed_ns = proposals.pop(stamp_of(heard.message.header.stamp), None)
            if proposed_ns is not None and proposed_ns >= since_ns:
                due_ns = max(proposed_ns, before.published_ns + PERIOD_NS // 2)
                found.append(((heard.published_ns - due_ns) / 1e6, (heard.published_ns - proposed_ns) / 1e6))
        return found

    def ready(self) -> None:
        """Whoever passes them on hears the false joint states, and everybody the true ones."""
        passes = lambda: self._joints.get_subscription_count() == 1 and self.onlooker.heard[JOINTS]  # noqa: E731
        self.onlooker.wait(lambda: self._alive() and passes(), START_S, "all nodes")

    def _braking_from(self, before: Heard, after: list[Heard]) -> float:
        """When the hold was published; inf where the tool never stopped going where it went."""
        going = self._tool_velocity(before)
        along = [float(self._tool_velocity(heard) @ going) for heard in (before, *after)]
        end = next((i for i, speed in enumerate(along) if speed <= 0.0), None)
        if end is None:
            return math.inf
        return after[max((i for i in range(1, end) if along[i] > along[i - 1]), default=0)].published_ns

    def _tool_velocity(self, command: Heard) -> Array:
        """`(3,)`, m/s, that a command asks for."""
        point = command.message.points[0]
        joints, moved = np.array(point.positions[:7]), BRIEF_S * np.array(point.velocities[:7])
        before, after = self._chain.forward_batch(np.stack([joints, joints + moved]))[:, :3, 3]
        return np.asarray((after - before) / BRIEF_S)

    def _alive(self) -> bool:
        ended = dead(self.runner)
        if ended:
            raise RuntimeError(f"{ended} has ended")
        return True

    def _driven(self) -> bool:
        safety = self.onlooker.safety
        return safety.get("state") == "ACTIVE" and safety.get("source") == "policy"

    def _speed(self) -> float:
        commands = self.onlooker.heard[COMMAND]
        return max(abs(v) for v in commands[-1].message.points[0].velocities[:7]) if commands else 0.0

    def _stop(self, state: str, since_ns: int) -> Change:
        """The change to `state`. Raises Missed where something else came first, or the episode ended just then."""
        self.onlooker.wait(lambda: self._stops(since_ns), 5.0, state)
        first = self._stops(since_ns)[0]
        if first.values["to"] == "READY":
            raise Missed(EPISODE_ENDED)
        if first.values["to"] != state:
            raise Missed(f"{first.values['to']} for {first.values['rule']} before {state}")
        return first

    def _stops(self, since_ns: int) -> list[Change]:
        return [change for change in self.onlooker.changes(since_ns) if change.values["to"] in ENDS]

    def _output(self, change: Change) -> int:
        """When the safe action of that tick was published, which was just before its verdict."""
        earlier = lambda heard: heard.published_ns <= change.published_ns  # noqa: E731
        return max(heard.published_ns for heard in self.onlooker.heard[ACTION] if earlier(heard))

    def _beyond(self) -> JointState:
        heard = reversed(self.onlooker.heard[JOINTS])
        newest = next(h.message for h in heard if h.message.header.frame_id != VIOLATION)
        _, robot = load_deployment(DEPLOYMENT)
        message = JointState(name=newest.name, velocity=newest.velocity, effort=newest.effort)
        message.header.frame_id = VIOLATION
        message.position = list(newest.position)
        message.position[list(newest.name).index(robot.joints[0].name)] = robot.joints[0].upper + 0.1
        return message


class Relayed(Runner):
    """A deployment whose simulator speaks to joint_relay.py alone."""

    def __enter__(self) -> Relayed:
        """Starts both."""
        variables = environment(self._options.deployment.parent, self._options.domain_id, pictures=False)
        command = [sys.executable, str(ROOT / "benchmarks" / "joint_relay.py")]
        self._joint_relay = subprocess.Popen(command, env={**os.environ, **variables})
        for process in processes(self._options):
            arguments = ("-r", f"{JOINTS}:={TRUE}") if process.name == "sim" else ()
            self._start(replace(process, ros_arguments=(*process.ros_arguments, *arguments)))
        return self

    def __exit__(self, *ends: object) -> None:
        """Ends both."""
        super().__exit__(*ends)
        self._joint_relay.kill()
        self._joint_relay.wait()


@contextmanager
def deployed(domain_id: int, seed: int, rng: random.Random) -> Iterator[Bench]:
    """The expert on the simulated arm. Raises TimeoutError with the end of the log where something does not come."""
    log = io.StringIO()
    options = Options("sim", DEPLOYMENT, source="expert", episodes=0, seed=seed, domain_id=domain_id)
    try:
        with looking_on(domain_id, TOPICS) as onlooker, Relayed(options, log) as runner:
            bench = Bench(runner, onlooker, rng)
            bench.ready()
            yield bench
    except (TimeoutError, RuntimeError) as error:
        raise RuntimeError(f"{error}; the deployment said:\n{log.getvalue()[-3000:]}") from error


@contextmanager
def busy_core() -> Iterator[None]:
    """A process that computes without a pause."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()
