"""One episode in which a simulated hand leads the compliant arm: its motion, and its messages."""

from __future__ import annotations

import numpy as np

from policy_bringup.control.gripping import grip_command
from policy_bringup.control.hand_guiding import HandGuiding, Motion
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core import graph
from policy_bringup.core.throttle import Throttle
from policy_bringup.core.types import Array, ImageSample
from policy_bringup.episodes.hand_messages import MadeMessage, hand_messages
from policy_bringup.sim.expert import plan_grasp
from policy_bringup.sim.hand import HandGuidingConfig, SimulatedHand, let_go
from policy_bringup.sim.recorded_rollout import BagLayout, Put, RolloutRecorder
from policy_bringup.sim.rollout import Stack
from policy_bringup.sim.tasks import Outcome, make_task
from policy_bringup.sim.views import Backend, open_view
from policy_bringup.sim.world import World

AFTERWARDS_S = 1.0
"""How long the hand stays at the end of its path."""


class GuidedMotion:
    """Made for one episode, which begins at ROS time `started_ns`.

    Its actions are only known when the motion is over, so the messages wait in memory until `write`.
    """

    def __init__(
        self, stack: Stack, config: HandGuidingConfig, layout: BagLayout, started_ns: int, backend: Backend = "auto"
    ) -> None:
        self._stack, self._config, self._layout, self._started_ns = stack, config, layout, started_ns
        self._world = World(stack.sim, stack.robot)
        self._task = make_task(stack.deployment.task, stack.sim)
        self._view = open_view(self._world.model, stack.deployment.cameras, backend)
        self._messages: list[MadeMessage] = []
        self._times: list[float] = []
        self._joints: list[Array] = []
        self._closed: list[bool] = []
        self._opening = stack.robot.gripper.home

    @property
    def now_ns(self) -> int:
        """ROS time."""
        return self._started_ns + round(self._world.time_s * 1e9)

    def run(self, seed: int) -> Outcome:
        """Leads the arm through the task, from a start drawn with `seed`, until success or the end of the path."""
        rng, world, robot = np.random.default_rng(seed), self._world, self._stack.robot
        recorder = RolloutRecorder(self._layout, self._keep, seed)
        target = self._task.reset(world, rng)
        lines = plan_grasp(robot, world.tool_pose(), self._opening, target, self._config.pace)
        hand = SimulatedHand(self._config.hand, lines, rng)
        shutter = Throttle(graph.topic("camera/{camera}/image_raw").rate_hz)
        steps = round(self._stack.sim.physics_hz / graph.topic("joint_states").rate_hz)
        world.comply(True)
        while not self._task.success and world.time_s < hand.duration_s + AFTERWARDS_S:
            self._sense(recorder)
            if shutter.due(self.now_ns):
                self._look(recorder)
            self._press(recorder, hand.wanted(world.time_s)[1])
            hand.tremble()
            for _ in range(steps):
                hand.push(world, world.time_s)
                world.step()
            self._task.update(world)
        let_go(world)
        world.comply(False)
        return self._task.outcome

    def write(self, put: Put) -> None:
        """Everything, with the actions that follow from the motion as `safety/action`, by time.

        `safety/state` names the hand as the one who is in charge: no monitor judged these actions.
        """
        times, values = self._derived(1.0 / graph.topic("safety/action").rate_hz)
        layout = self._layout
        made = hand_messages(self._started_ns, times, values, layout.action_names, layout.base_frame)
        for message in sorted([*self._messages, *made], key=lambda message: message.now_ns):
            put(*message)

    def close(self) -> None:
        """Frees the renderer."""
        self._view.close()

    def _derived(self, period_s: float) -> tuple[Array, Array]:
        robot, action = self._stack.robot, self._stack.deployment.contract.action
        proprioception = Proprioception(robot, Chain.from_urdf(self._stack.urdf, robot.base_frame, robot.tool_frame))
        guiding = HandGuiding(proprioception, robot.joint_names, robot.gripper, self._config.actions)
        motion = Motion(np.array(self._times), np.array(self._joints), np.array(self._closed))
        return guiding.derive(motion, action, period_s)

    def _keep(self, topic: str, data: bytes, now_ns: int) -> None:
        self._messages.append(MadeMessage(topic, data, now_ns))

    def _sense(self, recorder: RolloutRecorder) -> None:
        measured = self._world.joint_sample()
        recorder.on_world(self.now_ns, measured, self._world.object_pose(), self._task.outcome)
        self._times.append(self._world.time_s)
        self._joints.append(measured.positions[: len(self._stack.robot.joints)])

    def _look(self, recorder: RolloutRecorder) -> None:
        self._view.update(self._world.qpos)
        for camera in self._layout.matrices:
            recorder.on_image(ImageSample(self.now_ns, self.now_ns, camera, self._view.render(camera)))

    def _press(self, recorder: RolloutRecorder, opening: float) -> None:
        """The gripper's button, as the hand wants it now."""
        gripper = self._stack.robot.gripper
        self._closed.append(opening < 0.5 * gripper.upper)
        if opening != self._opening:
            command = grip_command(gripper, self._opening, opening, self._config.actions.grip_force)
            self._world.command(command, self._world.time_s)
            recorder.on_command(command, self.now_ns)
            self._opening = opening
