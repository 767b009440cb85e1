"""Transforms of ONNX graphs: ModelProto -> ModelProto, never touching the argument."""
