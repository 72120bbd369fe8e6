"""From observation to action chunk: bundles, ONNX policies, scripted policies. onnxruntime lives here only."""
