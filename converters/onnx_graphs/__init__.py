"""What becomes of a torch module on its way to an ONNX file, and back from the file to a function."""
