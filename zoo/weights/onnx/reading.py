"""Reading an ONNX file: its initializers, mapped where they lie, and what the file says of them."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import torch

from zoo.errors import FileFormatError, NotInvertibleError
from zoo.weights.checkpoint import METADATA_KEY, Artifact, Checkpoint
from zoo.weights.onnx.external import read_external
from zoo.weights.onnx.keys import NAMES_KEY, OPTIMIZED_KEY, TENSORS_KEY
from zoo.weights.onnx.messages import Initializer, OnnxModel, read_messages
from zoo.weights.onnx.tensors import read_initializer
from zoo.weights.onnx.wire import Field, Wire
from zoo.weights.regions import Region, read_regions, regions_in
from zoo.weights.safetensors.header import read_header
from zoo.weights.sniff import likeness
from zoo.weights.strictjson import MAX_LENGTH, strict_json

_KEYS = (METADATA_KEY, NAMES_KEY, TENSORS_KEY, OPTIMIZED_KEY)
_PIECE = 1 << 18  # characters of base64 that are decoded at once


def read_onnx(path: Path, *, mapped: bool) -> Checkpoint:
    """Read the initializers of an ONNX file; of one that zoo wrote, all tensors of the model and its description.

    Args:
        path: the file; other files that it names are looked for in its folder, and nowhere else.
        mapped: whether tensors may stay in their file until they are used. Those that do not lie at a multiple of
            their width, or are lists of numbers, are read at once.

    Raises:
        FileFormatError: it is damaged, ends too early, is of another kind, or names a file that is not as it should be.
        NotInvertibleError: it is a graph for inference, from which no weights come back.
        StalePairError: its weights are in a safetensors file that was replaced since.
    """
    with path.open("rb") as file:
        wire = Wire(file)
        try:
            model = read_messages(wire, _KEYS)
            if not model.computes:
                raise ValueError("it has no graph")
        except ValueError as error:
            raise FileFormatError(path, f"not a whole ONNX file ({error}){likeness(path)}") from None
        if OPTIMIZED_KEY in model.properties:
            raise NotInvertibleError(path)
        if METADATA_KEY not in model.properties:
            return Checkpoint(*read_tensors(wire, model.initializers, path, mapped=mapped, fingerprint=None))
        artifact = Artifact.parse(_short(wire, model.properties[METADATA_KEY], METADATA_KEY, path), path)
        held = _held(wire, model, path)
        tensors, same = read_tensors(wire, held, path, mapped=mapped, fingerprint=artifact.fingerprint)
        if same:
            alias, first = next(iter(same.items()))
            raise FileFormatError(path, f"{alias!r} and {first!r} are two tensors, but lie at the same place")
        kept = _kept(wire, model, path)
    if twice := sorted(tensors.keys() & kept.keys()):
        raise FileFormatError(path, f"two tensors are called {twice[0]!r}")
    return Checkpoint({**tensors, **kept}, artifact.aliases, artifact)


def read_tensors(
    wire: Wire, wanted: Mapping[str, Initializer], path: Path, *, mapped: bool, fingerprint: str | None
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors of initializers by name, wherever they are, and which other names stand for one of them.

    Args:
        wire: the file.
        wanted: the initializers, by what to call their tensors.
        path: the file; others that it names are looked for in its folder.
        mapped: whether tensors may stay in their file until they are used.
        fingerprint: of the tensors that the graph was written for, if it says so.

    Raises:
        FileFormatError: values are not those of their dtype and shape, or are not where they are said to be.
        StalePairError: they are in a safetensors file that was replaced since.
    """
    here: dict[str, torch.Tensor] = {}
    regions: list[Region] = []
    for name, initializer in wanted.items():
        if initializer.external is not None:
            continue
        try:
            found = read_initializer(wire, initializer, name)
        except ValueError as error:
            raise FileFormatError(path, str(error)) from None
        if isinstance(found, Region):
            regions.append(found)
        else:
            here[name] = found
    here.update(read_regions(wire.file, regions, path, mapped=mapped))
    outside = {name: each for name, each in wanted.items() if each.external is not None}
    there, aliases = read_external(outside, path, mapped=mapped, fingerprint=fingerprint)
    found_in = here | there
    return {name: found_in[name] for name in wanted if name in found_in}, aliases


def _held(wire: Wire, model: OnnxModel, path: Path) -> dict[str, Initializer]:
    """Return the initializer of each tensor that the graph holds."""
    text = _short(wire, _property(model, NAMES_KEY, path), NAMES_KEY, path)
    try:
        told = strict_json(text)
    except ValueError as error:
        raise FileFormatError(path, f"its metadata is damaged ({NAMES_KEY}: {error})") from None
    if not isinstance(told, dict) or not all(isinstance(each, str) for each in told.values()):
        raise FileFormatError(path, f"its metadata is damaged ({NAMES_KEY} is not text by name)")
    owners: dict[str, str] = {}
    for name, initializer in told.items():
        if initializer not in model.initializers:
            raise FileFormatError(path, f"its metadata is damaged ({name!r} is said to be {initializer!r}, not there)")
        if owners.setdefault(initializer, name) != name:
            owner = owners[initializer]
            raise FileFormatError(path, f"its metadata is damaged ({owner!r} and {name!r} are both {initializer!r})")
    return {name: model.initializers[initializer] for name, initializer in told.items()}


def _kept(wire: Wire, model: OnnxModel, path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors that the graph does not hold."""
    try:
        content = _decoded(wire, _property(model, TENSORS_KEY, path))
    except ValueError as error:
        raise FileFormatError(path, f"its metadata is damaged ({TENSORS_KEY}: {error})") from None
    length = int.from_bytes(content[:8], "little")
    try:
        header = read_header(BytesIO(content[: 8 + min(length, MAX_LENGTH)]), len(content), path)
    except FileFormatError as error:
        raise FileFormatError(path, f"its metadata is damaged ({TENSORS_KEY}: {error.reason})") from None
    return regions_in(content, header.regions, path)


def _decoded(wire: Wire, text: Field) -> bytearray:
    """Return the bytes of a text in base64, which is never in memory as a whole."""
    size = text.end - text.begin
    if size % 4:
        raise ValueError(f"base64 of {size} characters; expected a multiple of 4")
    content = bytearray()
    for at in range(text.begin, text.end, _PIECE):
        if len(content) % 3:
            raise ValueError("base64 that goes on behind its end")
        content += binascii.a2b_base64(wire.read(at, min(at + _PIECE, text.end)), strict_mode=True)
    return content


def _property(model: OnnxModel, key: str, path: Path) -> Field:
    if key not in model.properties:
        raise FileFormatError(path, f"its metadata is damaged (it has no {key!r})")
    return model.properties[key]


def _short(wire: Wire, text: Field, key: str, path: Path) -> bytes:
    size = text.end - text.begin
    if size > MAX_LENGTH:
        raise FileFormatError(path, f"its metadata is too long ({key}: {size} bytes; at most {MAX_LENGTH} are read)")
    return wire.read(text.begin, text.end)
