"""Runs episodes on the simulated arm: home, new scene, arm, wait for success or a stop; then writes a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.client import Client
from sensor_msgs.msg import CameraInfo, JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core import decoding
from policy_bringup.core.config import bounded
from policy_bringup.core.errors import PolicyBringupError
from policy_bringup.core.trials import Episode, Report
from policy_bringup.nodes import endpoints
from policy_bringup.nodes.inbox import Inbox
from policy_bringup.nodes.parameters import load_parameters, text_parameter, whole_parameter
from policy_bringup.nodes.runtime import WATCHER, BringupNode, received_now, run
from policy_bringup.nodes.stage_clock import StageClock

T = TypeVar("T")
Script = Generator[bool, None, T]
STEP_S = 0.02
DEPTH = 50
"""Messages kept from one step to the next: half a second at 100 Hz."""
STOPPED = ("FALLBACK", "ESTOP", "FAULT")
HOMING_TRIES = ARMING_TRIES = 3
FOLLOWS_S = 1.0
"""From arming until the arm follows: it takes one safe action, a hundredth of a second."""
ASKED = 3
"""Times that a service is asked: DDS may lose the answer to a client that its server has not discovered yet."""


@dataclass(frozen=True, slots=True)
class TrialConfig:
    """config/trial.yaml."""

    ready_timeout_s: float = bounded(1.0, 600.0, "s")
    arm_timeout_s: float = bounded(0.1, 60.0, "s")
    home_timeout_s: float = bounded(1.0, 120.0, "s")
    home_tolerance_rad: float = bounded(0.001, 0.5, "rad")
    reset_timeout_s: float = bounded(0.1, 60.0, "s")
    episode_timeout_s: float = bounded(1.0, 600.0, "s")


class NoAnswer(PolicyBringupError):
    """A service that is there and does not answer."""


class TrialNode(BringupNode):
    """The script below is a generator: each `yield` hands control back to the executor until the next step."""

    niceness = WATCHER

    def __init__(self) -> None:
        super().__init__("trial")

    def open(self) -> None:
        """Subscribes, and readies the script."""
        self._config = load_parameters(self, self.config_path, TrialConfig)
        self._count = whole_parameter(self, "episodes", 0, 0, 1_000_000)
        self._report = text_parameter(self, "report", "")
        self._stages = StageClock()
        self._safety: dict[str, str] = {"state": "INIT", "source": "", "offered": "", "sentence": "nothing heard"}
        self._sim: dict[str, str] = {}
        self._arm_state = ""
        self._joints = np.full(len(self.robot.joints), np.nan)
        self._laid_out_ns = self._acted_ns = 0
        self._episodes: list[Episode] = []
        self._stops: list[str] = []
        self._verdicts: Counter[str] = Counter()
        self._records = bool(text_parameter(self, "record", ""))
        services = ["safety/arm", "arm/home", "sim/reset"]
        services += ["recorder/start", "recorder/success", "recorder/stop"] if self._records else []
        self._remote = {name: endpoints.client(self, name) for name in services}
        self._subscribe()
        self._script = self._run()
        self.create_timer(STEP_S, self._step)

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, sentence and counts."""
        successes = sum(episode.success for episode in self._episodes)
        return "ok", "running episodes", {"episodes": len(self._episodes), "successes": successes}

    def close(self) -> None:
        """Writes the report of what was done, also when stopped half way."""
        report = Report(tuple(self._episodes), self._stages.latencies.summary(), dict(self._verdicts), dict(self._sim))
        if self._report:
            report.save(Path(self._report))

    def _subscribe(self) -> None:
        camera = self.deployment.contract.observation.images[0].camera
        self._inbox = Inbox(self)
        self._inbox.hear("joint_states", self._take_joints)
        self._inbox.hear("sim/state", self._take_sim)
        self._inbox.hear("safety/verdict", self._take_verdict, DEPTH)
        self._inbox.hear("safety/state", self._take_state)
        self._inbox.hear("arm/state", self._take_arm_state)
        self._inbox.hear_published(f"camera/{camera}/camera_info", self._take_camera, DEPTH)
        self._inbox.hear_published("policy/action", self._take_policy_action, DEPTH)
        self._inbox.hear_published("safety/action", self._take_safe_action, DEPTH)
        self._inbox.hear_published("arm_controller/joint_trajectory", self._take_command, DEPTH)

    def _take_joints(self, message: JointState) -> None:
        positions = dict(zip(message.name, message.position, strict=False))
        self._joints = np.array([positions.get(name, np.nan) for name in self.robot.joint_names])

    def _take_sim(self, message: DiagnosticArray) -> None:
        entry = decoding.entry_of(message, "episode", "success", "failure")
        if entry is not None:
            self._sim = decoding.values_of(entry)

    def _take_state(self, message: DiagnosticArray) -> None:
        entry = decoding.entry_of(message, "state", "source", "offered")
        if entry is not None:
            self._safety = {**decoding.values_of(entry), "sentence": entry.message}

    def _take_arm_state(self, message: DiagnosticArray) -> None:
        self._arm_state = (decoding.state_of(message) or {}).get("state", self._arm_state)

    def _take_verdict(self, message: DiagnosticArray) -> None:
        verdict = decoding.entry_of(message, "rule")
        rule = "" if verdict is None else decoding.values_of(verdict)["rule"]
        if rule:
            self._verdicts[rule] += 1
        for transition in message.status[1:]:
            if decoding.values_of(transition).get("to") in STOPPED:
                self._stops.append(transition.message)

    def _take_camera(self, message: CameraInfo, published_ns: int) -> None:
        if self._in_charge():
            self._stages.camera(decoding.stamp_of(message.header.stamp), published_ns)

    def _take_policy_action(self, message: JointTrajectory, published_ns: int) -> None:
        self._acted_ns = decoding.stamp_of(message.header.stamp)
        if self._in_charge():
            self._stages.policy(self._acted_ns, published_ns)

    def _take_safe_action(self, message: JointTrajectory, published_ns: int) -> None:
        if self._in_charge():
            self._stages.safety(decoding.stamp_of(message.header.stamp), published_ns)

    def _take_command(self, message: JointTrajectory, published_ns: int) -> None:
        self._stages.arm(decoding.answered_of(message), published_ns)

    def _in_charge(self) -> bool:
        return self._safety["state"] == "ACTIVE" and self._safety["source"] == "policy"

    def _step(self) -> None:
        self._inbox.take()
        try:
            if next(self._script, None) is None:
                self.finish()
        except NoAnswer as error:
            self.fail(str(error))

    def _run(self) -> Script[None]:
        config = self._config
        ready = lambda: bool(self._sim) and all(c.service_is_ready() for c in self._remote.values())  # noqa: E731
        if not (yield from self._wait(ready, config.ready_timeout_s)):
            self.fail(f"the simulator or a service did not appear within {config.ready_timeout_s:.0f} s")
            return
        while self._count == 0 or len(self._episodes) < self._count:
            if not (yield from self._prepare()):
                return
            if self._records and not (yield from self._start_recording()):
                return
            yield from self._episode(len(self._episodes) + 1)
            if self._safety["state"] == "FAULT":
                self.fail(f"safety ended in FAULT: {self._safety['sentence']}")
                return

    def _prepare(self) -> Script[bool]:
        """Disarmed, home, with a new scene."""
        config = self._config
        for _ in range(HOMING_TRIES):
            yield from self._call("safety/arm", SetBool.Request(data=False))
            if not (yield from self._wait(lambda: self._safety["state"] == "READY", config.ready_timeout_s)):
                self.fail(f"safety is {self._safety['state']}, not READY: {self._safety['sentence']}")
                return False
            if self._is_home() or (yield from self._go_home()):
                break
        else:
            self.fail(f"the arm did not reach home in {HOMING_TRIES} tries: {self._safety['sentence']}")
            return False
        episode = self._sim["episode"]
        yield from self._call("sim/reset", Trigger.Request())
        if not (yield from self._wait(lambda: self._sim["episode"] != episode, config.reset_timeout_s)):
            self.fail(f"the simulator did not begin a new episode within {config.reset_timeout_s:.0f} s")
            return False
        self._laid_out_ns = self.stamp_now()
        return True

    def _go_home(self) -> Script[bool]:
        """One try: False if safety stopped it or it took too long."""
        config = self._config
        yield from self._call("arm/home", Trigger.Request())
        if not (yield from self._arm("home")):
            return False
        yield from self._wait(lambda: self._is_home() or self._safety["state"] in STOPPED, config.home_timeout_s)
        yield from self._call("safety/arm", SetBool.Request(data=False))
        ready = yield from self._wait(lambda: self._safety["state"] == "READY", config.arm_timeout_s)
        return ready and self._is_home()

    def _sees_scene(self) -> Script[bool]:
        """Once the policy acts on a picture of this episode's scene: one that plans at its first would plan for the
        scene before."""
        return (yield from self._wait(lambda: self._acted_ns > self._laid_out_ns, self._config.arm_timeout_s))

    def _arm(self, source: str) -> Script[bool]:
        """Arms once `source` is the one that arming would put in charge; anew where the arm does not follow.

        An arm node that hears of safety only when it is armed already, or learns late who publishes safe actions, holds
        until safety is armed anew.
        """
        for _ in range(ARMING_TRIES):
            if not (yield from self._wait(lambda: self._safety["offered"] == source, self._config.arm_timeout_s)):
                return False
            yield from self._call("safety/arm", SetBool.Request(data=True))
            active = lambda: self._safety["state"] == "ACTIVE" and self._safety["source"] == source  # noqa: E731
            if not (yield from self._wait(active, self._config.arm_timeout_s)):
                return False
            follows = lambda: self._arm_state == "following" or self._safety["state"] in STOPPED  # noqa: E731
            if (yield from self._wait(follows, FOLLOWS_S)):
                return True
            if not (yield from self._disarm()):
                return False
        return False

    def _disarm(self) -> Script[bool]:
        yield from self._call("safety/arm", SetBool.Request(data=False))
        return (yield from self._wait(lambda: self._safety["state"] == "READY", self._config.arm_timeout_s))

    def _episode(self, number: int) -> Script[None]:
        began = received_now()
        ended = lambda: self._sim["success"] == "true" or self._safety["state"] in STOPPED  # noqa: E731
        if (yield from self._sees_scene()) and (yield from self._arm("policy")):
            began = received_now()
            in_time = yield from self._wait(ended, self._config.episode_timeout_s)
            outcome = "stopped" if in_time else f"timeout, object {self._sim['failure']}"
        else:
            outcome = "not armed"
        success = self._sim["success"] == "true"
        duration_s = (received_now() - began) / 1e9
        outcome = "success" if success else outcome
        self._episodes.append(Episode(number, success, outcome, duration_s, tuple(self._stops)))
        self.get_logger().info(f"episode {number}: {outcome} after {duration_s:.1f} s {'; '.join(self._stops)}")
        self._stops.clear()
        if self._records:
            yield from self._keep(success)

    def _start_recording(self) -> Script[bool]:
        """Waits until the recorder hears everything. Without a recording there is no episode: it was asked for."""
        began = received_now()
        while not (answer := (yield from self._call("recorder/start", Trigger.Request()))).success:
            if (received_now() - began) / 1e9 > self._config.ready_timeout_s:
                self.fail(answer.message)
                return False
            yield True
        return True

    def _keep(self, success: bool) -> Script[None]:
        """Labels the recording and closes it; what it is worth is said before the next scene is laid out."""
        yield from self._call("recorder/success", SetBool.Request(data=success))
        answer = yield from self._call("recorder/stop", Trigger.Request())
        self.get_logger().info(answer.message)

    def _is_home(self) -> bool:
        return bool((np.abs(self._joints - self.robot.home) <= self._config.home_tolerance_rad).all())

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> Script[bool]:
        began = received_now()
        while not condition():
            if (received_now() - began) / 1e9 > timeout_s:
                return False
            yield True
        return True

    def _call(self, name: str, request: Any) -> Script[Any]:
        client: Client = self._remote[name]
        for _ in range(ASKED):
            future = client.call_async(request)
            if (yield from self._wait(future.done, self._config.ready_timeout_s / ASKED)):
                return future.result()
            client.remove_pending_request(future)
        raise NoAnswer(f"{name} did not answer within {self._config.ready_timeout_s:.0f} s")


def main() -> None:
    """Entry point."""
    run(TrialNode)


if __name__ == "__main__":
    main()
