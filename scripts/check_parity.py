"""Take every named model and every dtype through every format, and write docs/reference/parity.md."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import luggage
import onnxruntime
import torch
from rich.progress import track

import zoo
from zoo import kinds
from zoo.errors import WeightsError
from zoo.weights.parity import compare

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "parity.md"
FORMATS = ("pt", "safetensors", "onnx")

INTRODUCTION = """\
# Parity

What was saved comes back: this page is written by `scripts/check_parity.py`, which fills each named model with random
weights and random BatchNorm statistics, saves it, loads it with `verify=True`, and compares every tensor bit for bit
and every output. Tests do the same for a sample, and `scripts/test -m slow tests/weights` for all.

## Models

Tensors that came back bit for bit, and the largest differences of the outputs.
"""

DTYPES = """\
## Dtypes

A tensor of random bits, saved in one format and converted to another.
"""


def randomise_statistics(model: zoo.Model) -> None:
    """Give each BatchNorm statistics and weights that are not those of a fresh one; the sizes of numbers stay sane."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.8, 1.25)
            elif name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif name.endswith("num_batches_tracked"):
                tensor.random_(0, 1000)
            elif tensor.dim() == 1:
                tensor.add_(torch.empty_like(tensor).uniform_(-0.1, 0.1))


def outputs(model: zoo.Model, x: torch.Tensor) -> list[torch.Tensor]:
    """Return every output of a model, in the order in which an ONNX file has them."""
    with torch.inference_mode():
        return [each for each in torch.utils._pytree.tree_leaves(model(x)) if isinstance(each, torch.Tensor)]


def furthest(found: list[torch.Tensor], expected: list[torch.Tensor], *, relative: bool) -> float:
    """Return the largest difference of all outputs; NaN where one is NaN."""
    pairs = zip(found, expected, strict=True)
    each = [(a - b).abs().max() / (b.abs().max() if relative else 1) for a, b in pairs if b.is_floating_point()]
    return torch.stack(each).max().item()


def model_row(name: str, folder: Path) -> list[str]:
    """Return the cells of one model: its size, the tensors that came back, and the largest differences."""
    model = zoo.build(name).eval()
    randomise_statistics(model)
    source = model.spec["input"]
    x = torch.randn(2, source["channels"], *(source["size"] or (96, 96)))
    expected = outputs(model, x)
    cells = [f"`{name}`", f"{sum(p.numel() for p in model.parameters()):,}"]
    differences = []
    for suffix in FORMATS:
        path = zoo.save(model, folder / f"model.{suffix}")
        back = zoo.load(path, verify=True)
        parity = compare(model.state_dict(), back.state_dict())
        cells.append(f"{parity.equal} of {parity.total}")
        differences.append(furthest(outputs(back, x), expected, relative=False))
        del back
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    ran = [torch.from_numpy(each) for each in session.run(None, {"image": x.numpy()})]
    if not all(each.isfinite().all() for each in expected):
        raise RuntimeError(f"the outputs of {name} are not finite, so that nothing can be compared")
    in_torch = torch.tensor(differences).max().item()  # torch's maximum is NaN where one is NaN
    return [*cells, f"{in_torch:g}", f"{furthest(ran, expected, relative=True):.1e}"]


def dtype_row(dtype: str, folder: Path) -> list[str]:
    """Return the cells of one dtype: for each format it came from, to which formats it could be converted."""
    cells = [f"`{dtype}`"]
    model = zoo.build(luggage.SPEC, bottleneck={"dtypes": [dtype], "shapes": [[2, 3]]})
    luggage.put(model, 0, luggage.random_bits((2, 3), getattr(torch, dtype), torch.Generator().manual_seed(0)))
    for source in FORMATS:
        arrived = []
        for target in FORMATS:
            try:
                path = zoo.save(model, folder / f"one.{source}")
                zoo.convert(path, folder / f"two.{target}", force=True)
            except WeightsError as error:
                if "cannot hold" not in str(error):
                    raise
                continue
            back = zoo.load(folder / f"two.{target}", verify=True)
            if compare(model.state_dict(), back.state_dict()).holds:
                arrived.append(target)
        cells.append(", ".join(arrived) or "refused")
    return cells


def table(headers: tuple[str, ...], rows: Iterator[list[str]]) -> str:
    """Return a table in Markdown, its numbers to the right."""
    lines = [headers, ("---", *("---:" for _ in headers[1:])), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    """Write the page."""
    torch.manual_seed(0)
    kinds.bottlenecks.register("luggage", luggage.Luggage)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = kinds.models.names()
        models = table(
            ("model", "parameters", *(f".{f}" for f in FORMATS), "difference in torch", "in onnxruntime, relative"),
            (model_row(name, folder) for name in track(names, "models")),
        )
        dtypes = table(
            ("dtype", *(f"from .{f} to" for f in FORMATS)),
            (dtype_row(dtype, folder) for dtype in track(luggage.NAMES, "dtypes")),
        )
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnx", "onnxruntime", "safetensors"))
    PAGE.write_text(f"{INTRODUCTION}\n{models}\n\n{DTYPES}\n{dtypes}\n\nWith {libraries}.\n")


if __name__ == "__main__":
    main()
