"""Backbones: from the input tensor to feature maps."""
