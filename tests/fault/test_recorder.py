"""A recorder in trouble: fault 19. A deployment of its own, with nothing else running beside it."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import numpy as np
import pytest
from harness.bench import CONFIG, Bench, bench
from harness.recording import COMMAND, spacing_ms, wait, waited
from harness.stack import ROOT
from std_srvs.srv import Trigger

from policy_bringup.core.decoding import values_of

MAY_MOUNT = os.geteuid() == 0
NEEDED_MB = 30
PIECE, PAUSE_S = 2**20, 0.01
"""How others fill the disk: bytes at a time."""
RECORDER = "recorder/state"
SILENCE_MS = 110.0
"""The arm node's own watchdog and a tick: that nobody may hold it up for longer."""


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


def _record_in_motion(made: Bench, rng: np.random.Generator) -> None:
    """Asks until it records: DDS may lose an answer of a recorder that has just begun to live."""
    since_ns = made.recording.mark("a recording is asked for")()
    for _ in range(10):
        made.operator.ask("recorder/start", Trigger.Request())
        if waited(lambda: _recorder_state(made, since_ns) == "recording", 6.0):
            made.set_in_motion(rng)
            return
    raise AssertionError("no recording began")


@pytest.mark.fault(
    19, "overload (the recorder stands still for 1 s, then catches up): motion goes on, no command is late"
)
def test_an_overloaded_recorder_does_not_touch_the_motion(recorded, rng, within):
    _record_in_motion(recorded, rng)
    began_ns = recorded.recording.mark("recorder SIGSTOP")()
    recorded.stack.children["recorder"].send_signal(signal.SIGSTOP)
    recorded.let(1.0)
    recorded.stack.children["recorder"].send_signal(signal.SIGCONT)
    _assert_untouched(recorded, within, began_ns, recorded.recording.mark("recorder SIGCONT")() + 5 * 10**8)


@pytest.mark.fault(19, "recorder SIGKILL: motion goes on, no command is late")
def test_a_killed_recorder_does_not_touch_the_motion(recorded, rng, within):
    _record_in_motion(recorded, rng)
    began_ns = recorded.recording.mark("recorder SIGKILL")()
    recorded.stack.kill("recorder")
    try:
        _assert_untouched(recorded, within, began_ns, began_ns + 10**9)
    finally:
        recorded.stack.respawn("recorder")


@pytest.mark.skipif(not MAY_MOUNT, reason="mounting a small file system needs root")
@pytest.mark.fault(19, "disk full: the recording fails with a sentence; motion goes on, no command is late")
def test_a_full_disk_does_not_touch_the_motion(recorded, rng, within):
    _record_in_motion(recorded, rng)
    began_ns = recorded.recording.mark("the disk fills")()
    dataset = recorded.folder / "demos"
    fill = dataset / "others.bin"
    others = shutil.disk_usage(dataset).free - NEEDED_MB * 10**6 - 2 * 10**6
    try:
        with fill.open("wb") as file:
            for start in range(0, others, PIECE):  # in one go the kernel would hold up everybody
                os.posix_fallocate(file.fileno(), start, min(PIECE, others - start))
                time.sleep(PAUSE_S)
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
