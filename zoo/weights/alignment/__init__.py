"""Foreign ONNX files into known architectures: two graphs laid beside each other, so that tensors find their names."""
