"""Cameras that lie to the shipped policy: fault 18. It refuses to answer; safety hears nothing new, and stops."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from harness.bench import CONFIG, Bench, bench
from harness.camera_relay import BLACK, CAMERAS, FREEZE, PASS, SWAP, true_topic
from harness.reaction import STARVED_MS, assert_harmless, stopped
from harness.recording import DIAGNOSTICS, wait
from harness.stack import HERE, ROOT, Levers

from policy_bringup.core.config import load
from policy_bringup.core.robot import Robot
from policy_bringup.core.startup import environment

BUNDLE = ROOT / "models" / "policies" / "grasp"
PICTURE_MS, POLICY_MS, FROZEN_MS = 33.0, 50.0, 300.0
"""Between two pictures; between two tables; how long a picture may stay while the arm moves."""
LATENCY_MS = 100.0
"""From a picture to the table that came of it, at worst."""
MOVED_MS = 200.0
"""An arm in motion has moved by as much as makes a frozen picture suspicious."""

CAUSE = {
    "frozen under fresh stamps": "the picture is frozen",
    "black": "the picture is",
    "swapped": "the cameras are swapped",
}

pytestmark = pytest.mark.skipif(not BUNDLE.is_dir(), reason=f"there is no shipped bundle: {BUNDLE.relative_to(ROOT)}")


@dataclass
class Watched:
    """The deployment and the levers of its cameras."""

    bench: Bench
    levers: Levers


@pytest.fixture(scope="module")
def watched(next_domain, tmp_path_factory, module_rng) -> Iterator[Watched]:
    folder, domain_id = tmp_path_factory.mktemp("watched"), next_domain()
    levers = Levers(folder / "levers_cameras", "<q")
    command = [sys.executable, str(HERE / "camera_relay.py"), str(levers.path)]
    relay = subprocess.Popen(command, env={**os.environ, **environment(CONFIG, domain_id, pictures=True)})
    remap = {"sim_camera": {f"camera/{name}/image_raw": true_topic(name) for name in CAMERAS}}
    try:
        with bench(domain_id, folder, module_rng, remap=remap, source="bundle", bundle=BUNDLE) as made:
            made.home = load(CONFIG / "robot.yaml", Robot).home
            yield Watched(made, levers)
    finally:
        relay.terminate()
        relay.wait(timeout=10.0)


@pytest.mark.fault(18, "no table is made of such pictures: the default 250 ms and 4 ticks after the last sound one")
@pytest.mark.parametrize("what", ["frozen", "frozen under fresh stamps", "black", "swapped"])
def test_pictures_that_must_not_be_acted_on_stop_the_arm(watched: Watched, rng, within, what: str):
    made = watched.bench
    camera = made.stack.children["sim_camera"]
    made.set_in_motion(rng)
    began_ns = made.recording.mark(f"cameras {what}")()
    begin = {
        "frozen": lambda: camera.send_signal(signal.SIGSTOP),
        "frozen under fresh stamps": lambda: watched.levers.set(FREEZE),
        "black": lambda: watched.levers.set(BLACK),
        "swapped": lambda: watched.levers.set(SWAP),
    }
    begin[what]()
    try:
        fallen = stopped(made, began_ns)
        longer_ms = FROZEN_MS + MOVED_MS if "fresh" in what else 0.0
        goal_ms = PICTURE_MS + LATENCY_MS + POLICY_MS + STARVED_MS + longer_ms
        within(f"cameras {what} to FALLBACK", (fallen.ns - began_ns) / 1e6, goal_ms)
        assert (fallen.after, fallen.rule) in (("FALLBACK", "AGE"), ("FALLBACK", "UNCERTAINTY"))
        assert_harmless(made, began_ns, fallen.ns)
        if what != "frozen":  # then there are no pictures at all
            wait(lambda: _named(made, began_ns, CAUSE[what]), 5.0, "the policy naming camera and cause")
    finally:
        camera.send_signal(signal.SIGCONT)
        watched.levers.set(PASS)


def _named(made: Bench, since_ns: int, cause: str) -> bool:
    """Whether the policy has said of a camera why it does not answer."""
    said = [entry for s in made.recording.samples(DIAGNOSTICS, since_ns) for entry in s.message.status]
    return any(e.name == "policy" and e.message.startswith("camera '") and cause in e.message for e in said)
