"""Damage weights files at random and see that reading keeps its promise: ``scripts/fuzz [--minutes N] [--format F]``.

The promise: a file is refused with a ZooError, or it is read; and what is verified has the fingerprint that the file
claims. An ONNX graph from elsewhere is refused with a ZooError, or fits a model; onnxruntime is not run. With atheris
(``pip install zoo-torch[fuzz]``) the damage is guided by the coverage of ``zoo.weights``; without it, it is blind, and
the output says so. A file that breaks the promise is kept in the folder that is printed.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import fuzz_graphs

if TYPE_CHECKING:
    from zoo.weights.checkpoint import Checkpoint

FORMATS = ("pt", "safetensors", "onnx")
TARGETS = (*FORMATS, "graph")
"""What is damaged: the formats, and ONNX files from elsewhere whose graphs are laid beside those of models."""

SECONDS = 20
"""How long reading one file may take."""

MEGABYTES = 2048
"""How much memory the process may take, torch included."""

_LARGEST = 1 << 16


class BrokenPromiseError(AssertionError):
    """A file was neither refused nor read as it should be."""


def seeds(format_: str, folder: Path) -> list[bytes]:
    """Return small honest files of one target: zoo's own and plain ones.

    Args:
        format_: the target.
        folder: where files may be made.
    """
    import safetensors.torch
    import torch
    from hostile.case import SPEC

    import zoo

    torch.manual_seed(0)
    model = zoo.build(dict(SPEC))
    if format_ == "graph":
        return fuzz_graphs.seeds(folder)
    found = [zoo.save(model, folder / f"seed.{format_}").read_bytes()]
    plain = {
        **model.state_dict(),
        "more": torch.arange(6, dtype=torch.int16).reshape(2, 3).t(),
        "none": torch.empty(0, 3),
    }
    plain["half"], plain["flag"] = torch.ones(2, dtype=torch.bfloat16), torch.tensor(True)
    if format_ == "pt":
        for zipped in (True, False):
            torch.save(plain, folder / "plain.pt", _use_new_zipfile_serialization=zipped)
            found.append((folder / "plain.pt").read_bytes())
    if format_ == "safetensors":
        found.append(
            safetensors.torch.save({name: each.contiguous() for name, each in plain.items()}, {"format": "pt"})
        )
    if format_ == "onnx":
        import onnx

        bare = onnx.load_from_string(found[0])
        del bare.metadata_props[:]
        found.append(bare.SerializeToString())
    return found


def mutate(source: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a file with one to six kinds of damage, some of it taken from other files."""
    out = bytearray(data)
    for _ in range(source.randint(1, 6)):
        at = source.randrange(len(out) + 1)
        length = min(source.choice((1, 1, 2, 4, 8, 16, 64, 512)), len(out) - at)
        match source.randrange(8):
            case 0 if length:
                out[at] ^= 1 << source.randrange(8)
            case 1:
                del out[at : at + length]
            case 2:
                out[at:at] = out[at : at + length]
            case 3:
                other = source.choice(others)
                there = source.randrange(len(other) + 1)
                out[at : at + length] = other[there : there + length]
            case 4 if source.random() < 0.3:
                del out[at:]
            case 5 if length:
                size = source.choice((1, 2, 4, 8))
                number = source.choice(
                    (0, 1, -1, 127, 128, 255, 1 << 15, (1 << 31) - 1, 1 << 31, 1 << 62, (1 << 63) - 1)
                )
                out[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, source.choice(("little", "big")))
            case 6:
                _renumber(source, out)
            case 7:
                there = source.randrange(len(out) + 1)
                out[at : at + length], out[there : there + length] = out[there : there + length], out[at : at + length]
    return bytes(out[:_LARGEST])


def _renumber(source: random.Random, out: bytearray) -> None:
    """Change a decimal number in a text, as in the headers of safetensors."""
    digits = [i for i in range(len(out)) if 48 <= out[i] <= 57]
    if digits:
        at = source.choice(digits)
        number = source.choice(
            (b"0", b"-1", b"4.0", b"99999999999999999999", b"4611686018427387904", b"true", b"1e9", b"7")
        )
        out[at : at + 1] = number


def check(path: Path) -> bool:
    """Read a file in every way; tell whether it was read at all.

    Raises:
        BrokenPromiseError: the promise is broken.
    """
    import torch
    from hostile.case import SPEC

    import zoo
    from zoo.errors import FileFormatError
    from zoo.weights.reading import read

    try:
        mapped, private = read(path), read(path, mapped=False)
    except FileFormatError as error:
        if error.reason.startswith("cannot be read: ") and path.suffix != ".onnx":
            raise BrokenPromiseError(f"{path}: nobody foresaw {error.reason}") from error
        return False
    except zoo.ZooError:
        return False
    claimed = private.artifact.fingerprint if private.artifact else None
    found = private.fingerprint
    if mapped.fingerprint != found or zoo.fingerprint(path) != found:
        raise BrokenPromiseError(f"{path}: mapped it is {mapped.fingerprint}, read {found}")
    zoo.inspect(path)
    for way in ({}, {"spec": dict(SPEC)}, {"verify": True}, {"verify": found}):
        try:
            model = zoo.load(path, **way)
        except zoo.ZooError:
            continue
        tensors = dict(model.state_dict())
        if "verify" in way and (zoo.fingerprint(model) != found or claimed not in (found, None)):
            raise BrokenPromiseError(f"{path}: {way} gave {zoo.fingerprint(model)} of {found}, claimed {claimed}")
        if not all(isinstance(each, torch.Tensor) for each in tensors.values()):
            raise BrokenPromiseError(f"{path}: {way} gave what is no tensor")
    _agree(path, private)
    if path.suffix == ".onnx":
        _same_graph(path)
    return True


def _agree(path: Path, checkpoint: Checkpoint) -> None:
    """See that the library whose format it is, if it reads the file too, finds the same."""
    import safetensors.torch
    import torch

    from zoo.weights.parity import bit_equal

    try:
        theirs = {
            ".pt": lambda: torch.load(path, weights_only=True),
            ".safetensors": lambda: safetensors.torch.load_file(path),
            ".onnx": lambda: None,
        }[path.suffix]()
    except Exception:
        return
    if theirs is None:
        return
    # What zoo knows to be one tensor has one name in a safetensors file.
    tensors = checkpoint.tensors if path.suffix == ".safetensors" else checkpoint.state_dict()
    if theirs.keys() != tensors.keys():
        raise BrokenPromiseError(f"{path}: {sorted(tensors)} are others than {sorted(theirs)}")
    for name, tensor in theirs.items():
        if not bit_equal(tensor, tensors[name]):
            raise BrokenPromiseError(f"{path}: {name!r} is another tensor for the library of the format")


def _same_graph(path: Path) -> None:
    """See that what onnxruntime is sent of a file is the graph that onnx finds in it."""
    import onnx

    from zoo.weights.onnx import skeleton
    from zoo.weights.onnx.ports import read_input_shapes

    with mock.patch.object(skeleton, "_SMALL", 1):  # the tensors of these files are
        sent, _ = skeleton.skeleton(path)
    try:
        taken = read_input_shapes(path)
        whole = onnx.load(path, load_external_data=False)
    except Exception:  # one of them is stricter
        return
    made = onnx.load_from_string(sent)
    held = {each.name for each in whole.graph.initializer}
    if taken.keys() != {each.name for each in whole.graph.input if each.name not in held}:
        raise BrokenPromiseError(f"{path}: it takes {sorted(taken)}, and something else for onnx")
    for each in (*made.graph.initializer, *whole.graph.initializer):
        for name in ("raw_data", "external_data", "data_location"):
            each.ClearField(name)
    del made.metadata_props[:], whole.metadata_props[:]
    if made.SerializeToString(deterministic=True) != whole.SerializeToString(deterministic=True):
        raise BrokenPromiseError(f"{path}: the graph that is run is another for onnx")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run for a while; return how many formats broke the promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="for each format")
    parser.add_argument("--format", choices=TARGETS, action="append", help="only this one; may be given again")
    parser.add_argument("--blind", action="store_true", help="leave atheris out")
    parser.add_argument("--keep", type=Path, help="where the files stay that break the promise")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    keep = given.keep or Path(tempfile.mkdtemp(prefix="zoo-fuzz-"))
    keep.mkdir(parents=True, exist_ok=True)
    if given.alone:
        return (
            _blind(given.format[0], given.minutes, keep)
            if given.blind
            else _guided(given.format[0], given.minutes, keep)
        )
    failed = 0
    for format_ in given.format or TARGETS:
        print(f"{format_}: what breaks the promise is kept in {keep}", flush=True)
        again = [
            sys.executable,
            __file__,
            "--alone",
            "--format",
            format_,
            "--minutes",
            str(given.minutes),
            "--keep",
            keep,
        ]
        failed += subprocess.run([*again, *(["--blind"] if given.blind else [])], check=False).returncode != 0
    return failed


def target(format_: str, folder: Path) -> tuple[Path, Callable[[Path], bool]]:
    """Return the file that damaged content is to be written to, and what reads it then."""
    return (folder / "graph.onnx", fuzz_graphs.check) if format_ == "graph" else (folder / f"fuzzed.{format_}", check)


def _guided(format_: str, minutes: float, keep: Path) -> int:
    try:
        import atheris
    except ImportError:
        print("atheris is not installed (pip install zoo-torch[fuzz]): the damage is blind", flush=True)
        return _blind(format_, minutes, keep)
    with atheris.instrument_imports(include=["zoo.weights", "pickletools"]):
        import zoo.weights.alignment.align
        import zoo.weights.alignment.identifying
        import zoo.weights.files
        import zoo.weights.onnx.format
        import zoo.weights.pt.format
        import zoo.weights.safetensors.format  # noqa: F401 - to be instrumented
    scratch = Path(tempfile.mkdtemp(prefix="zoo-fuzz-scratch-", dir=_memory_folder()))
    file, reads = target(format_, scratch)
    warnings.simplefilter("ignore")  # a lock of other versions is none of our concern here
    corpus = scratch / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds(format_, scratch)):
        (corpus / f"seed-{number}").write_bytes(data)
    for path in (Path(__file__).parent.parent / "tests" / "hostile").glob(f"*{file.suffix}"):
        if path.stat().st_size < _LARGEST and "told-spec" not in path.name:
            (corpus / path.name).write_bytes(path.read_bytes())

    def one(data: bytes) -> None:
        file.write_bytes(data)
        reads(file)

    options = {"max_total_time": int(minutes * 60), "timeout": SECONDS, "rss_limit_mb": MEGABYTES, "max_len": _LARGEST,
               "print_final_stats": 1, "artifact_prefix": f"{keep}/{format_}-"}  # fmt: skip
    atheris.Setup([sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(corpus)], one)
    atheris.Fuzz()  # ends the process
    return 0


def _blind(format_: str, minutes: float, keep: Path) -> int:
    source = random.Random(0)
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as scratch:
        originals = seeds(format_, Path(scratch))
        others = [*originals, os.urandom(256)]
        file, reads = target(format_, Path(scratch))
        warnings.simplefilter("ignore")  # a lock of other versions is none of our concern here
        end, ran, read = time.monotonic() + minutes * 60, 0, 0
        while time.monotonic() < end:
            data = mutate(source, source.choice(originals), others)
            file.write_bytes(data)
            try:
                read += reads(file)
            except BaseException:
                (keep / f"{format_}-{ran}").write_bytes(data)
                raise
            ran += 1
    print(f"{format_}: {ran} files, {read} of them could be read, the promise was kept")
    return 0


def _memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    sys.exit(main())
