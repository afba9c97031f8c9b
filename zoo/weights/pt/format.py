"""The PyTorch format: a plain state dict that ``torch.load(weights_only=True)`` opens; the artifact rides along.

The artifact is an attribute of the ordered dict, where ``load_state_dict`` and everything else ignores it. Reading
unpickles nothing: the pickle is read as data, and the tensors come from their places in the file.

Source: ``torch/serialization.py``; both the zip of torch 1.6 and later and the older sequence of pickles are read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

from zoo.errors import FileFormatError, SeveralWeightsError, UnsafeFileError
from zoo.weights.checkpoint import METADATA_KEY, Artifact, Checkpoint
from zoo.weights.durable import replacing
from zoo.weights.migration.report import Unwrapping
from zoo.weights.pt import pickled
from zoo.weights.pt.containers import Found, kind_of, names_of, told_of, weights_within
from zoo.weights.pt.records import StorageRecord, TensorRecord, as_mapping, as_storage, as_tensor, strangers
from zoo.weights.pt.zipmembers import Member, members_of
from zoo.weights.regions import Region, dense, read_regions
from zoo.weights.sniff import likeness
from zoo.weights.strictjson import brief

if TYPE_CHECKING:
    from zoo.model import Model

_FEW_STEPS = 1000  # for a number and a small table
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_EXPANDED = 1 << 20  # what a view may claim beyond its file, in bytes: torch.zeros(1).expand(100) is honest


class PyTorch:
    """Reads and writes ``.pt`` and ``.pth`` files; reading maps the file and never runs anything of it."""

    def write(self, model: Model | None, checkpoint: Checkpoint, path: Path) -> None:
        """Write an artifact, whole or not at all."""
        state = OrderedDict(_compact(checkpoint.state_dict()))
        if checkpoint.artifact is not None:
            setattr(state, METADATA_KEY, checkpoint.artifact.dump())
        with replacing(path) as temporary, temporary.open("wb") as file:
            writer = _Writer(file)
            try:
                # A file object, not its name: torch writes the name of a file into it.
                torch.save(state, writer)  # type: ignore[arg-type] # all that it uses is write
            except RuntimeError as error:  # what a full disk becomes inside torch
                raise writer.failure or OSError(f"torch.save failed: {error}") from error

    has_places = True

    def read(self, path: Path, *, mapped: bool = True, within: str | None = None) -> Checkpoint:
        """Read a file; its tensors are mapped unless asked otherwise.

        A checkpoint of a training run has its weights in a dict within, beside the state of the optimiser and more.

        Args:
            path: the file.
            mapped: whether tensors may stay in the file until they are used.
            within: which weights, where a checkpoint has several: ``"ema"``. What follows the name of a dict that
                has some is not looked at here. Keys may have dots; where two places are then called the same, the
                error names both with quotes: ``'"a.b"'`` and ``'"a"."b"'``.

        Raises:
            SeveralWeightsError: a checkpoint has several dicts of weights, and nobody says which.
            UnsafeFileError: it is a pickle that holds no weights, or asks for what no checkpoint needs.
            FileFormatError: it is damaged, ends too early or is of another kind.
        """
        with path.open("rb") as file:
            try:
                told, places = _locate(file, path)
                records, attributes, unwrapping = _state_dict(told, path, within)
                storages = _storages(file, records, places, path, mapped=mapped)
            except ValueError as error:
                raise FileFormatError(path, f"not a whole PyTorch file: {error}{likeness(path)}") from None
        tensors = {name: record.view(storages[record.storage.key]) for name, record in records.items()}
        artifact = Artifact.parse(attributes[METADATA_KEY], path) if METADATA_KEY in attributes else None
        aliases = dict(artifact.aliases) if artifact else _same_view(records)
        for alias, first in aliases.items():
            # What torch.load gives must be what is given here: two names of one tensor are one view of one storage.
            if first in records and alias not in records:
                raise FileFormatError(path, f"{brief(alias)} stands for another tensor and is not there")
            if alias in records and records[alias] != records.get(first):
                raise FileFormatError(path, f"{brief(alias)} is a tensor and stands for another one")
        kept = {name: tensor for name, tensor in tensors.items() if name not in aliases}
        return Checkpoint(kept, aliases, artifact, order=tuple(tensors), unwrapping=unwrapping)


class _Writer:
    """A file that remembers why it could not be written, for torch tells only that it was not."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _compact(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give each tensor a storage of its own size, for torch.save writes whole storages; tied ones stay one object."""
    compact: dict[int, torch.Tensor] = {}
    taken: set[int] = set()
    for tensor in state.values():
        if id(tensor) in compact:
            continue
        here = dense(tensor)
        storage = here.untyped_storage()
        fits = storage.nbytes() == here.nbytes and storage.data_ptr() not in taken
        if here.numel():
            taken.add(storage.data_ptr())
        compact[id(tensor)] = here if fits else here.clone(memory_format=torch.contiguous_format)
    return {name: compact[id(tensor)] for name, tensor in state.items()}


def _locate(file: BinaryIO, path: Path) -> tuple[Any, Mapping[str, Member]]:
    """Return what the pickle of a file says, which asks for nothing strange, and where the storages are by key."""
    first = file.read(4)
    size = file.seek(0, 2)
    if first == b"PK\x03\x04":
        told, places = _from_zip(file, members_of(file, size))
        _refuse_strangers(told, path)
        return told, places
    if first[:1] != b"\x80":
        raise ValueError("it is neither a zip nor a pickle")
    file.seek(0)
    stream = BytesIO(file.read(pickled.MAX_LENGTH))
    told = pickled.read_pickle(stream)
    _refuse_strangers(told, path)
    if told != _LEGACY_MAGIC:
        return told, {}
    version, facts = pickled.read_pickle(stream, _FEW_STEPS), pickled.read_pickle(stream, _FEW_STEPS)
    if version != 1001 or not isinstance(facts, dict) or facts.get("little_endian") is not True:
        raise ValueError(f"it is of version {brief(version)}, not of version 1001 or of another byte order")
    told, keys = pickled.read_pickle(stream), pickled.read_pickle(stream, pickled.MAX_STEPS // 8)
    _refuse_strangers(told, path)
    return told, _from_sequence(file, stream.tell(), size, told, keys)


def _from_zip(file: BinaryIO, members: Mapping[str, Member]) -> tuple[Any, Mapping[str, Member]]:
    pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError(f"a zip with {len(pickles) or 'no'} data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    written = members.get(f"{root}byteorder")
    if written is not None and written.size > 20:
        raise ValueError(f"its byte order takes {written.size} bytes; expected b'little'")
    order = _content(file, written)
    if order not in (b"little", b""):
        raise ValueError(f"its byte order is {order[:20]!r}; only b'little' is read")
    if members[pickles[0]].size > pickled.MAX_LENGTH:
        raise ValueError(f"its pickle has {members[pickles[0]].size} bytes; at most {pickled.MAX_LENGTH} are read")
    told = pickled.read_pickle(BytesIO(_content(file, members[pickles[0]])))
    prefix = f"{root}data/"
    return told, {name.removeprefix(prefix): each for name, each in members.items() if name.startswith(prefix)}


def _content(file: BinaryIO, member: Member | None) -> bytes:
    if member is None:
        return b""
    file.seek(member.offset)
    return file.read(member.size)


def _from_sequence(file: BinaryIO, at: int, size: int, told: Any, keys: Any) -> dict[str, Member]:
    """Find the storages of the older format: each follows the one before, after its count of elements."""
    stored = (as_storage(each) for each in pickled.contents(told) if isinstance(each, pickled.Stored))
    itemsizes = {storage.key: storage.dtype.itemsize for storage in stored}
    places: dict[str, Member] = {}
    for key in keys if isinstance(keys, list) else (None,):
        if not isinstance(key, str) or key not in itemsizes or key in places:
            raise ValueError("its list of storages is not that of its tensors")
        file.seek(at)
        length = int.from_bytes(file.read(8), "little") * itemsizes[key]
        if at + 8 + length > size:
            raise ValueError(f"a storage ends at byte {at + 8 + length}, the file at byte {size}")
        places[key] = Member(at + 8, length)
        at += 8 + length
    return places


def _state_dict(
    told: Any, path: Path, within: str | None
) -> tuple[Mapping[str, TensorRecord], Mapping[str, Any], Unwrapping | None]:
    found = as_mapping(told)
    if found is None:
        kind = "tensor" if isinstance(told, pickled.Called) else kind_of(told)
        raise UnsafeFileError(path, f"it holds a {kind}, not a plain state dict of named tensors")
    items, attributes = found
    if not all(isinstance(name, str) for name in items):
        raise UnsafeFileError(path, "it holds a dict whose keys are no text, not a plain state dict of named tensors")
    plain = {name: record for name, value in items.items() if (record := as_tensor(value)) is not None}
    if len(plain) == len(items):
        return plain, attributes, None
    candidates = weights_within(told)
    if not candidates:
        others = [f"{brief(name)} ({kind_of(items[name])})" for name in items if name not in plain]
        raise UnsafeFileError(
            path, f"it holds more than tensors, so it is no plain state dict: {', '.join(others[:5])}"
        )
    chosen = _chosen(candidates, within, path)
    return chosen.records, chosen.attributes, told_of(items, chosen, candidates)


def _chosen(candidates: list[Found], within: str | None, path: Path) -> Found:
    if len(candidates) == 1:
        return candidates[0]  # what is asked for within may be the beginning of its names
    asked = f"{within or ''}."
    fitting = [each for each in candidates if asked.startswith(f"{each.within}.")]
    longest = max((len(each.within) for each in fitting), default=0)
    found = [each for each in fitting if len(each.within) == longest]
    if len(found) == 1:
        return found[0]
    raise SeveralWeightsError(path, [each.within for each in candidates], list(names_of(candidates)), within)


def _refuse_strangers(told: Any, path: Path) -> None:
    for name in strangers(told):
        if name.startswith("torch._utils._rebuild_"):
            raise UnsafeFileError(path, f"it holds a tensor of a kind that no layer can use ({name})")
        raise UnsafeFileError(
            path, f"it asks for {name}; where it was written, save the weights alone: torch.save(model.state_dict(), …)"
        )


def _storages(
    file: BinaryIO, records: Mapping[str, TensorRecord], places: Mapping[str, Member], path: Path, *, mapped: bool
) -> dict[str, torch.Tensor]:
    """Return the storages that tensors are views of, as vectors of bytes."""
    wanted: dict[str, StorageRecord] = {}
    for name, record in records.items():
        known = wanted.setdefault(record.storage.key, record.storage)
        place = places.get(known.key)
        if place is None or place.size != known.nbytes or known != record.storage:
            found = "no" if place is None else place.size
            raise ValueError(f"the storage of {brief(name)} should have {record.storage.nbytes} bytes; it has {found}")
        if record.nbytes > max(_EXPANDED, 2 * known.nbytes):
            raise ValueError(f"{brief(name)} claims {record.nbytes} bytes; its storage has {known.nbytes}")
    claimed, held = sum(record.nbytes for record in set(records.values())), sum(s.nbytes for s in wanted.values())
    if claimed > max(16 * _EXPANDED, 4 * held):
        raise ValueError(f"its tensors claim {claimed} bytes; its storages have {held}")
    itemsizes: dict[str, int] = {}
    for record in records.values():
        itemsizes[record.storage.key] = max(itemsizes.get(record.storage.key, 1), record.dtype.itemsize)
    regions = [
        Region(key, torch.uint8, (each.nbytes,), places[key].offset, itemsizes[key]) for key, each in wanted.items()
    ]
    return read_regions(file, regions, path, mapped=mapped)


def _same_view(records: Mapping[str, TensorRecord]) -> dict[str, str]:
    """Return, for each tensor that is the same view of the same storage as an earlier one, the earlier one."""
    firsts: dict[TensorRecord, str] = {}
    return {
        name: first
        for name, record in records.items()
        if record.nbytes and (first := firsts.setdefault(record, name)) != name
    }


PT = PyTorch()
