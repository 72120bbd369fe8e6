"""What a bag holds of the motion that a hand made: joints, and the gripper's button, for every while that it led."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from policy_bringup.control.grip_button import Closed, from_commands, from_fingers
from policy_bringup.control.hand_guiding import Motion
from policy_bringup.control.proprioception import Proprioception
from policy_bringup.core.decoding import command_of, joint_positions
from policy_bringup.core.errors import EpisodeError, ObservationError
from policy_bringup.core.robot import Gripper
from policy_bringup.core.types import Array, StateSample
from policy_bringup.episodes.driving import SAME_CLOCK_NS, took_effect_ns
from policy_bringup.episodes.led import Interval
from policy_bringup.episodes.reader import Bag, BagMessage

JOINTS, COMMAND = "joint_states", "arm_controller/joint_trajectory"


class LedMotion(NamedTuple):
    """A motion whose first moment is at `began_ns` (ROS time), in the interval in which a hand led the arm."""

    interval: Interval
    began_ns: int
    motion: Motion


class _Moment(NamedTuple):
    ns: int
    joints: Array
    width: float


class _Grip(NamedTuple):
    """A command that names the gripper. alone: no joint of the arm."""

    ns: int
    closes: bool
    alone: bool


def led_motions(
    bag: Bag, intervals: Sequence[Interval], proprioception: Proprioception, gripper: Gripper
) -> tuple[LedMotion, ...]:
    """One for each interval; each stands for itself.

    Joint states count when they were measured (their stamps, where those are on the recording's clock); those that are
    not finite are left out: the verdict on the recording's quality tells of them. Where the gripper was commanded alone
    those commands are its button; elsewhere its fingers tell (control/grip_button.py). Raises EpisodeError where there
    are no joint states, or too few.
    """
    if not bag.counts.get(JOINTS):
        raise EpisodeError(f"{bag.path}: topic '{JOINTS}' is missing or holds no message")
    moments: list[_Moment] = []
    grips: list[_Grip] = []
    for message in bag.messages((JOINTS, COMMAND)):
        if message.topic == COMMAND:
            grips.extend(_grip(bag, message, gripper))
        else:
            moments.extend(_moment(bag, message, proprioception))
    grips.sort(key=lambda grip: grip.ns)
    moments.sort(key=lambda moment: moment.ns)
    return tuple(_motion(bag, interval, moments, grips, gripper) for interval in intervals)


def _moment(bag: Bag, message: BagMessage, proprioception: Proprioception) -> list[_Moment]:
    sample = joint_positions(bag.decode(message), 0)
    try:
        joints, width = proprioception.joints(sample)
    except ObservationError as error:
        raise EpisodeError(f"{bag.path}: {error}") from error
    whole = bool(np.isfinite(joints).all() and np.isfinite(width))
    return [_Moment(_measured_ns(sample, message), joints, width)] if whole else []


def _measured_ns(sample: StateSample, message: BagMessage) -> int:
    """By its stamp, if that is on the clock of the recording."""
    waited_ns = message.log_ns - sample.stamp_ns
    return sample.stamp_ns if 0 <= waited_ns <= SAME_CLOCK_NS else took_effect_ns(message)


def _grip(bag: Bag, message: BagMessage, gripper: Gripper) -> list[_Grip]:
    try:
        command = command_of(bag.decode(message))
    except (ValueError, IndexError):  # ragged or empty: the robot's controller refused it as well
        return []
    if gripper.joint not in command.names:
        return []
    width = 2.0 * float(command.positions[-1, command.names.index(gripper.joint)])
    return [_Grip(took_effect_ns(message), width < _middle(gripper), command.names == (gripper.joint,))]


def _middle(gripper: Gripper) -> float:
    """The opening below which it counts as closed, m."""
    return 0.5 * (gripper.lower + gripper.upper)


def _motion(
    bag: Bag, interval: Interval, moments: Sequence[_Moment], grips: Sequence[_Grip], gripper: Gripper
) -> LedMotion:
    led: list[_Moment] = []
    for moment in moments:
        if interval.holds(moment.ns) and (not led or moment.ns > led[-1].ns):
            led.append(moment)
    if len(led) < 2:
        at_s = (interval.began_ns - bag.start_ns) / 1e9
        raise EpisodeError(
            f"{bag.path}: topic '{JOINTS}' says at fewer than two moments where the arm was, "
            f"while a hand led it from {at_s:.1f} s after the start"
        )
    times = np.array([(moment.ns - led[0].ns) / 1e9 for moment in led])
    closed = _button(interval, led, times, grips, gripper)
    return LedMotion(interval, led[0].ns, Motion(times, np.array([moment.joints for moment in led]), closed))


def _button(
    interval: Interval, led: Sequence[_Moment], times: Array, grips: Sequence[_Grip], gripper: Gripper
) -> Closed:
    earlier = [grip.closes for grip in grips if grip.ns < interval.began_ns]
    before = earlier[-1] if earlier else led[0].width < _middle(gripper)
    pressed = [grip for grip in grips if grip.alone and interval.holds(grip.ns)]
    if pressed:
        return from_commands(times, [((grip.ns - led[0].ns) / 1e9, grip.closes) for grip in pressed], before)
    return from_fingers(np.array([moment.width for moment in led]), before)
