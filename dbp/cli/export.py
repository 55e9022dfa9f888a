"""`dbp export`: trained parameters, or the whole model, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dbp.cli.output import echo_json, output_option, writing
from dbp.errors import InvalidInput

if TYPE_CHECKING:
    from dbp.train.export import Format
    from dbp.train.saved import SavedModel

FORMATS: Final[tuple[Format, ...]] = ("onnx", "npz", "safetensors")


@click.command()
@click.argument("source", metavar="FOLDER_OR_FILE", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(FORMATS),
    help="What to write.  [default: the suffix of FILE]",
)  # fmt: skip
@click.option(
    "-o", "--out", "file", type=click.Path(path_type=Path), required=True, metavar="FILE",
    help="The file to write.",
)  # fmt: skip
@output_option
def export(source: Path, form: Format | None, file: Path, output: str) -> None:
    """Write the model of a run folder or a .safetensors FILE for other programs.

    onnx holds the whole computation with its scaling (the outputs are those of `dbp predict`
    before probabilities are made of them); npz and safetensors hold the parameters by their
    PyTorch names. Of a service's job, fetch the file first: dbp params JOB -o FILE.

    \b
    Examples:
      dbp export runs/digits -o digits.onnx
      dbp export weights.safetensors --format npz -o weights.npz
    """
    from dbp.train.export import exported
    from dbp.train.run_folder import write_atomically

    form = form or _format_of(file)
    content = exported(_load(source), form)
    with writing(file):
        write_atomically(file, [content])
    if output == "json":
        echo_json({"file": str(file), "format": form, "bytes": len(content)})
    else:
        click.echo(f"written to {file} ({len(content):,} bytes)")


def _load(source: Path) -> SavedModel:
    """The model in a parameter file, or in the folder of a run that has come to its end."""
    from dbp.train.run_folder import PARAMETERS
    from dbp.train.saved import SavedModel

    if not source.is_dir():
        return SavedModel.load(source)
    if not (source / PARAMETERS).is_file():
        raise InvalidInput(
            f"{source}: holds no {PARAMETERS}: it is no run folder, or its run has not ended"
        )
    return SavedModel.load(source / PARAMETERS)


def _format_of(file: Path) -> Format:
    for form in FORMATS:
        if file.suffix == f".{form}":
            return form
    raise InvalidInput(
        f"{file}: its suffix is none of .{', .'.join(FORMATS)}; say which with --format"
    )
