"""verify: whether two files or models are the same, tensor for tensor and output for output."""
