"""A model's file opened as a backend: PyTorch or ONNX Runtime."""
