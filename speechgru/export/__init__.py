"""A trained model as one ONNX file that any program with onnxruntime can run."""
