"""Names of the tensors of a policy's ONNX graph: `learning` writes them, `inference` reads them."""

STATE_INPUT = "state"
ACTION_OUTPUT = "action"
UNCERTAINTY_OUTPUT = "uncertainty"


def image_input(camera: str) -> str:
    """Name of the graph's input for a camera."""
    return f"image.{camera}"
