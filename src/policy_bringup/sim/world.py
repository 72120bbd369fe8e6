"""The simulated robot on its table: what `robot` is to the rest of the stack, without a robot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from policy_bringup.core.errors import ConfigError
from policy_bringup.core.robot import Robot
from policy_bringup.core.rotations import from_quaternion, to_quaternion
from policy_bringup.core.types import Array, JointCommand, Pose
from policy_bringup.sim import panda
from policy_bringup.sim.config import SimConfig
from policy_bringup.sim.follower import Follower
from policy_bringup.sim.scene import OBJECT, build_model


@dataclass(frozen=True, slots=True, eq=False)
class JointSample:
    """Measured joints, each array `(len(names),)`: rad or m, per second, and N m or N (gravity included)."""

    names: tuple[str, ...]
    positions: Array
    velocities: Array
    efforts: Array


class World:
    """Robot, table and object under physics, driven like a joint trajectory controller drives a robot.

    Deterministic: the same calls give the same motion. Not for several threads at once.
    """

    def __init__(self, config: SimConfig, robot: Robot) -> None:
        self.config, self.robot = config, robot
        self.model = build_model(config)
        self._data = mujoco.MjData(self.model)
        self._steps = 0
        gripper = robot.gripper
        self._names = (*robot.joint_names, gripper.joint, gripper.mimic)
        self._check_robot()
        joints = [self.model.joint(name) for name in self._names]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dofs = np.array([joint.dofadr[0] for joint in joints])
        self._servos = np.array([self.model.actuator(name).id for name in self._names])
        self._fingers = self._servos[-2:]
        self._gains = self.model.actuator_gainprm.copy(), self.model.actuator_biasprm.copy()
        # A servo's force is stiffness (ctrl - q) - damping v: this much velocity in `ctrl` removes its lag.
        self._lead = -self.model.actuator_biasprm[self._servos, 2] / self.model.actuator_gainprm[self._servos, 0]
        lower, upper = np.append(robot.lower, gripper.lower / 2), np.append(robot.upper, gripper.upper / 2)
        self._follower = Follower(self._names[:-1], lower, upper, np.append(robot.home, gripper.home / 2))
        self.reset(object_at(config, (sum(config.region.x) / 2, sum(config.region.y) / 2), 0.0))

    @property
    def time_s(self) -> float:
        """Simulated time since this world was made; a reset does not set it back."""
        return self._steps / self.config.physics_hz

    @property
    def qpos(self) -> Array:
        """A copy of every position, `(nq,)`: what a view's `update` takes."""
        copy: Array = self._data.qpos.copy()
        return copy

    def reset(self, T_base_object: Pose, at_home: bool = True) -> None:
        """Puts the object there, at rest; with `at_home`, the robot at its home pose too, holding it."""
        body = self.model.joint(OBJECT)
        x, y, z, w = to_quaternion(T_base_object.rotation)
        self._data.qpos[body.qposadr[0] : body.qposadr[0] + 7] = [*T_base_object.position, w, x, y, z]
        self._data.qvel[body.dofadr[0] : body.dofadr[0] + 6] = 0.0
        if at_home:
            finger = self.robot.gripper.home / 2
            home = np.concatenate([self.robot.home, [finger, finger]])
            self._data.qpos[self._qpos], self._data.qvel[self._dofs] = home, 0.0
            self._follower.hold(home[:-1])
            self._set_grip(self.robot.gripper.force)
        self._data.qacc_warmstart[:] = 0.0
        mujoco.mj_forward(self.model, self._data)

    def command(self, command: JointCommand, now_s: float) -> None:
        """A new trajectory, begun at `now_s` of `time_s`, in place of the old one. Raises DeviceError (see Follower).

        If it names the gripper's joint, `gripper_effort` becomes the force each finger may press with, at most the
        robot's own.
        """
        self._follower.command(command, now_s, self.time_s)
        if self.robot.gripper.joint in command.names:
            self._set_grip(float(np.clip(command.gripper_effort, 0.0, self.robot.gripper.force)))

    def comply(self, on: bool) -> None:
        """On: the arm's servos let go, gravity stays compensated, and whoever pushes moves it; the gripper still obeys.

        Off: the servos hold the arm where it is now. Commands to a compliant arm have no effect.
        """
        arm = self._servos[:-2]
        gains, biases = self._gains
        self.model.actuator_gainprm[arm] = 0.0 if on else gains[arm]
        self.model.actuator_biasprm[arm] = 0.0 if on else biases[arm]
        reference, _ = self._follower.at(self.time_s)
        self._follower.hold(np.append(self._data.qpos[self._qpos[:-2]], reference[-1]))

    def push(self, force: Array, torque: Array) -> None:
        """From now on, a force `(3,)` N at the tool's origin and a torque `(3,)` N m, in the base frame."""
        site = self._data.site(self.robot.tool_frame)
        body = int(self.model.site(self.robot.tool_frame).bodyid[0])
        # MuJoCo takes both at the body's centre of mass.
        about_centre = torque + np.cross(site.xpos - self._data.xipos[body], force)
        self._data.xfrc_applied[body] = [*force, *about_centre]

    def step(self, n: int = 1) -> None:
        """Advances by `n` physics steps."""
        for _ in range(n):
            positions, velocities = self._follower.at(self.time_s)
            target = positions + velocities * self._lead[:-1]
            self._data.ctrl[self._servos[:-1]] = target
            self._data.ctrl[self._servos[-1]] = target[-1]
            mujoco.mj_step(self.model, self._data)
            self._steps += 1

    def joint_sample(self) -> JointSample:
        """The joints as they are now: the arm's in order, then both fingers'."""
        d = self._data
        return JointSample(
            self._names, d.qpos[self._qpos].copy(), d.qvel[self._dofs].copy(), d.qfrc_actuator[self._dofs].copy()
        )

    def tool_pose(self) -> Pose:
        """T_base_tool as of the last step."""
        site = self._data.site(self.robot.tool_frame)
        return Pose(site.xpos.copy(), site.xmat.reshape(3, 3).copy())

    def tool_twist(self) -> Array:
        """Velocity of the tool in the base frame, `(6,)`: m/s at its origin, then rad/s."""
        twist = np.zeros(6)
        site = self.model.site(self.robot.tool_frame).id
        mujoco.mj_objectVelocity(self.model, self._data, mujoco.mjtObj.mjOBJ_SITE, site, twist, 0)
        return np.concatenate([twist[3:], twist[:3]])

    def object_pose(self) -> Pose:
        """T_base_object."""
        at = self.model.joint(OBJECT).qposadr[0]
        w, x, y, z = self._data.qpos[at + 3 : at + 7]
        return Pose(self._data.qpos[at : at + 3].copy(), from_quaternion(x, y, z, w))

    def finger_contacts(self) -> int:
        """How many of the two fingers touch the object."""
        object_id = self.model.body(OBJECT).id
        fingers = {int(self.model.joint(name).bodyid[0]) for name in self._names[-2:]}
        bodies = self.model.geom_bodyid[self._data.contact.geom]
        touching = {int(part) for pair in bodies for part in pair if object_id in pair}
        return len(fingers & touching)

    def _set_grip(self, force: float) -> None:
        self.model.actuator_forcerange[self._fingers] = [-force, force]

    def _check_robot(self) -> None:
        there = tuple(joint.name for joint in panda.MOVING)
        if self._names != there or self.robot.tool_frame != panda.TOOL:
            raise ConfigError(
                f"simulated robot: joints must be {', '.join(there)} and the tool frame {panda.TOOL}; "
                f"robot '{self.robot.name}' has {', '.join(self._names)} and {self.robot.tool_frame}"
            )


def object_at(config: SimConfig, xy: tuple[float, float], yaw: float) -> Pose:
    """The pose of the object lying on the table at (x, y), turned by `yaw`, in the base frame."""
    c, s = np.cos(yaw), np.sin(yaw)
    rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return Pose(np.array([*xy, config.cube.size / 2]), rotation)


def assemble_qpos(model: mujoco.MjModel, positions: Mapping[str, float], object_columns: Array) -> Array:
    """What a view's `update` takes, `(nq,)`: joint positions by name, the object's pose `(7,)` as x y z qx qy qz qw.

    Joints that are not named keep their reference position; names that the model lacks are other devices'.
    """
    qpos: Array = model.qpos0.copy()
    known = {model.joint(i).name: int(model.jnt_qposadr[i]) for i in range(model.njnt)}
    for name, position in positions.items():
        if name in known:
            qpos[known[name]] = position
    x, y, z, qx, qy, qz, qw = object_columns
    qpos[known[OBJECT] : known[OBJECT] + 7] = [x, y, z, qw, qx, qy, qz]
    return qpos
