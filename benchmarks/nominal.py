"""Nominal episodes for benchmarks/replay.py: the scripted expert and the shipped policy by self-play, faster than real
time, and teleop over topics, in real time: the whole deployment, a hand that moves a pad's sticks, the recorder.

Run: python benchmarks/nominal.py FOLDER [--expert 250] [--policy 100] [--teleop 6], into FOLDER/expert, FOLDER/policy
and FOLDER/teleop; what is there already is not made again. About 5 s an episode, of teleop 30 s: half an hour in all.
"""

from __future__ import annotations

import io
import math
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from onlooker import ROOT, STATE, Onlooker, dead, looking_on
from sensor_msgs.msg import Joy
from std_srvs.srv import SetBool, Trigger

from policy_bringup import tables
from policy_bringup.core.errors import PolicyBringupError
from policy_bringup.core.startup import Options
from policy_bringup.episodes.layout import episodes
from policy_bringup.pipeline import play
from policy_bringup.runner import Runner
from policy_bringup.sim.selfplay import SelfPlay, run_selfplay

CONFIG = ROOT / "config"
TELEOP_S = 30.0
JOY_S = 0.05
SWINGS = {1: (4.3, 0.9), 0: (5.9, 0.8), 4: (7.1, 0.7), 3: (3.1, 0.5)}
"""Stick axis -> period (s) and part of the full deflection: a few centimetres about where the arm began, and a turn."""
CLOSE, OPEN, TAKE, DEADMAN = 0, 1, 4, 5
GRASPS = {CLOSE: (8.0, 10.0), OPEN: (18.0, 20.0)}
"""Button -> when it is held, s into an episode."""
BUTTONS = 11
START_S = 90.0


@dataclass(frozen=True)
class Nominal:
    """How many episodes of each kind."""

    folder: Annotated[Path, tyro.conf.Positional]
    expert: int = 250
    policy: int = 100
    teleop: int = 6
    bundle: Path = ROOT / "models" / "policies" / "grasp"
    seed: int = 7_000_000
    workers: int = os.cpu_count() or 1
    domain_id: int = 72


class Pad:
    """A hand on a pad, on the topic `joy`."""

    def __init__(self, onlooker: Onlooker) -> None:
        self._onlooker, self._output = onlooker, onlooker.publisher("joy")

    def take(self) -> None:
        """Takes the arm: presses again until teleop, which may not be there yet, has it. Raises TimeoutError."""
        mine = lambda: self._onlooker.safety.get("source") == "teleop"  # noqa: E731
        self._onlooker.wait(lambda: self._press(TAKE) or mine(), START_S, "teleop in charge")

    def _press(self, button: int) -> None:
        for tick in range(20):
            self._hold((button,) if tick == 0 else ())

    def drive(self, seconds: float) -> None:
        """Swings about where the arm is; closes and opens the gripper."""
        for tick in range(round(seconds / JOY_S)):
            now_s = tick * JOY_S
            swing = min(1.0, now_s)  # a hand does not begin at full speed
            axes = {
                axis: swing * part * math.sin(2 * math.pi * now_s / period) for axis, (period, part) in SWINGS.items()
            }
            held = [button for button, (since_s, until_s) in GRASPS.items() if since_s <= now_s < until_s]
            self._hold((DEADMAN, *held), axes)

    def _hold(self, buttons: Iterable[int], axes: dict[int, float] | None = None) -> None:
        sticks, pressed = axes or {}, set(buttons)
        message = Joy(axes=[sticks.get(i, 0.0) for i in range(8)], buttons=[int(i in pressed) for i in range(BUTTONS)])
        self._output.publish(message)
        self._onlooker.last(JOY_S)


def selfplay(choice: Nominal, driver: str, count: int) -> None:
    """Episodes that the expert (without pictures) or the policy (with them) plays."""
    wanted = SelfPlay(
        CONFIG, choice.folder / driver, count, seed=choice.seed, workers=choice.workers, policy=play.expert
    )
    if driver == "policy":
        wanted = play.played_by(wanted, choice.bundle)
    done = 0
    with tables.progress(driver) as progress:

        def heard(_played: object) -> None:
            nonlocal done
            done += 1
            progress(done, count, "")

        run_selfplay(wanted, heard)


def teleop(choice: Nominal, count: int) -> None:
    """Episodes that a hand on a pad drives. Raises TimeoutError with the end of the deployment's log."""
    dataset, log = choice.folder / "teleop", io.StringIO()
    options = Options(
        "sim", CONFIG / "grasp.yaml", source="none", record=dataset, teleop_device="joy", domain_id=choice.domain_id
    )
    try:
        with looking_on(choice.domain_id, (STATE,)) as onlooker, Runner(options, log) as runner:
            pad = Pad(onlooker)
            with tables.progress("teleop") as progress:
                for done in range(count):
                    progress(done, count, "")
                    record(onlooker, pad)
            if dead(runner):
                raise TimeoutError(f"{dead(runner)} has ended")
    except TimeoutError as error:
        raise TimeoutError(f"{error}; the deployment said:\n{log.getvalue()[-3000:]}") from error


def record(onlooker: Onlooker, pad: Pad) -> None:
    """One episode, a success if teleop had the arm to its end. Raises TimeoutError where the recorder refuses."""
    pad.take()
    start = lambda: onlooker.call("recorder/start", Trigger.Request()).success  # noqa: E731
    onlooker.wait(start, 20.0, "the recorder")
    pad.drive(TELEOP_S)
    onlooker.call("recorder/success", SetBool.Request(data=onlooker.safety.get("source") == "teleop"))
    onlooker.call("recorder/stop", Trigger.Request())


def main(choice: Nominal) -> int:
    """Prints where they lie."""
    with tempfile.TemporaryDirectory() as state:
        os.environ["XDG_STATE_HOME"] = state
        selfplay(choice, "expert", choice.expert)
        selfplay(choice, "policy", choice.policy)
        there = len(episodes(choice.folder / "teleop")) if (choice.folder / "teleop").is_dir() else 0
        if choice.teleop > there:
            teleop(choice, choice.teleop - there)
    print(
        "python benchmarks/replay.py --nominal "
        + " ".join(str(choice.folder / kind) for kind in ("expert", "policy", "teleop"))
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Nominal)))
    except (PolicyBringupError, TimeoutError) as error:
        sys.exit(str(error))
