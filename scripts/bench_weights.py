"""The rows of the benchmark about weights files: loading, converting, exporting, hashing, and the memory it takes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

import torch
import torchvision
from bench_pairs import Row, process
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

import zoo
from zoo.builder import assemble, compose
from zoo.spec import parse

TWO_GIGABYTES = {
    "input": {"channels": 3, "size": [32, 32]},
    "backbone": {"type": "mlp", "hidden": [21000, 21000]},
    "head": {"type": "linear", "num_classes": 1000},
}


def artifact(folder: Path, name: str) -> Path:
    """Return an artifact of vgg16 (0.55 GB) or of a large MLP (2 GB); it is made once."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        model = assemble(parse(TWO_GIGABYTES), "cpu", initialise=False) if name == "mlp" else zoo.build(name)
        zoo.save(model, path)
    return path


def rows(groups: Collection[str], folder: Path) -> Iterator[Row]:
    """Return the rows of groups."""
    if "load" in groups:
        yield from loading_against_torchvision(folder)
        for name in ("vgg16", "mlp"):
            yield loading_against_safetensors(artifact(folder, name))
    if "migrate" in groups:
        yield from migrating(folder)
    if "convert" in groups:
        yield from converting(folder)
    if "export" in groups:
        yield exporting("resnet50", folder)
    if "fingerprint" in groups:
        yield hashing(artifact(folder, "vgg16"))


def loading_against_torchvision(folder: Path) -> Iterator[Row]:
    """Build a model around the weights in a file, as torchvision's users do and as ours do."""
    path, plain = artifact(folder, "vgg16"), folder / "vgg16.pth"
    torch.save(torchvision.models.vgg16(weights=None).state_dict(), plain)

    def peer() -> object:
        model = torchvision.models.vgg16(weights=None)
        return model.load_state_dict(torch.load(plain, weights_only=True))

    def touched() -> object:
        return [p.sum() for p in zoo.load(path).parameters()]

    other = ("torchvision build + torch.load + load_state_dict", peer)
    size = f"{path.stat().st_size / 1e6:.0f} MB"
    yield Row(f"load vgg16, {size}", ("zoo.load", lambda: zoo.load(path)), other, 80)
    yield Row(f"load vgg16, {size}, every weight summed", ("zoo.load + sum", touched), other, 40)


def migrating(folder: Path) -> Iterator[Row]:
    """Load a file in the names of torchvision against the same in ours, and tell of what model a file is."""
    for name in ("resnet50", "vgg16"):
        theirs, ours = folder / f"{name}-theirs.pth", folder / f"{name}-ours.pth"
        torch.save(torchvision.models.get_model(name, weights=None).state_dict(), theirs)
        torch.save(zoo.load(theirs, spec=name).state_dict(), ours)
        plain = ("zoo.load, our names", partial(zoo.load, ours, spec=name))
        given = ("zoo.load(keymap=)", partial(zoo.load, theirs, spec=name, keymap="torchvision"))
        yield Row(f"load {name} by a keymap", given, plain, 1 / 1.2, 15)
        yield Row(f"load {name}, recognised", ("zoo.load", partial(zoo.load, theirs, spec=name)), plain, 1 / 1.2, 15)
        reading = ("torch.load of it", partial(torch.load, theirs, weights_only=True))
        yield Row(f"identify {name}", ("zoo.identify", partial(zoo.identify, theirs)), reading)
    for name in FOREIGN:
        home = ("zoo.load", partial(zoo.load, foreign(folder, name), spec=name))
        yield Row(
            f"bring {name} home from ONNX", home, ("its torch.onnx.export", partial(exported, folder, name)), rounds=3
        )


FOREIGN = ("resnet50", "vgg19_bn")


def exported(folder: Path, name: str) -> Path:
    """Let torch's older exporter write a model of torchvision, norms folded and names gone; return the file."""
    model = torchvision.models.get_model(name, weights=None).eval()
    path = folder / f"{name}-foreign.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(model, (torch.randn(1, 3, 224, 224),), path, dynamo=False)
    return path


def foreign(folder: Path, name: str) -> Path:
    """Return a foreign file; it is made once."""
    path = folder / f"{name}-foreign.onnx"
    return path if path.exists() else exported(folder, name)


def loading_against_safetensors(path: Path) -> Row:
    """Load an artifact, and do the least that loading can be: build on meta, map the file, assign."""
    spec = zoo.inspect(path).spec

    def least() -> object:
        model = compose(spec, "meta")
        return model.load_state_dict(load_file(path), assign=True)

    size = f"{path.stat().st_size / 1e6:.0f} MB"
    return Row(
        f"load {path.stem}, {size}", ("zoo.load", lambda: zoo.load(path)), ("meta + load_file + assign", least), 0.5
    )


def converting(folder: Path) -> Iterator[Row]:
    """Convert a .pt file, proof included and down to the disk, and copy it: as cp does, and down to the disk, too."""
    source = zoo.save(zoo.load(artifact(folder, "vgg16")), folder / "vgg16.pt")
    target, copy = folder / "converted.safetensors", folder / "copy.pt"
    task = f"convert .pt to .safetensors, {source.stat().st_size / 1e6:.0f} MB"
    ours = ("zoo.convert", lambda: zoo.convert(source, target, force=True))
    yield Row(task, ours, ("cp", process("cp", str(source), str(copy))), 0.5)
    yield Row(task, ours, ("cp and sync", process("sh", "-c", f"cp {source} {copy} && sync {copy}")))


def exporting(name: str, folder: Path) -> Row:
    """Export to ONNX."""
    model, peer = zoo.build(name).eval(), torchvision.models.get_model(name, weights=None).eval()
    example = torch.zeros(2, 3, 224, 224)
    batch = ({0: torch.export.Dim("batch")},)

    def export() -> object:
        return torch.onnx.export(
            peer,
            (example,),
            folder / "peer.onnx",
            dynamo=True,
            verbose=False,
            dynamic_shapes=batch,
            external_data=False,
        )

    ours = ("zoo.save", lambda: zoo.save(model, folder / "ours.onnx", dynamic_size=False))
    return Row(f"export {name} to ONNX", ours, ("torch.onnx.export", export), 1 / 1.2, rounds=5)


def hashing(path: Path) -> Row:
    """Compute the fingerprint of a file, and its SHA-256 on one core."""

    def peer() -> object:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256")

    size = path.stat().st_size
    return Row(
        f"fingerprint {size / 1e6:.0f} MB",
        ("zoo.fingerprint", lambda: zoo.fingerprint(path)),
        ("hashlib.sha256", peer),
    )


_PEAK = """
import sys, threading, time
import torch, onnx, zoo, zoo.weights.conversion.convert, zoo.weights.onnx.format
def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))
zoo.convert({first!r}, {first!r} + ".first.{suffix}", force=True)  # what is imported on the way is not counted
start = peak = anonymous()
done = threading.Event()
def watch():
    global peak
    while not done.is_set():
        peak = max(peak, anonymous())
        time.sleep(0.001)
watcher = threading.Thread(target=watch)
watcher.start()
zoo.convert({source!r}, {target!r}, force=True, **{options!r})
done.set()
watcher.join()
print((peak - start) / 1e6)
"""


def peak(source: Path, target: Path, first: Path, **options: object) -> float:
    """Return the most anonymous memory that a conversion takes above the start, in MB, in a process of its own."""
    code = _PEAK.format(
        source=str(source), target=str(target), first=str(first), suffix=target.suffix[1:], options=options
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


_RESIDENT = """
import sys
import torch, zoo
def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
zoo.build("lenet")
with open("/proc/self/clear_refs", "w") as clear:
    clear.write("5")  # the high-water mark begins anew
start = status("VmRSS")
zoo.load(sys.argv[1], spec=sys.argv[2])
print(status("VmHWM") - start)
"""


def print_alignment_memory(folder: Path) -> None:
    """Print how much resident memory foreign ONNX files take on their way, in a process that did nothing before."""
    table = Table("foreign file", title="resident memory of bringing it home")
    for header in ("file", "above the start", "in files", "aim"):
        table.add_column(header, justify="right")
    for name in FOREIGN:
        path = foreign(folder, name)
        size = path.stat().st_size
        command = [sys.executable, "-c", _RESIDENT, str(path), name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        above = int(done.stdout)
        table.add_row(name, f"{size / 1e6:.0f} MB", f"{above / 1e6:.0f} MB", f"{above / size:.2f}×", "3×")
    Console(width=max(100, Console().width)).print(table)


def print_memory(folder: Path) -> None:
    """Print how much anonymous memory conversions take."""
    table = Table("conversion", title="anonymous memory above the start")
    for header in ("file", "largest tensor", "peak", "aim"):
        table.add_column(header, justify="right")
    weights = artifact(folder, "vgg16")
    small = zoo.save(zoo.build("lenet"), folder / "lenet.pt")
    pt = zoo.save(zoo.load(weights), folder / "vgg16.pt")
    largest = max(t.bytes for t in zoo.inspect(weights).tensors) / 1e6
    graph = peak(small, folder / "graph.onnx", small)
    for source, target, options, aim in (
        (pt, folder / "m.safetensors", {}, "64 MB"),
        (weights, folder / "m.pt", {}, ""),
        (weights, folder / "m.onnx", {}, ""),
        (weights, folder / "t.onnx", {"weights": str(folder / "t.safetensors")}, f"{1.2 * largest + graph:.0f} MB"),
    ):
        found = peak(source, target, small, **options)
        what = f"{source.suffix} to {target.suffix}{' with the tensors beside it' if options else ''}"
        table.add_row(what, f"{source.stat().st_size / 1e6:.0f} MB", f"{largest:.0f} MB", f"{found:.1f} MB", aim)
    Console(width=max(100, Console().width)).print(table)
