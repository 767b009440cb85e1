"""One output format a file; each reads results only, and has never heard of ONNX."""
