"""What detectors share: ONNX Runtime, images, searches, statistics, and what a detector is."""
