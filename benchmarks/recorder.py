"""What the recorder loses, and what it costs: cameras of 640x480 at 30 Hz and joint states at 100 Hz, over real topics.

The recorder node is a process of its own; so is every camera. Afterwards its writer alone, a plain mcap writer and a
plain rosbags writer write the same messages in one go, without counting or judging anything.
Run: python benchmarks/recorder.py [--seconds 600] [--cameras 3] [--overload] [--json FILE]
With --overload more is sent than can be written (three times the cameras, a small queue, and the recorder's process is
held up for a second again and again): then every message must be in the bag or in the counts. Messages carry their
number, so that this is checked against what was sent.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import tyro
import yaml
from plain_writers import own_writer, plain_mcap, plain_rosbags
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from recorder_alone import (
    HEIGHT,
    ROOT,
    WIDTH,
    await_publishers,
    deployment_with_cameras,
    end,
    press,
    recorder_process,
    start_recording,
)
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import JointState

from policy_bringup.core.startup import environment
from policy_bringup.episodes.journal import load_journal
from policy_bringup.episodes.layout import episodes
from policy_bringup.episodes.reader import open_bag
from policy_bringup.nodes import endpoints, image_messages, messages

SCENES = 30
LAST, SLOW_S = 15, 0.2
OVERLOAD = 3
SMALL_QUEUE_MB = 24
HELD_UP_S = 1.0
WRITERS = {"own": own_writer, "mcap": plain_mcap, "rosbags": plain_rosbags}


@dataclass(frozen=True)
class Recorder:
    """Records for a while, then says what was lost."""

    seconds: float = 600.0
    cameras: int = 3
    overload: bool = False
    json: Path | None = None
    domain_id: int = 72
    send: str = ""
    """Used by this program itself: send this topic until told to stop."""


def send(topic: str) -> int:
    """A camera or a robot: publishes at the rate of core/graph.py until SIGTERM."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    is_camera = topic.startswith("camera/")
    node = Node("camera" if is_camera else "sim")
    output, period_s = endpoints.publisher(node, topic), (1 / 30 if is_camera else 1 / 100)
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    shifted = (np.roll(noise, 8 * i, axis=1) for i in range(SCENES if is_camera else 0))
    scenes = [image_messages.image_message(pixels, 0, topic.split("/")[1]) for pixels in shifted]
    due, count, left = time.monotonic(), 0, None
    while left is None or left > 0:
        stamp = messages.time_of(node.get_clock().now().nanoseconds)
        message: Any = scenes[count % SCENES] if is_camera else _joints(count)
        message.header.stamp, message.header.frame_id = stamp, str(count)
        output.publish(message)
        count += 1
        # Before it goes it slows down: the last messages then find room, and the bag shows where the numbers end.
        left = LAST if stopped and left is None else left
        if left is not None:
            left -= 1
        due = max(due, time.monotonic() - 1.0) + (period_s if left is None else SLOW_S)
        time.sleep(max(0.0, due - time.monotonic()))
    node.destroy_node()  # before the interpreter is taken apart, under the feet of DDS's threads
    rclpy.shutdown()
    return 0


def _joints(count: int) -> JointState:
    names = [f"panda_joint{i + 1}" for i in range(7)] + ["panda_finger_joint1", "panda_finger_joint2"]
    positions = [0.3 * float(np.sin(count / 100 + i)) for i in range(7)] + [0.02, 0.02]
    return JointState(name=names, position=positions, velocity=[0.0] * 9, effort=[0.0] * 9)


def start_senders(topics: Sequence[str], domain_id: int) -> list[subprocess.Popen[bytes]]:
    """One process per topic; this process hears them too."""
    os.environ.update(environment(ROOT / "config", domain_id, pictures=True))
    program = [sys.executable, str(ROOT / "benchmarks" / "recorder.py"), "--domain-id", str(domain_id), "--send"]
    return [subprocess.Popen([*program, topic], stdout=subprocess.DEVNULL) for topic in topics]


def record(choice: Recorder, site: Path) -> tuple[Path, float, float]:
    """Returns the episode's folder, the recorder's share of a core, and the seconds that stopping took."""
    cameras = [f"cam{i}" for i in range(choice.cameras * (OVERLOAD if choice.overload else 1))]
    deployment = deployment_with_cameras(site, cameras)
    if choice.overload:
        shrink_queue(deployment.parent / "recorder.yaml")
    plan = recorder_process(deployment, site / "demos", choice.domain_id)
    topics = [*(f"camera/{camera}/image_raw" for camera in cameras), "joint_states"]
    started = start_senders(topics, choice.domain_id)
    recorder = subprocess.Popen(plan.command, env=plan.environment)
    try:
        rclpy.init()
        node, executor = Node("operator"), SingleThreadedExecutor()
        executor.add_node(node)
        await_publishers(node, executor, topics)
        start_recording(node, executor)
        used, began = _cpu_s(recorder.pid), time.monotonic()
        while (left := choice.seconds - (time.monotonic() - began)) > 0:
            print(f"\r{left:4.0f} s left ", end="", file=sys.stderr, flush=True)
            if choice.overload:
                hold_up(recorder)
            time.sleep(min(1.0, left))
        share = (_cpu_s(recorder.pid) - used) / (time.monotonic() - began)
        if choice.overload:
            end(started)
        asked = time.monotonic()
        print(f"\r{press(node, executor, 'recorder/stop')}")
        took_s = time.monotonic() - asked
    finally:
        end([*started, recorder])
        rclpy.try_shutdown()
    (folder,) = episodes(site / "demos")
    return folder, share, took_s


def hold_up(recorder: subprocess.Popen[bytes]) -> None:
    """For longer than DDS keeps pictures: a machine that writes as fast as nine cameras send is overloaded, too."""
    recorder.send_signal(signal.SIGSTOP)
    try:
        time.sleep(HELD_UP_S)
    finally:
        recorder.send_signal(signal.SIGCONT)  # else a Ctrl+C would wait for its end in vain


def shrink_queue(path: Path) -> None:
    """Of the recorder's configuration, which is a link to the real one."""
    data = yaml.safe_load(path.read_text())
    path.unlink()
    path.write_text(yaml.safe_dump({**data, "queue_mb": SMALL_QUEUE_MB}))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def unaccounted(folder: Path, counts: dict[str, dict[str, int]]) -> dict[str, int]:
    """By topic: messages sent during the recording, by their numbers, less those in the bag and in the counts."""
    numbers: dict[str, list[int]] = {topic: [] for topic in counts if topic != "/diagnostics"}
    with open_bag(folder) as bag:
        for message in bag.messages(numbers):
            (length,) = struct.unpack_from("<I", message.data, 12)  # after CDR's four bytes and the stamp
            numbers[message.topic].append(int(message.data[16 : 16 + length - 1]))
    sent = {topic: max(found) - min(found) + 1 for topic, found in numbers.items()}
    known = {topic: sum(counts[topic][part] for part in ("written", "dropped", "lost")) for topic in sent}
    return {topic: sent[topic] - known[topic] for topic in sent}


def main(choice: Recorder) -> int:
    """Prints the tables; 0 if nothing was lost, or in an overload, if something was and all of it was counted."""
    if choice.send:
        return send(choice.send)
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as scratch:
        folder, share, took_s = record(choice, Path(scratch))
        journal = load_journal(folder)
        megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        report: dict[str, Any] = {
            "topics": {name: vars_of(count) for name, count in journal.counts.items() if count.received},
            "cpu_share": share,
            "mb_per_s": megabytes / choice.seconds,
            "stop_s": took_s,
            "cpu_s_per_gb": share * choice.seconds / megabytes * 1000,
        }
        for who, write in WRITERS.items():
            spent = write(folder, Path(scratch) / who)
            report |= {f"{who}_cpu_s_per_gb": spent.cpu_s_per_gb, f"{who}_mb_per_s": spent.mb_per_s}
        report["unaccounted"] = unaccounted(folder, report["topics"])
    show(report)
    if choice.json:
        choice.json.write_text(json.dumps(report, indent=2))
    lost = sum(count["dropped"] + count["lost"] for count in report["topics"].values())
    accounted = not any(report["unaccounted"].values())
    return 0 if accounted and (lost > 0) is choice.overload else 1


def vars_of(count: Any) -> dict[str, int]:
    """A TopicCount as plain numbers."""
    return {name: getattr(count, name) for name in ("received", "written", "dropped", "lost")}


def show(report: dict[str, Any]) -> None:
    """The same, for a person."""
    table = Table(title="messages")
    for heading in ("topic", "received", "written", "dropped", "lost by DDS"):
        table.add_column(heading, justify="left" if heading == "topic" else "right")
    for name, count in report["topics"].items():
        table.add_row(name, *(str(value) for value in count.values()))
    Console().print(table)
    print(f"sent, but neither in the bag nor counted: {sum(map(abs, report['unaccounted'].values()))}")
    print(f"recorder node: {100 * report['cpu_share']:.0f} % of a core")
    print(f"stop to verdict: {report['stop_s']:.2f} s")
    print("To disk; the node writes as fast as it hears, and also receives, counts, judges and syncs:")
    for who, name in {"": "recorder node", **{f"{who}_": f"{who}, alone" for who in WRITERS}}.items():
        print(f"  {name}: {report[who + 'mb_per_s']:.0f} MB/s, {report[who + 'cpu_s_per_gb']:.1f} CPU seconds per GB")


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Recorder)))
