"""Export of a trained model: an ONNX file, a web page, C for microcontrollers."""
