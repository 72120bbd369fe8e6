"""Inverse kinematics, all installed solvers: python benchmarks/ik.py

1,000 random reachable poses (joints uniform in their ranges), each from home, and tool paths sampled at 20 Hz, each
sample from the answer before. A pose is solved if an answer within limits is less than 1 mm and 0.1 degree away. A path
fails at a sample that is not solved, or whose answer is more than 0.3 rad from the one before in some joint.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import get_args

import numpy as np

from policy_bringup.control.arm_config import ArmConfig
from policy_bringup.control.ik import residual
from policy_bringup.control.kinematics import Chain
from policy_bringup.control.solvers import SolverName, load_solver
from policy_bringup.core.config import load
from policy_bringup.core.errors import ConfigError, NoSolution
from policy_bringup.core.interfaces import IkSolver
from policy_bringup.core.robot import Robot, columns_to_pose, pose_to_columns
from policy_bringup.core.types import Array, Pose

ROOT = Path(__file__).parents[1]
PACKAGES: dict[str, str | None] = {"numeric": None, "trac": "pytracik", "pinocchio": "pin", "frankik": "frankik"}
SOLVED = 0.998
POSITION_M, ROTATION_RAD, JUMP_RAD = 1e-3, math.radians(0.1), 0.3
RATE_HZ, PATH_S, PATHS = 20.0, 100.0, 5
LOWER = np.array([0.35, -0.3, 0.05, -0.2, -0.2, -1.2])
UPPER = np.array([0.65, 0.3, 0.45, 0.2, 0.2, 1.2])


def tool_path(robot: Robot, chain: Chain, seed: int) -> list[Pose]:
    """A smooth random path through the workspace that begins at the home pose: sums of slow sines in every column."""
    rng = np.random.default_rng(seed)
    t = np.arange(0.0, PATH_S, 1.0 / RATE_HZ)
    frequency, phase = rng.uniform(0.05, 0.25, (6, 3, 1)), rng.uniform(0.0, 2.0 * math.pi, (6, 3, 1))
    waves = np.sin(2.0 * math.pi * frequency * t + phase).mean(axis=1).T
    columns = 0.5 * (LOWER + UPPER) + 0.5 * (UPPER - LOWER) * waves
    home = pose_to_columns(chain.forward(robot.home), robot.tool_reference)
    fade = np.minimum(t / 4.0, 1.0)[:, None]
    return [columns_to_pose(row, robot.tool_reference) for row in home + fade * (columns - home)]


def poses(robot: Robot, chain: Chain, solver: IkSolver, count: int) -> tuple[float, Array]:
    """Part solved, and milliseconds of every call."""
    solved, spent = 0, []
    for q in np.random.default_rng(7).uniform(robot.lower, robot.upper, (count, len(robot.joints))):
        target = chain.forward(q)
        begin = time.perf_counter()
        try:
            answer: Array | None = solver.solve(target, robot.home)
        except NoSolution:
            answer = None
        spent.append(1e3 * (time.perf_counter() - begin))
        solved += answer is not None and good(robot, chain, answer, target)
    return solved / count, np.array(spent)


def tracking(robot: Robot, chain: Chain, solver: IkSolver) -> tuple[int, int, Array]:
    """Samples, failures, and milliseconds of every call."""
    failures, spent = 0, []
    for seed in range(PATHS):
        q = robot.home
        for target in tool_path(robot, chain, seed):
            begin = time.perf_counter()
            try:
                answer = solver.solve(target, q)
            except NoSolution:
                failures += 1
                continue
            finally:
                spent.append(1e3 * (time.perf_counter() - begin))
            failures += not good(robot, chain, answer, target) or float(np.abs(answer - q).max()) > JUMP_RAD
            q = answer
    return len(spent), failures, np.array(spent)


def good(robot: Robot, chain: Chain, answer: Array, target: Pose) -> bool:
    """Judged here, not by the solver."""
    position, rotation = residual(chain, answer, target)
    within = bool(((robot.lower <= answer) & (answer <= robot.upper)).all())
    return within and position < POSITION_M and rotation < ROTATION_RAD


def installed_mb(package: str | None) -> float:
    """Size of a package and all it requires, numpy aside: the stack has that anyway."""
    pending, seen, size = [package] if package else [], {"numpy"}, 0
    while pending:
        name = pending.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        paths = {Path(str(distribution.locate_file(file))) for file in distribution.files or ()}
        size += sum(path.stat().st_size for path in paths if path.is_file())
        for requirement in distribution.requires or ():
            if "extra ==" not in requirement:
                pending.append(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])
    return size / 1e6


def main() -> int:
    """Prints the table; 1 if the solver that config/arm.yaml names solves too few poses, or loses a path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poses", type=int, default=1000)
    count: int = parser.parse_args().poses
    robot = load(ROOT / "config/robot.yaml", Robot)
    config = load(ROOT / "config/arm.yaml", ArmConfig)
    urdf = ROOT / "models/robot" / Path(robot.urdf).name
    chain = Chain.from_urdf(urdf, robot.base_frame, robot.tool_frame, robot.joint_names)
    print("| solver | solved | p50 ms | p99 ms | tracking failures | tracking p50 ms | p99 ms | installed MB |")
    print("|---|---|---|---|---|---|---|---|")
    missing, good_enough = [], False
    for name in get_args(SolverName):
        try:
            solver = load_solver(name, chain, robot, urdf, config.ik)
        except ConfigError as error:
            missing.append(str(error))
            continue
        share, spent = poses(robot, chain, solver, count)
        samples, failures, followed = tracking(robot, chain, solver)
        if name == config.solver:
            good_enough = share >= SOLVED and failures == 0
        print(
            f"| {name} | {100 * share:.1f} % | {np.percentile(spent, 50):.2f} | {np.percentile(spent, 99):.2f} "
            f"| {failures} of {samples} | {np.percentile(followed, 50):.2f} | {np.percentile(followed, 99):.2f} "
            f"| {installed_mb(PACKAGES[name]):.1f} |",
            flush=True,
        )
    for sentence in missing:
        print(f"not measured: {sentence}")
    return 0 if good_enough else 1


if __name__ == "__main__":
    sys.exit(main())
