"""Convert weights files, as ``zoo convert`` does: python scripts/convert_weights.py net.pt net.safetensors."""

from __future__ import annotations

from zoo.cli.weights import convert

if __name__ == "__main__":
    convert(prog_name="convert_weights.py")
