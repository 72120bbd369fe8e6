"""A recorder in trouble: fault 19. A deployment of its own, with nothing else running beside it."""

import os
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.bench import CONFIG, Bench, bench
from harness.recording import COMMAND, JOINTS, SAFE, VERDICT, spacing_ms, wait
from harness.stack import ROOT
from std_srvs.srv import Trigger

from policy_bringup.episodes.journal import Journal, Outcome, load_journal
from policy_bringup.episodes.layout import episodes
from policy_bringup.episodes.reader import open_bag
from policy_bringup.episodes.recovery import is_clean

MAY_MOUNT = os.geteuid() == 0
NEEDED_MB = 30
PIECE, PAUSE_S = 2**20, 0.01
"""How others fill the disk: bytes at a time."""
SILENCE_MS = 110.0
"""The arm node's own watchdog and a tick: that nobody may hold it up for longer."""
TAIL_MS = 600.0
"""What a kill may cost of the end of any stream."""
START_S = 30.0


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


@pytest.mark.fault(
    19,
    "overload (the recorder stands still for 1 s, then catches up): motion goes on, no command is late; "
    "every message that was sent is in the bag or counted",
)
def test_an_overloaded_recorder_does_not_touch_the_motion(recorded, rng, within):
    recorded.record_in_motion(rng)
    began_ns = recorded.recording.mark("recorder SIGSTOP")()
    recorded.stack.children["recorder"].send_signal(signal.SIGSTOP)
    recorded.let(1.0)
    recorded.stack.children["recorder"].send_signal(signal.SIGCONT)
    _assert_untouched(recorded, within, began_ns, recorded.recording.mark("recorder SIGCONT")() + 5 * 10**8)
    recorded.operator.call("recorder/stop", Trigger.Request())
    _assert_accounted(recorded, _newest_episode(recorded))


@pytest.mark.fault(
    19,
    "recorder SIGKILL: motion goes on, no command is late; the next start makes the bag readable, at most 0.6 s short",
)
def test_a_killed_recorder_does_not_touch_the_motion(recorded, rng, within):
    recorded.record_in_motion(rng)
    recorded.let(1.0)
    began_ns = recorded.recording.mark("recorder SIGKILL")()
    recorded.stack.kill("recorder")
    folder = _newest_episode(recorded)
    try:
        _assert_untouched(recorded, within, began_ns, began_ns + 10**9)
        assert not is_clean(folder)
    finally:
        recorded.stack.respawn("recorder")
    wait(lambda: recorded.recorder_state(began_ns) == "idle", START_S, "the next recorder")
    assert is_clean(folder)
    journal = load_journal(folder)
    assert (journal.recovered, journal.outcome) == (True, Outcome.FAILURE)
    spans = _assert_held(folder, journal)
    for topic in (JOINTS, SAFE, COMMAND):
        within(f"missing at the end of {topic}", max(0.0, (began_ns - spans[topic][1]) / 1e6), TAIL_MS)


@pytest.mark.skipif(not MAY_MOUNT, reason="mounting a small file system needs root")
@pytest.mark.fault(
    19,
    "disk full: the recording fails with a sentence; motion goes on, no command is late; "
    "what was sent until then is in the bag or counted",
)
def test_a_full_disk_does_not_touch_the_motion(recorded, rng, within):
    recorded.record_in_motion(rng)
    began_ns = recorded.recording.mark("the disk fills")()
    dataset = recorded.folder / "demos"
    fill = dataset / "others.bin"
    others = shutil.disk_usage(dataset).free - NEEDED_MB * 10**6 - 2 * 10**6
    try:
        with fill.open("wb") as file:
            for start in range(0, others, PIECE):  # in one go the kernel would hold up everybody
                os.posix_fallocate(file.fileno(), start, min(PIECE, others - start))
                time.sleep(PAUSE_S)
        wait(lambda: recorded.recorder_state(began_ns) == "failed", 30.0, "the end of the recording")
        _assert_untouched(recorded, within, began_ns, recorded.recording.mark("the disk is full")() + 5 * 10**8)
        _assert_accounted(recorded, _newest_episode(recorded))
    finally:
        fill.unlink()


def _assert_untouched(made: Bench, within, since_ns: int, until_ns: int) -> None:
    """The policy drove on all the while, every command was safe, and none was late."""
    for topic in (COMMAND, VERDICT):
        _await(made, topic, until_ns)
    stops = [change for change in made.recording.changes(since_ns) if change.after not in ("RETRY", "ACTIVE")]
    assert stops == []
    commands = made.recording.samples(COMMAND, since_ns, until_ns)
    within("longest silence of the arm node", max(spacing_ms(commands)), SILENCE_MS)
    made.judge.assert_safe(made.recording, since_ns)


def _await(made: Bench, topic: str, ns: int) -> None:
    """Until the test itself has heard what was published on a topic up to then, which may reach others earlier."""
    wait(lambda: made.recording.newest(topic).source_ns >= ns, 10.0, f"{topic} up to {ns}")


def _newest_episode(made: Bench) -> Path:
    return episodes(made.folder / "demos")[-1]


def _assert_held(folder: Path, journal: Journal) -> dict[str, tuple[int, int]]:
    """The bag is read to its end, and holds what the journal counts as written. Returns when the first and the last
    message of each topic in it were published: what DDS had to send again stands in the bag by its arrival."""
    published: dict[str, list[int]] = defaultdict(list)
    with open_bag(folder) as bag:
        for message in bag.messages():
            published[message.topic].append(message.publish_ns)
    for topic, count in journal.counts.items():
        assert len(published[topic]) == count.written, topic
        assert count.received == count.written + count.dropped, topic
    assert published[COMMAND]
    return {topic: (min(times), max(times)) for topic, times in published.items() if times}


def _assert_accounted(made: Bench, folder: Path) -> None:
    """Of what was sent between the first and the last message in the bag, by the publisher's own numbers, nothing is
    neither in the bag nor counted as dropped or lost."""
    assert is_clean(folder)
    journal = load_journal(folder)
    spans = _assert_held(folder, journal)
    for topic in (JOINTS, SAFE, COMMAND):
        _await(made, topic, spans[topic][1])
        numbers = [sample.sequence for sample in made.recording.samples(topic, *spans[topic])]
        sent, count = max(numbers) - min(numbers) + 1, journal.counts[topic]
        assert count.written <= sent <= count.written + count.dropped + count.lost, (topic, sent, count)
