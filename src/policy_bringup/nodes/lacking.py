"""A Python package that is not installed is one sentence and exit code 2, like all that a node refuses to start with.

A ROS installation brings rclpy and the messages, and none of what is named here. A node's imports come before anything
of it runs, so it is the end of its process that has to say this: nodes/__init__.py, which is loaded first, arranges it.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType

from policy_bringup.core.extras import sentence_of


def say_and_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As sys.excepthook: the sentence and exit code 2, or what Python does with any other error."""
    sentence = sentence_of(error)
    if not sentence:
        sys.__excepthook__(kind, error, trace)
        return
    print(sentence, file=sys.stderr, flush=True)
    os._exit(2)
