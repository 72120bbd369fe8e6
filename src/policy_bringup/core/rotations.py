"""Rotations as matrices `(3, 3)` and rotation vectors `(3,)` (axis times angle, rad).

Quaternions appear only at the borders (messages), in the order x, y, z, w.
Source: Barfoot, State Estimation for Robotics, 2nd ed., section 8.1.
"""

from __future__ import annotations

import math

import numpy as np

from policy_bringup.core.types import Array


def skew(v: Array) -> Array:
    """The matrix `S` with `S @ w = v x w`."""
    x, y, z = v
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def exp(rotation_vector: Array) -> Array:
    """Rotation vector -> matrix (Rodrigues)."""
    angle = math.sqrt(float(rotation_vector @ rotation_vector))
    S = skew(rotation_vector)
    if angle < 1e-8:
        return np.eye(3) + S
    result: Array = np.eye(3) + math.sin(angle) / angle * S + (1.0 - math.cos(angle)) / angle**2 * (S @ S)
    return result


def log(R: Array) -> Array:
    """Matrix -> rotation vector with angle in [0, pi]. At pi, one of the two equal answers."""
    axis = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    sine = 0.5 * math.sqrt(float(axis @ axis))
    cosine = 0.5 * (float(np.trace(R)) - 1.0)
    angle = math.atan2(sine, cosine)
    if sine > 1e-6:
        return axis * (angle / (2.0 * sine))
    if cosine > 0.0:
        return 0.5 * axis
    # Near pi, sine vanishes and only the symmetric part knows the axis: R + R^T = 2 (a a^T (1 - c) + c I).
    outer = (R + R.T) / 2.0 - cosine * np.eye(3)
    column = outer[:, int(np.argmax(np.diag(outer)))]
    direction = column / np.linalg.norm(column)
    result: Array = direction * (angle if float(direction @ axis) >= 0.0 else -angle)
    return result


def from_rpy(roll: float, pitch: float, yaw: float) -> Array:
    """URDF's fixed-axis roll, pitch, yaw -> matrix: Rz(yaw) Ry(pitch) Rx(roll)."""
    return exp(np.array([0.0, 0.0, yaw])) @ exp(np.array([0.0, pitch, 0.0])) @ exp(np.array([roll, 0.0, 0.0]))


def from_quaternion(x: float, y: float, z: float, w: float) -> Array:
    """Quaternion (x, y, z, w), normalised here -> matrix. Raises ValueError for a zero or non-finite one."""
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    if not 1e-9 <= norm < math.inf:
        raise ValueError(f"a quaternion needs a finite, non-zero length, got ({x}, {y}, {z}, {w})")
    x, y, z, w = x / norm, y / norm, z / norm, w / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def to_quaternion(R: Array) -> tuple[float, float, float, float]:
    """Matrix -> quaternion (x, y, z, w) with w >= 0."""
    vector = log(R)
    angle = float(np.linalg.norm(vector))
    scale = 0.5 if angle < 1e-9 else math.sin(angle / 2.0) / angle
    x, y, z = (float(part) for part in vector * scale)
    return x, y, z, max(0.0, math.cos(angle / 2.0))  # at pi, rounding can leave -1e-16
