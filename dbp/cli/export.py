"""`dbp export`: write trained parameters, or the whole model, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dbp.cli.arguments.job import LABEL, SOURCE
from dbp.cli.arguments.source import METAVAR, source_of
from dbp.cli.arguments.version import HELP, VERSION, VersionName, version_name
from dbp.cli.screen.output import echo, echo_json, output_option, service_option, writing
from dbp.errors import InvalidInput

if TYPE_CHECKING:
    from dbp.train.model.export import Format

FORMATS: Final[tuple[Format, ...]] = ("onnx", "npz", "safetensors")


@click.command()
@click.argument("source", type=SOURCE, metavar=METAVAR)
@click.option(
    "--format", "form", type=click.Choice(FORMATS),
    help="Format to write.  [default: as the suffix of FILE says]",
)  # fmt: skip
@click.option(
    "-o", "--out", "file", type=click.Path(path_type=Path), required=True, metavar="FILE",
    help="File to write.",
)  # fmt: skip
@click.option("--version", type=VERSION, help=f"Of a job: {HELP}.  [default: latest]")
@click.option("--label", type=LABEL, default="", help="Of a job: the version with this label.")
@service_option
@output_option
def export(
    source: str,
    form: Format | None,
    file: Path,
    version: VersionName | None,
    label: str,
    service: str,
    output: str,
) -> None:
    """Write a trained model for other programs.

    RUN_FILE_OR_JOB is a run folder, a parameter file, or a job of the service. onnx holds the
    whole computation with its scaling; its outputs are those before the output function of the
    loss, such as softmax. npz and safetensors hold the parameters by their PyTorch names. A job
    need not have ended: the newest version is exported, or the one that --version or --label
    names.

    \b
    Examples:
      dbp export runs/digits -o digits.onnx
      dbp export weights.safetensors --format npz -o weights.npz
      dbp export digits-7k2m9q --label best -o best.onnx
    """
    from dbp.cli.arguments.trained import load_trained
    from dbp.storage.atomic_file import write_file
    from dbp.train.model.export import exported

    form = form or _format_of(file)
    named = source_of(source)
    named.refuse(version=version, label=label)
    trained = load_trained(named, service, version_name(version, label))
    content = exported(trained.model, form)
    with writing(file, *([trained.file] if trained.file else [])):
        write_file(file, [content])
    if output == "json":
        echo_json({"file": str(file), "format": form, "bytes": len(content)})
    else:
        echo(f"written to {file} ({len(content):,} bytes)")


def _format_of(file: Path) -> Format:
    for form in FORMATS:
        if file.suffix.lower() == f".{form}":
            return form
    raise InvalidInput(
        f"{file}: its suffix is none of .{', .'.join(FORMATS)}; "
        f"add --format {'|'.join(FORMATS)}"
    )
