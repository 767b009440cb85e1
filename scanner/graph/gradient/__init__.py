"""Reverse-mode differentiation: an ONNX model in, an ONNX model that also computes gradients out."""
