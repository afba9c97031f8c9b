"""The ``zoo`` command itself, with nothing imported that ``zoo list`` and ``zoo --help`` can do without."""

from __future__ import annotations

import sys

import click

from registry.names import nearest
from zoo.cli import authors, describing, plugins, specs, tables, weights
from zoo.cli.failures import Group

_LISTED = {"models": "model", "backbones": "backbone", "necks": "neck", "bottlenecks": "bottleneck", "heads": "head",
           "weights": "weights", "formats": "format", "keymaps": "keymap", "providers": "provider"}  # fmt: skip
_KINDS = {**_LISTED, **{kind: kind for kind in _LISTED.values()}}  # the singular will do
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zoo-torch", prog_name="zoo")
def main() -> None:
    """A PyTorch model zoo that other people can extend without asking."""


@main.command("list")
@click.argument("words", nargs=-1, metavar="[KIND] [PATTERN]")
@_json
def list_(words: tuple[str, ...], as_json: bool) -> None:
    """List what is installed; nothing is imported.

    KIND is one of models, backbones, necks, bottlenecks, heads, weights, formats, keymaps, providers (all of them
    unless given), the singular will do; PATTERN is a shell pattern, "resnet*".
    """
    from zoo.catalogue import entries

    if len(words) > 2 or (len(words) == 2 and words[0] not in _KINDS):
        raise click.UsageError(
            f"expected at most a kind ({', '.join(_LISTED)}) and a pattern, found {' '.join(words)!r}"
        )
    kind = _KINDS.get(words[0]) if words else None
    pattern = "*" if not words or (kind and len(words) == 1) else words[-1]
    found = entries(kind, pattern)
    if as_json:
        fields = ("kind", "name", "provider", "version", "target")
        tables.print_json([{f: getattr(e, f) for f in fields} for e in found])
    elif found:
        tables.print_columns(
            ("kind", "name", "provider"), [(e.kind, e.name, f"{e.provider} {e.version}") for e in found]
        )
    else:
        from zoo.kinds import elsewhere

        known = [*_LISTED, *(e.name for e in entries(kind))]
        guess = nearest(pattern, known) if pattern.isidentifier() else ()
        told = elsewhere(kind, pattern) if kind else ""
        hint = f"; {told}" if told else f"; did you mean {' or '.join(guess)}?" if guess else ""
        raise click.ClickException(f"nothing matches {pattern!r}{hint}")


@main.command(short_help="Tell what is in a weights file.")
@click.argument("file", type=click.Path())
@click.option("--within", metavar="PLACE", help="Which weights, where FILE holds several: ema, state_dict.teacher.")
@_json
def inspect(file: str, within: str | None, as_json: bool) -> None:
    """Tell what is in a weights FILE: spec, tensors, sizes; no model is built."""
    from zoo.weights.inspection import inspect as inspect_file

    found = inspect_file(file, within=within)
    if as_json:
        tables.print_json(found)
    else:
        tables.print_inspection(found)


@main.command(short_help="Classify images.")
@click.argument("model", metavar="MODEL")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path())
@click.option(
    "--invert", is_flag=True, help="Swap dark and bright first: ink on paper, for weights trained on bright strokes."
)
@click.option("--spec", metavar="NAME|FILE", help="What a weights file holds, where it does not say so itself.")
@_json
def predict(model: str, images: tuple[str, ...], invert: bool, spec: str | None, as_json: bool) -> None:
    """Classify each IMAGE with MODEL: a name, NAME:WEIGHTS or a weights file."""
    from zoo.prediction import open_model
    from zoo.prediction import predict as predict_images

    opened = open_model(model, spec)
    if opened.record is None:
        click.echo(
            f"{model} says nothing of preprocessing or labels: pixels are scaled to [0, 1], classes are numbers",
            err=True,
        )
    found = predict_images(opened, images, invert=invert)
    if as_json:
        tables.print_json(found)
    else:
        tables.print_columns(
            ("file", "label", "probability"), [(p.file, p.label, f"{p.probability:.4f}") for p in found]
        )


for _command in (
    describing.describe,
    plugins.plugins,
    plugins.explain,
    specs.schema,
    specs.validate,
    *weights.COMMANDS,
    *authors.COMMANDS,
):
    main.add_command(_command)

if __name__ == "__main__":
    sys.exit(main())
