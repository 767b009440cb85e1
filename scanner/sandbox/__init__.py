"""The process that reads hostile files: started, confined, asked, and ended. It knows no ONNX."""
