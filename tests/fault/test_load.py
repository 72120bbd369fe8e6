"""A machine that has other things to do, and a recorder in trouble: faults 16 and 19."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from harness.bench import CONFIG, Bench, bench
from harness.reaction import ESTOP_MS, assert_harmless, estop_to_hold_ms, stopped
from harness.recording import COMMAND, STATE, spacing_ms, wait, waited
from harness.stack import HERE, ROOT
from std_srvs.srv import Trigger

from policy_bringup.core.decoding import values_of
from policy_bringup.core.startup import environment

BUSY = "while True: pass"
MAY_MOUNT = os.geteuid() == 0
NEEDED_MB = 30
RECORDER = "recorder/state"
STATUS_MS = 100.0
SILENCE_MS = 110.0
"""The arm node's own watchdog and a tick: that nobody may hold it up for longer."""


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


@pytest.fixture(scope="module")
def recorded(next_domain, tmp_path_factory, module_rng) -> Iterator[Bench]:
    """With a recorder, which writes to a small disk of its own where this user may mount one."""
    folder = tmp_path_factory.mktemp("recorded")
    shutil.copytree(CONFIG, folder / "config")
    (folder / "models").symlink_to(ROOT / "models")
    dataset, path = folder / "demos", folder / "config" / "recorder.yaml"
    dataset.mkdir()
    if MAY_MOUNT:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(dataset)], check=True)
        path.write_text(path.read_text().replace("free_space_mb: 2000", f"free_space_mb: {NEEDED_MB}"))
    try:
        deployment = folder / "config" / "grasp.yaml"
        without = ("policy", "trial")  # one that looks would be late where a recorder takes the rest of the processors
        with bench(next_domain(), folder, module_rng, without, record=dataset, deployment=deployment) as made:
            yield made
    finally:
        if MAY_MOUNT:
            subprocess.run(["umount", "-l", str(dataset)], check=True)


def _record(made: Bench) -> None:
    """Asks until it records: DDS may lose an answer of a recorder that has just begun to live."""
    since_ns = made.recording.newest(COMMAND).source_ns
    for _ in range(10):
        made.operator.ask("recorder/start", Trigger.Request())
        if waited(lambda: _recorder_state(made, since_ns) == "recording", 6.0):
            return
    raise AssertionError("no recording began")


@pytest.mark.fault(
    19, "overload (the recorder stands still for 1 s, then catches up): motion goes on, no command is late"
)
def test_an_overloaded_recorder_does_not_touch_the_motion(recorded, rng, within):
    recorded.recover()
    _record(recorded)
    recorded.set_in_motion(rng)
    began_ns = recorded.recording.mark("recorder SIGSTOP")()
    recorded.stack.children["recorder"].send_signal(signal.SIGSTOP)
    recorded.let(1.0)
    recorded.stack.children["recorder"].send_signal(signal.SIGCONT)
    _assert_untouched(recorded, within, began_ns, recorded.recording.mark("recorder SIGCONT")() + 5 * 10**8)


@pytest.mark.fault(19, "recorder SIGKILL: motion goes on, no command is late")
def test_a_killed_recorder_does_not_touch_the_motion(recorded, rng, within):
    recorded.recover()
    _record(recorded)
    recorded.set_in_motion(rng)
    began_ns = recorded.recording.mark("recorder SIGKILL")()
    recorded.stack.kill("recorder")
    try:
        _assert_untouched(recorded, within, began_ns, began_ns + 10**9)
    finally:
        recorded.stack.respawn("recorder")


@pytest.mark.skipif(not MAY_MOUNT, reason="mounting a small file system needs root")
@pytest.mark.fault(19, "disk full: the recording fails with a sentence; motion goes on, no command is late")
def test_a_full_disk_does_not_touch_the_motion(recorded, rng, within):
    recorded.recover()
    _record(recorded)
    recorded.set_in_motion(rng)
    began_ns = recorded.recording.mark("the disk fills")()
    dataset = recorded.folder / "demos"
    fill = dataset / "others.bin"
    others = shutil.disk_usage(dataset).free - NEEDED_MB * 10**6 - 2 * 10**6
    try:
        with fill.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, others)
        wait(lambda: _recorder_state(recorded, began_ns) == "failed", 30.0, "the end of the recording")
        _assert_untouched(recorded, within, began_ns, recorded.recording.mark("the disk is full")() + 5 * 10**8)
    finally:
        fill.unlink()


def _recorder_state(made: Bench, since_ns: int) -> str:
    """As it has said since then; "" if it has not."""
    newest = made.recording.newest(RECORDER)
    if newest is None or newest.source_ns < since_ns:
        return ""
    return values_of(newest.message.status[0]).get("state", "")


def _assert_untouched(made: Bench, within, since_ns: int, until_ns: int) -> None:
    """The policy drove on all the while, every command was safe, and none was late."""
    wait(lambda: made.recording.newest(COMMAND).source_ns > until_ns, 10.0, "what comes after")
    stops = [change for change in made.recording.changes(since_ns) if change.after not in ("RETRY", "ACTIVE")]
    assert stops == []
    commands = made.recording.samples(COMMAND, since_ns, until_ns)
    within("longest silence of the arm node", max(spacing_ms(commands)), SILENCE_MS)
    made.judge.assert_safe(made.recording, since_ns)
