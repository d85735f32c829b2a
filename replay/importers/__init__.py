"""From model files to programs. Importing this package loads neither onnx nor torch."""
