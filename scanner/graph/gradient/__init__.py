"""Reverse-mode differentiation: from an ONNX model to one that also computes gradients."""
