"""The ONNX format: the reader walks over the graph, the writer exports and streams it."""
