"""Models on disk: one header in safetensors and ONNX files, and the bundled models."""
