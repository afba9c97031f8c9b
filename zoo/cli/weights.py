"""``zoo convert``, ``zoo identify``, ``zoo verify``: weights files to other formats, what they are, and proof of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import tables
from zoo.cli.failures import TellsErrors

if TYPE_CHECKING:
    from zoo.weights.conversion.batch import BatchReport


_CONTEXT = {"help_option_names": ["-h", "--help"]}
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@click.command(cls=TellsErrors, context_settings=_CONTEXT, short_help="Write weights files in another format.")
@click.argument("files", nargs=-1, required=True, metavar="SRC DST | SRC... --to FORMAT", type=click.Path())
@click.option("--to", metavar="FORMAT", help="Convert each SRC to this format: pt, safetensors, onnx or a plugin's.")
@click.option("-o", "--output", metavar="DIR", type=click.Path(), help="With --to: where the new files go.")
@click.option("--spec", metavar="NAME|FILE", help="What SRC holds, where it does not say so itself.")
@click.option("--keymap", metavar="NAME", help="The library whose names SRC has; all are tried unless given.")
@click.option("--to-keymap", metavar="NAME", help="Write a plain state dict with the names of this library.")
@click.option("--within", metavar="PLACE", help="Which weights, where SRC holds several: ema, state_dict.teacher.")
@click.option("--without", metavar="PART", multiple=True, help="Leave this part of the model out: head; repeatable.")
@click.option("--dtype", metavar="NAME", help="Change floating-point tensors: float16, bfloat16, float32, float64.")
@click.option("--allow-lossy", is_flag=True, help="With --dtype: accept that values overflow or become zero.")
@click.option("--shard-size", metavar="SIZE", help="safetensors: several files of at most SIZE, 2GB, and an index.")
@click.option("--weights", metavar="FILE", type=click.Path(), help="onnx: keep the tensors in this .safetensors file.")
@click.option("--dynamic-size/--fixed-size", default=None, help="onnx: whether height and width may vary.")
@click.option("--opset", type=int, metavar="N", help="onnx: the version of the operator set.")
@click.option("--verify/--no-verify", default=True, help="Read back every tensor before DST counts (default).")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@_json
def convert(
    files: tuple[str, ...], to: str | None, output: str | None, shard_size: str | None, as_json: bool, **options: Any
) -> None:
    """Write what the weights file SRC holds to DST; the suffix of DST chooses the format.

    With --to, convert many files; targets that hold the same already are skipped, so that an interrupted run can be
    repeated. The exit code is 1 if any failed.
    """
    options["max_shard_size"] = shard_size
    if to is None and output is not None:
        raise click.UsageError("-o names a folder for many files; say which format they become: --to safetensors")
    if to is None and len(files) != 2:
        raise click.UsageError(f"expected SRC and DST, found {len(files)} files; for many files say --to FORMAT")
    with _bar(hidden=as_json) as (starting, progress):
        if to is None:
            from zoo.weights.conversion.convert import convert as convert_file

            source, target = files
            starting(source, target)
            report = convert_file(source, target, progress=progress, **options)
        else:
            from zoo.weights.conversion.batch import convert_all

            batch = convert_all(files, to, output, starting=starting, progress=progress, **options)
    if to is None:
        tables.print_json(report) if as_json else click.echo(str(report))
        return
    if as_json:
        tables.print_json({"ok": batch.ok, "files": batch.outcomes})
    else:
        _print_batch(batch)
    if not batch.ok:
        sys.exit(1)


@click.command(cls=TellsErrors, context_settings=_CONTEXT, short_help="Tell whether two weights files are the same.")
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path(), required=False)
@click.option("--spec", metavar="NAME|FILE", help="What a file holds, where neither says so itself.")
@click.option("--keymap", metavar="NAME", help="The library whose names a file has; all are tried unless given.")
@_json
def verify(a: str, b: str | None, spec: str | None, keymap: str | None, as_json: bool) -> None:
    """Tell whether the weights files A and B are the same: tensors bit for bit, and what they compute.

    With A alone: whether its tensors are those that its fingerprint was made of. The exit code is 1 if not.
    """
    from zoo.weights.verification.verify import verify as verify_files

    report = verify_files(a, b, spec=spec, keymap=keymap)
    if as_json:
        tables.print_json(report.to_json())
    else:
        click.echo(str(report))
    if not report.ok:
        sys.exit(1)


@click.command(cls=TellsErrors, context_settings=_CONTEXT, short_help="Tell which models a weights file can be of.")
@click.argument("file", type=click.Path())
@click.option("--within", metavar="PLACE", help="Which weights, where FILE holds several: ema, state_dict.teacher.")
@click.option("--libraries", is_flag=True, help="Try the models of timm and torchvision too, which takes some seconds.")
@click.option("-o", "--output", metavar="SPECFILE", type=click.Path(), help="Write the spec of the model, for --spec.")
@_json
def identify(file: str, within: str | None, libraries: bool, output: str | None, as_json: bool) -> None:
    """Tell which models the weights FILE can be of, from its names and shapes alone.

    Prefixes are taken off, the names of every keymap tried, and numbers of classes, channels, widths and depths read
    off the shapes. The exit code is 1 if it fits none; what comes nearest is told.
    """
    from zoo.weights.migration.identify import identify as identify_file

    found = identify_file(file, within=within, libraries=libraries)
    if as_json:
        tables.print_json(found.to_json())
    else:
        click.echo(str(found))
    if output is not None and found.fits:
        _write_spec([fit.spec for fit in found.fits if fit.spec], file, output)
    if not found.fits:
        sys.exit(1)


def _write_spec(specs: list[dict[str, Any]], file: str, output: str) -> None:
    if len(specs) != 1:
        which = "no model that is built here" if not specs else f"{len(specs)} models; write the spec that is meant"
        raise click.ClickException(f"{output}: was not written, for {file} fits {which}")
    with click.open_file(output, "w", encoding="utf-8", atomic=True) as written:
        written.write(json.dumps(specs[0], indent=2, ensure_ascii=False) + "\n")


def _print_batch(batch: BatchReport) -> None:
    rows = [(o.source, o.state, o.target if o.error is None else _in_a_line(o.error, o.source)) for o in batch.outcomes]
    tables.print_columns(("file", "", "to, or why not"), rows)
    click.echo(str(batch))


def _in_a_line(error: str, source: str) -> str:
    """Return what is wrong and what to do, the first line and the last; all of it is in the JSON."""
    lines = error.removeprefix(f"{source}: ").splitlines()
    return " ".join([lines[0], *(line.strip() for line in lines[1:][-1:])])


@contextmanager
def _bar(*, hidden: bool) -> Iterator[tuple[Callable[[str, str], None], Callable[[int, int], None] | None]]:
    """Give what is told of each file and of its progress; on a terminal, a bar on stderr that goes at the end."""
    if hidden or not sys.stderr.isatty():
        yield (lambda *_: None), None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=None)

        def starting(source: str, target: str) -> None:
            shown.reset(task, description=escape(f"{source} → {target}"), total=None)

        def progress(done: int, total: int) -> None:
            shown.update(task, completed=done, total=total)

        yield starting, progress


COMMANDS = (convert, identify, verify)
