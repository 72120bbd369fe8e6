"""Which extra of this package brings which Python package, and the sentence for one that is not installed."""

from __future__ import annotations

EXTRAS = {
    "mujoco": "sim",
    "onnxruntime": "robot",
    "cv2": "robot",
    "mcap": "robot",
    "rosbags": "robot",
    "viser": "console",
    "websockets": "console",
    "torch": "learning",
    "tensorboard": "learning",
    "onnx": "learning",
    "onnxscript": "learning",
}
"""Module -> the extra of setup.cfg that brings it."""


def sentence_of(error: BaseException | None) -> str:
    """What is missing and how to get it, also where a package says it in words of its own; "" for any other error."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name not in EXTRAS:
        return sentence_of(error.__cause__) if isinstance(error, ImportError) else ""
    needed = f"needs the Python package '{name}', which is not installed here"
    return f"{needed}; from the sources of this package: pip install '.[{EXTRAS[name]}]' (see README)"
