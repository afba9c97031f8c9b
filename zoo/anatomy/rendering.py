"""A plan for people: the tree of modules with what each takes, the features, and the totals."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from zoo.anatomy.record import Node, Output, Plan

_ANY_WIDTH = 10_000
_UNITS = ("", "k", "M", "G", "T", "P")


def text(plan: Plan, *, depth: int = 2) -> str:
    """Return a plan as plain text, as wide as it needs to be.

    Args:
        plan: what to tell.
        depth: how many levels of modules: 1 shows the parts, 2 also what is in them.
    """
    written = io.StringIO()
    Console(file=written, width=_ANY_WIDTH, color_system=None).print(rendered(plan, depth=depth))
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines())


def rendered(plan: Plan, *, depth: int = 2) -> RenderableType:
    """Return a plan for a rich console.

    Args:
        plan: what to tell.
        depth: how many levels of modules: 1 shows the parts, 2 also what is in them.
    """
    head = Text(f"input {_times(plan.input[1:])}, batch {plan.input[0]}, {plan.dtype}")
    return Group(head, Text(), _modules(plan, depth), Text(), _features(plan), Text(), _totals(plan))


def short(number: float) -> str:
    """Return a number in three digits and a unit.

    >>> short(11_689_512), short(999_999), short(64), short(0)
    ('11.7M', '1.00M', '64', '0')
    """
    unit = 0
    while number >= 999.5 and unit < len(_UNITS) - 1:
        number /= 1000
        unit += 1
    digits = 0 if not unit or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f}{_UNITS[unit]}"


def size(nbytes: int) -> str:
    """Return a number of bytes in three digits and a unit.

    >>> size(22_218_240)
    '22.2 MB'
    """
    told = short(nbytes)
    return f"{told[:-1]} {told[-1]}B" if told[-1].isalpha() else f"{told} B"


def _modules(plan: Plan, depth: int) -> Table:
    table = _table(("module", "output"), ("field", "params", "mult-adds", "kept"))
    for guides, node in _branches(plan.tree, depth):
        outputs = node.outputs
        name = Text(no_wrap=True, overflow="ellipsis").append(guides, "dim")
        name.append(node.name or "model", "bold" if node.path in plan.parts else "")
        name.append(f"  {node.type}" if node.path else "", "dim")
        if node.training_only:
            name.append("  in training", "italic")
        table.add_row(
            name,
            _times(outputs[0].shape[1:]) if len(outputs) == 1 else f"{len(outputs)} tensors" if outputs else "–",
            _field(outputs[0]) if len(outputs) == 1 else "",
            *(short(n) if n else "–" for n in (node.parameters, node.multiply_adds)),
            size(node.kept_bytes) if node.kept_bytes else "–",
        )
    return table


def _branches(node: Node, depth: int, guides: str = "", below: str = "") -> Iterator[tuple[str, Node]]:
    yield guides, node
    if depth > 0:
        for child in node.children:
            last = child is node.children[-1]
            yield from _branches(
                child, depth - 1, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")
            )


def _features(plan: Plan) -> Table:
    table = _table(("part", "feature", "output"), ("stride", "field", "from"))
    for part in plan.tree.children:
        told = [(output.name or part.type, output) for output in part.outputs]
        if not told:  # auxiliary heads are not called as one
            told = [(child.name, output) for child in part.children for output in child.outputs]
        for number, (name, output) in enumerate(told):
            table.add_row(
                Text("" if number else part.name, "bold"),
                name,
                _times(output.shape[1:]),
                _per_axis([f"{n:.3g}" if n else "–" for n in output.stride]),
                _field(output),
                _per_axis(["" if f.offset is None else str(f.offset) for f in output.field]),
            )
    return table


def _totals(plan: Plan) -> Table:
    table = Table.grid(padding=(0, 2))
    frozen = plan.parameters - plan.trainable
    held = f"{plan.parameters:,}" + (f", {frozen:,} of them frozen" if frozen else "")
    inference, training = plan.inference, plan.training
    samples = "" if training.batch == plan.input[0] else f", batch {training.batch}"
    rows = (
        ("parameters", f"{held}; {size(plan.weight_bytes)} with buffers"),
        ("inference", f"{short(inference.multiply_adds)} mult-adds, activations {size(inference.peak_bytes)} at most"),
        (
            f"training{samples}",
            f"{short(training.multiply_adds)} mult-adds, {size(training.kept_bytes)} kept, "
            f"gradients {size(training.gradient_bytes)}",
        ),
    )
    for label, told in rows:
        table.add_row(Text(label, "bold"), told)
    return table


def _table(left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, name in enumerate(left):
        table.add_column(name, no_wrap=number > 0)  # the first one gives way where the terminal is narrow
    for name in right:
        table.add_column(name, no_wrap=True, justify="right")
    return table


def _field(output: Output) -> str:
    return _per_axis([str(field) for field in output.field])


def _per_axis(values: Sequence[str]) -> str:
    """Return one value where all axes have the same."""
    return values[0] if len(set(values)) == 1 else "×".join(values)


def _times(shape: Sequence[int]) -> str:
    return "×".join(str(n) for n in shape) or "1"


__all__ = ["rendered", "short", "size", "text"]
