"""Export of a trained model to an ONNX file that any program with onnxruntime can run."""
