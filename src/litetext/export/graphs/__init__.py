"""ONNX graphs, written node by node: of a student, and of a whole SAM3 segmenter."""
