"""The PyTorch format: a pickle that is read as data, in a zip or not."""
