"""Hostile vectors for benchmarks/fuzz.py: documents, texts and action tables, each a good one that is bent."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from policy_bringup.core.types import ActionChunk
from policy_bringup.safety.state import Proposal

NUMBERS = [0, -0.0, 1, -1, 0.5, 1e-308, -1e-9, 1e9, 1e308, -1e308, 2**31, 2**63, -(2**64), 10**400, 16**5000]
NUMBERS += [math.nan, math.inf, -math.inf, True, False]
DOUBLES = [number for number in NUMBERS if isinstance(number, float)]
TEXTS = ["", " ", "x" * 10_000, "\ud800", "a\0b", "../../../../etc/passwd", "nan", "1e400", "12:30:59", "tool.x", "yes"]
HOSTILE = [*NUMBERS, *TEXTS, None, b"\xff", [], {}, [[]], [None], {"a": {}}, {1: 2}, {None: None}, (1, 2)]
FRAGMENTS = [
    *("\t", "\0", "\ufeff", "\r", "---\n", "...\n", "%YAML 9.9\n---\n", "- ", "? ", ": ", "#", "|", ">", "&a ", "*a"),
    *("&a [*a]", "{<<: 1}", "? [a]\n: b\n", "? {a: b}\n: c\n", "!!binary '?'", "!!bool maybe", "!!int ''", "!!int x"),
    *("!!float ''", "!!float x", "!!timestamp x", "2026-13-45", "!!set {a}", "!!omap [a]", "!!pairs [a]", "!!null x"),
    *("!!python/object/apply:os.abort []", "!!python/name:os.abort", "!unknown x", "0x" + "f" * 5000, "0b", "9" * 5000),
    *("[" * 600, "{a: " * 600, "- " * 600, "'", '"', '"\\ud800"', '"\\xZZ"', ".nan", ".inf", "-.inf", "~", "\x85"),
    "l0: &l0 [x,x,x,x,x,x,x,x]\n" + "".join(f"l{i}: &l{i} [{','.join([f'*l{i - 1}'] * 8)}]\n" for i in range(1, 12)),
]  # fmt: skip
Fast = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Loose(yaml.SafeDumper):
    """Writes what a safe dumper refuses as its text: the file is hostile anyway."""


Loose.add_multi_representer(object, lambda dumper, data: dumper.represent_str(str(type(data))))
Loose.add_representer(int, lambda dumper, data: dumper.represent_scalar("tag:yaml.org,2002:int", hex(data)))


# Documents: data and text

LARGEST = 2**1000
"""Integers beyond it, which an earlier change may have put in, cannot be divided into a float."""


def bend(data: Any, rng: random.Random, changes: int) -> Any:
    """A copy of nested lists and dictionaries with some values, keys or items changed."""
    data = yaml.safe_load(yaml.dump(data, Dumper=Fast)) if rng.random() < 0.01 else _copy(data)
    for _ in range(changes):
        holder = rng.choice(list(_holders(data)))
        if not holder:
            continue
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        _bend_at(holder, key, rng)
    return data


def _bend_at(holder: Any, key: Any, rng: random.Random) -> None:
    what = rng.randrange(7)
    old = holder[key]
    if what <= 2:
        holder[key] = _copy(rng.choice(HOSTILE))
    elif what == 3 and (isinstance(old, float) or (type(old) is int and abs(old) < LARGEST)):
        holder[key] = rng.choice([-old, old * 10, old / 7, old + 1, math.nextafter(old, math.inf), rng.uniform(-9, 9)])
    elif what == 4:
        del holder[key]
    elif what == 5 and isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), _copy(old))
    elif isinstance(holder, dict):
        holder[rng.choice([*TEXTS, 7, None, 2.5, True, 16**5000])] = holder.pop(key)
    else:
        holder[key] = [old] * rng.choice([0, 2, 100])


def _holders(data: Any) -> Iterator[Any]:
    if isinstance(data, (dict, list)):
        yield data
        for value in data.values() if isinstance(data, dict) else data:
            yield from _holders(value)


def _copy(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _copy(value) for key, value in data.items()}
    return [_copy(value) for value in data] if isinstance(data, list) else data


def spoil(text: str, rng: random.Random) -> bytes:
    """The text with bytes flipped, cut out, doubled, or hostile YAML put in."""
    data = bytearray(text.encode())
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        what = rng.randrange(5)
        if what == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif what == 1:
            del data[at : at + rng.choice([1, 2, 30, 10_000])]
        elif what == 2:
            data[at:at] = data[max(0, at - rng.randint(1, 60)) : at]
        else:
            data[at:at] = rng.choice(FRAGMENTS).encode("utf-8", "surrogatepass")
    return bytes(data)


def manifest(contract: Any) -> dict[str, Any]:
    """A policy.yaml that is accepted."""
    cameras = [image["camera"] for image in contract["observation"]["images"]]
    return {
        "format": 1,
        "contract": contract,
        "uncertainty": {"kind": "ensemble", "threshold": 0.5, "false_alarm_rate": 0.05, "calibration_episodes": 40},
        "fingerprint": {
            "cameras": {camera: [float(i) for i in range(64)] for camera in cameras},
            "start_pose": [0.0] * len(contract["observation"]["state"]),
        },
        "onnx": {"file": "policy.onnx", "sha256": "0" * 64, "opset": 17, "parity_max_abs_error": 1e-6},
        "files": {"parity.npz": "1" * 64},
        "provenance": {"dataset": "d", "configuration": "c", "code": "a"},
    }


# Action tables


def stamp(ns: int) -> Any:
    """A time as a message holds it."""
    return SimpleNamespace(sec=ns // 10**9, nanosec=ns % 10**9)


def spoil_table(message: Any, rng: random.Random) -> None:
    """Up to three changes that a message can carry: any double, any int32 seconds, any text, any lengths."""
    for _ in range(rng.randint(0, 3)):
        point = rng.choice(message.points) if message.points else None
        what = rng.randrange(9)
        if what == 0 and point and point.positions:
            at = rng.randrange(len(point.positions))
            point.positions[at] = float(np.frombuffer(rng.randbytes(8), np.float64)[0])
        elif what == 1 and point and point.positions:
            at = rng.randrange(len(point.positions))
            bent = point.positions[at] * (1 + rng.uniform(-0.2, 0.2))
            point.positions[at] = rng.choice([*DOUBLES, -point.positions[at], bent])
        elif what == 2 and point:
            point.positions = rng.choice([[], point.positions[:-1], point.positions * 2, point.positions[::-1]])
        elif what == 3 and point:
            point.time_from_start.sec = rng.choice([0, -1, 2**31 - 1, -(2**31)])
        elif what == 4 and point:
            point.time_from_start.nanosec = rng.choice([0, 1, 2**32 - 1, rng.randrange(10**9)])
        elif what == 5:
            points = message.points
            message.points = rng.choice([[], points[:1], points * 2, points[::-1], points * 70])
        elif what == 6:
            names = message.joint_names
            message.joint_names = rng.choice([[], names[:-1], names[::-1], names + names, [*TEXTS], names * 10])
        elif what == 7:
            sec = message.header.stamp.sec
            message.header.stamp.sec = rng.choice([0, -(2**31), 2**31 - 1, sec - 1, sec + 1])
        else:
            message.header.stamp.nanosec = rng.choice([0, 2**32 - 1, rng.randrange(10**9)])


def past_the_wire(chunk: ActionChunk, rng: random.Random) -> object:
    """Python objects that no message can hold: the monitor must not depend on who decoded them."""
    hostile: list[Any] = [
        *HOSTILE, object(), ActionChunk, np.nan, np.float64(1), np.int64(2**62), np.zeros(0), {"x"}, lambda: 0,
        np.zeros((16, 8), np.float32), np.zeros((16, 8), complex), np.zeros((16, 8), object), np.zeros(10**6),
        np.zeros(16, "datetime64[ns]"), np.ma.zeros((16, 8)), np.full((16, 8), np.nan), np.zeros((2, 2, 2)),
        np.broadcast_to(0.0, (16, 8)),
    ]  # fmt: skip
    field = rng.choice([f.name for f in dataclasses.fields(ActionChunk)])
    what = rng.random()
    if what < 0.05:
        return rng.choice(hostile)
    if what < 0.15:
        return Proposal(rng.choice(hostile), 1)
    if what < 0.25:
        return Proposal(chunk, rng.choice(hostile))
    return Proposal(dataclasses.replace(chunk, **{field: rng.choice(hostile)}), 1)
