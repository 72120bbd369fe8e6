"""A Python package that is not installed is one sentence and exit code 2, like all that a node refuses to start with.

A ROS installation brings rclpy and the messages, and none of what is named here. A node's imports come before anything
of it runs, so it is the end of its process that has to say this: nodes/__init__.py, which is loaded first, arranges it.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType

EXTRAS = {
    "mujoco": "sim",
    "onnxruntime": "robot",
    "cv2": "robot",
    "mcap": "robot",
    "rosbags": "robot",
    "viser": "console",
    "websockets": "console",
}
"""Module -> the extra of setup.cfg that brings it."""


def sentence_of(error: BaseException | None) -> str:
    """What is missing and how to get it, also where a package says it in words of its own; "" for any other error."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name not in EXTRAS:
        return sentence_of(error.__cause__) if isinstance(error, ImportError) else ""
    needed = f"needs the Python package '{name}', which is not installed here"
    return f"{needed}; from the sources of this package: pip install '.[{EXTRAS[name]}]' (see README)"


def say_and_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As sys.excepthook: the sentence and exit code 2, or what Python does with any other error."""
    sentence = sentence_of(error)
    if not sentence:
        sys.__excepthook__(kind, error, trace)
        return
    print(sentence, file=sys.stderr, flush=True)
    os._exit(2)
