"""Train clean and backdoored networks of the paper, export them to ONNX, and recompute the paper's tables."""
