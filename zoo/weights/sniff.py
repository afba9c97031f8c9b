"""What a file looks like by its first bytes, for error messages."""

from __future__ import annotations

from pathlib import Path


def likeness(path: Path) -> str:
    """Return a remark about what kind of file this seems to be, or nothing if that cannot be told."""
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        return "; the file is empty"
    if head.startswith(b"PK\x03\x04"):
        return "; it begins like a zip, which torch.save writes (.pt)"
    if head.startswith(b"\x80") and head[1:2] <= b"\x05":
        return "; it begins like a pickle"
    if head[8:9] == b"{":
        return "; it begins like safetensors"
    if head.startswith(b"\x08"):
        return "; it begins like ONNX"
    return ""
