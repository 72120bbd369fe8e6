"""A machine that has other things to do: fault 16."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from harness.bench import CONFIG
from harness.reaction import ESTOP_MS, assert_harmless, estop_to_hold_ms, stopped
from harness.recording import STATE, spacing_ms
from harness.stack import HERE

from policy_bringup.core.startup import environment

BUSY = "while True: pass"
STATUS_MS = 100.0


@contextmanager
def running(*command: str, **variables: str) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([sys.executable, *command], env={**os.environ, **variables}, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.fault(
    16, "e-stop held within 50 ms, status at 10 Hz, nothing unsafe, beside a busy core and full-HD pictures"
)
def test_beside_a_busy_core_and_a_stream_of_pictures_the_emergency_stop_is_as_quick(liars, rng, within):
    variables = environment(CONFIG, liars.domain_id, pictures=True)
    stream = str(HERE / "stream.py")
    with ExitStack() as others:
        others.enter_context(running("-c", BUSY))
        reader = others.enter_context(running(stream, "read", **variables))
        others.enter_context(running(stream, "write", **variables))
        assert reader.stdout.readline().strip() == b"pictures come"
        liars.set_in_motion(rng)
        began_ns = liars.recording.mark("e-stop beside a busy core")()
        liars.operator.press(True)
        change = stopped(liars, began_ns)
        assert change.after == "ESTOP"
        assert_harmless(liars, began_ns, change.ns)
        within("e-stop to hold", estop_to_hold_ms(liars, began_ns), ESTOP_MS)
        said = liars.recording.samples(STATE, began_ns - 2 * 10**9)
        within("mean time between two safety/state", float(np.mean(spacing_ms(said))), STATUS_MS + 5.0)
