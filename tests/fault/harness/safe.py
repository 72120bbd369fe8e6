"""What must hold for every command that reached the robot's controller, whatever was done to the stack.

Judged from the recording alone, with code of its own: it shares the limits with the product and the forward kinematics.
"""

from pathlib import Path

import numpy as np

from harness import SLACK
from harness.recording import COMMAND, JOINTS, ROGUE, SAFE, TRUE_JOINTS, Recording, Sample, lost
from policy_bringup.control.kinematics import Chain
from policy_bringup.core.decoding import stamp_of
from policy_bringup.core.deployment import load_deployment

STAMP_S = 0.005 * SLACK
"""Between the moment for which a command was made and the one at which DDS stamped it: on a busy machine a thread may
be set aside there. Speeds are judged as if a step had taken this much longer."""
APART = (1, 5, 20)
"""Commands that are compared: neighbours, and further ones, for which that weighs less."""
HORIZON_S = 0.015
ACCELERATION_MARGIN = 1.05
"""As config/arm.yaml says it for the product's own second line."""
BOX_M = 0.003
"""Tool outside of the workspace box: joints follow a straight line of the tool within this."""
ROUNDING = 1e-6
DROP_RAD = 0.01
"""That a held arm may be moved from where it came to rest: it is once put onto where it was measured."""
PUSHED_NS = 50_000_000
"""How old the measurement may be onto which a pushed arm's command is put."""
STILL = 0.001
"""Rad/s: at this speed and below a commanded joint stands, up to the solver's tolerance."""
SETTLE_S = 0.6
"""From a stop to where every command says stand."""
BRIEF_S = 1e-4
"""Over which a tool's velocity is taken."""


class Judge:
    """The limits of one deployment."""

    def __init__(self, deployment_path: Path) -> None:
        deployment, robot = load_deployment(deployment_path)
        gripper, urdf = robot.gripper, deployment_path.parent / robot.urdf
        self._chain = Chain.from_urdf(urdf, robot.base_frame, robot.tool_frame, robot.joint_names)
        self._names = [*robot.joint_names, gripper.joint]
        self._lower = np.append(robot.lower, gripper.lower / 2)
        self._upper = np.append(robot.upper, gripper.upper / 2)
        self._velocity = np.append(robot.velocity, gripper.velocity / 2)
        self._acceleration = np.append(robot.acceleration, gripper.acceleration / 2) * ACCELERATION_MARGIN
        limits = deployment.limits
        self._columns = [limit.name for limit in limits]
        self._least = np.array([limit.lower for limit in limits])
        self._most = np.array([limit.upper for limit in limits])
        self._tolerance = np.array([limit.tolerance for limit in limits])

    def assert_safe(self, recording: Recording, since_ns: int, until_ns: int = 2**63, pushed: bool = False) -> None:
        """No command of the arm node, and no safe action, was anything but safe; none was lost to this recording.

        pushed: somebody else moves the arm; a command may then leap, but only to rest where the arm really is.
        """
        commands = [s for s in recording.samples(COMMAND, since_ns, until_ns) if s.frame != ROGUE]
        assert commands, "the recording heard no command of the arm"
        assert lost(commands) == 0, "the recording missed commands"
        for sample in commands:
            self._judge_command(sample)
        joints = recording.samples(TRUE_JOINTS, since_ns) or recording.samples(JOINTS, since_ns)
        leaps = [pushed and _rests_where_it_is(command, joints) for command in commands]
        for apart in APART:
            for i in range(len(commands) - apart):
                if not any(leaps[i + 1 : i + apart + 1]):
                    self._judge_step(commands[i], commands[i + apart], 0.1 * apart)
        for sample in recording.samples(SAFE, since_ns, until_ns):
            if sample.frame != ROGUE:
                self._judge_action(sample)

    def assert_stands(self, recording: Recording, since_ns: int, until_ns: int = 2**63) -> None:
        """Since then the arm was asked for nothing but to stay where it is."""
        commands = self.assert_still(recording, since_ns, until_ns)
        if not commands:
            return
        table = np.array([point.positions[:7] for s in commands for point in s.message.points])
        moved = np.abs(table - table[0]).max()
        assert moved < DROP_RAD, f"asked to stand {moved:.4f} rad away from where it came to rest"

    def assert_still(self, recording: Recording, since_ns: int, until_ns: int = 2**63) -> list[Sample]:
        """Since then the arm was not asked to move, wherever it was: those commands."""
        commands = [s for s in recording.samples(COMMAND, since_ns, until_ns) if s.frame != ROGUE]
        speeds = np.array([point.velocities[:7] for s in commands for point in s.message.points])
        moving = [
            s.source_ns for s in commands if max(abs(v) for p in s.message.points for v in p.velocities[:7]) >= STILL
        ]
        until_ms = (max(moving, default=since_ns) - since_ns) / 1e6
        assert not moving, f"asked to move at {np.abs(speeds).max():.4f} rad/s, and for another {until_ms:.0f} ms"
        return commands

    def farther(self, one: np.ndarray, other: np.ndarray) -> bool:
        """Whether two poses, in action columns, are further apart than the monitor's tolerance."""
        return bool((np.abs(one - other) > self._tolerance)[:6].any())

    def tool_velocity(self, command: Sample) -> np.ndarray:
        """`(3,)`, m/s, that a command asks for."""
        point = command.message.points[0]
        joints, moved = np.array(point.positions[:7]), BRIEF_S * np.array(point.velocities[:7])
        before, after = self._chain.forward_batch(np.stack([joints, joints + moved]))[:, :3, 3]
        return (after - before) / BRIEF_S

    def _judge_command(self, sample: Sample) -> None:
        message = sample.message
        assert list(message.joint_names) == self._names
        positions = np.array([point.positions for point in message.points])
        velocities = np.array([point.velocities for point in message.points])
        efforts = np.array([point.effort for point in message.points])
        times = np.array([stamp_of(point.time_from_start) / 1e9 for point in message.points])
        assert len(times) >= 2
        assert (np.diff(times, prepend=0.0) > 0.0).all()
        for table in (positions, velocities, efforts):
            assert np.isfinite(table).all(), "a number of a command is not finite"
        assert ((self._lower - ROUNDING <= positions) & (positions <= self._upper + ROUNDING)).all(), positions
        assert (np.abs(velocities) <= self._velocity + ROUNDING).all(), velocities
        assert (velocities[-1] == 0.0).all(), "a command does not end at rest"
        tool = self._chain.forward_batch(positions[:, :7])[:, :3, 3]
        inside = (self._least[:3] - BOX_M <= tool) & (tool <= self._most[:3] + BOX_M)
        assert inside.all(), f"the tool was sent to {tool[~inside.all(axis=1)][0]}"

    def _judge_step(self, before: Sample, after: Sample, longest_s: float) -> None:
        """longest_s: what a gap counts for at most: a robot that gets nothing stands soon."""
        first, second = before.message.points[0], after.message.points[0]
        dt = min((after.source_ns - before.source_ns) / 1e9, longest_s) + STAMP_S
        change = np.abs(np.array(second.positions) - np.array(first.positions))
        assert (change <= self._velocity * dt + ROUNDING).all(), f"a step of {change} in {1000 * dt:.1f} ms"
        change = np.abs(np.array(second.velocities) - np.array(first.velocities))
        allowed = self._acceleration * dt + ROUNDING
        told = f"from {first} to {second}, messages {before.sequence} and {after.sequence}"
        assert (change <= allowed).all(), f"a change of speed of {change}, allowed {allowed}, {told}"

    def _judge_action(self, sample: Sample) -> None:
        values = np.array([point.positions for point in sample.message.points])
        assert values.shape == (1, len(self._columns) + 1)
        inside = (self._least - ROUNDING <= values[0, :-1]) & (values[0, :-1] <= self._most + ROUNDING)
        assert inside.all(), f"{np.array(self._columns)[~inside]} of a safe action: {values[0, :-1][~inside]}"


def _rests_where_it_is(command: Sample, joints: list[Sample]) -> bool:
    """Asks for no motion, from where the arm was measured just before."""
    points = command.message.points
    asked = np.array([point.positions[:7] for point in points])
    before = [s for s in joints if command.source_ns - PUSHED_NS <= s.source_ns <= command.source_ns]
    away = [np.abs(asked - np.array(s.message.position[:7])).max() for s in before]
    return not any(any(point.velocities) for point in points) and min(away, default=np.inf) < DROP_RAD
