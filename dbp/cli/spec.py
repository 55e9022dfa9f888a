"""``dbp spec`` and ``dbp components``. They start no run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dbp.cli.arguments.service import connect
from dbp.cli.screen.output import echo, output_option, writing
from dbp.quantities import count_text

if TYPE_CHECKING:
    from dbp.registry import ComponentInfo


@click.group()
def spec() -> None:
    """Check a job file, show it with every default, or help an editor to complete it."""


@spec.command()
@click.argument("file", type=click.Path())
@click.option(
    "--workers", type=click.IntRange(1, 4096), default=1, show_default=True,
    help="Processes that are to train the job.",
)  # fmt: skip
@click.option("--read", is_flag=True, help="Also read all samples, as training does.")
@output_option
def check(file: str, workers: int, read: bool, output: str) -> None:
    """Validate the job file FILE.

    Checks fields, components, the headers of the data files, and the shapes of the layers.
    Prints the model and the length of the run, or every violation, with exit code 2.
    """
    summary = _summary(file, workers, read)
    if output == "json":
        click.echo(json.dumps(summary, indent=2))
    else:
        _echo_summary(file, summary)


def _echo_summary(file: str, summary: dict[str, Any]) -> None:
    from dbp.job.spec.shapes import named

    data, workers = summary["data"], summary["workers"]
    shape = _shape(data["input_shape"])
    click.echo(f"{file}: valid")
    click.echo(f"  job         {summary['name']}  (digest {summary['spec_digest'][:12]})")
    click.echo(
        f"  data        {count_text(data['training_samples'], 'training sample')} of shape "
        f"{shape}"
    )
    if data["class_names"]:
        click.echo(f"  classes     {len(data['class_names'])}{named(data['class_names'])}")
    click.echo(f"  model       input                    {shape}")
    for position, layer in enumerate(summary["layers"]):
        line = f"{position:<5} {layer['kind']:<18} {_shape(layer['output_shape']):<14}"
        if layer["parameters"]:
            number, noun = count_text(layer["parameters"], "parameter").split()
            line += f"{number:>12} {noun}"
        click.echo(f"{'':14}{line}".rstrip())
    click.echo(f"  parameters  {summary['parameters']:,} of type {summary['dtype']}")
    click.echo(
        f"  run         {count_text(summary['total_steps'], 'step')}, "
        f"{summary['steps_per_epoch']:,} an "
        f"epoch, mini-batches of {summary['batch_size']:,} over "
        + count_text(workers, "worker")
    )
    for note in summary["notes"]:
        click.echo(f"  note        {note}")


def _summary(file: str, workers: int, read: bool) -> dict[str, Any]:
    from dbp.job.spec.load import located, resolve_file
    from dbp.train.build import build
    from dbp.train.check.inspection import inspect
    from dbp.train.plan import make_plan

    resolved = resolve_file(file)
    with located(file):
        inspected = inspect(resolved, workers)
        if read:
            build(inspected)
    facts, shapes = inspected.facts, inspected.shapes
    plan = make_plan(resolved.spec.train, facts.training_samples)
    layers = zip(
        resolved.layer_kinds, shapes.output_shapes, shapes.parameter_counts, strict=True
    )
    return {
        "name": resolved.spec.name,
        "spec_digest": resolved.digest,
        "workers": workers,
        "data": {
            "training_samples": facts.training_samples,
            "input_shape": list(facts.train.input_shape),
            "target_kind": facts.train.target_kind,
            "class_names": list(facts.train.class_names),
        },
        "layers": [
            {"kind": kind, "output_shape": list(shape), "parameters": count}
            for kind, shape, count in layers
        ],
        "parameters": shapes.parameter_count,
        "dtype": resolved.spec.train.dtype,
        "batch_size": resolved.spec.train.batch_size,
        "steps_per_epoch": plan.steps_per_epoch,
        "total_steps": plan.total_steps,
        "notes": list(inspected.notes()),
    }


def _shape(shape: list[int]) -> str:
    return " x ".join(map(str, shape)) or "1 number"


@spec.command()
@click.argument("file", type=click.Path())
@click.option(
    "--output",
    type=click.Choice(["toml", "json"]),
    default="toml",
    show_default=True,
    help="Format of the resolved spec.",
)
def resolve(file: str, output: str) -> None:
    """Print FILE with every default filled in.

    Values that dbp derives are filled in, too. The data need not exist.
    """
    from dbp.job.spec.load import resolve_file
    from dbp.job.spec.toml_text import toml_text

    resolved = resolve_file(file)
    if output == "json":
        click.echo(json.dumps(resolved.document, indent=2))
    else:
        click.echo(toml_text(resolved.document), nl=False)


@spec.command()
@click.option(
    "-o", "--out", "file", type=click.Path(path_type=Path), metavar="FILE",
    help="File to write.  [default: standard output]",
)  # fmt: skip
def schema(file: Path | None) -> None:
    """Print the JSON Schema of job files, for editors.

    It covers every section and every installed component, plug-ins included. Editors with
    Taplo, such as VS Code with Even Better TOML, then complete a job file, show the meaning of
    each field, and mark unknown fields, wrong types and numbers out of range. The first line of
    the job file names the schema, by URL or by a path from the folder of the job file:

    \b
      #:schema ./job.schema.json

    `taplo check job.toml` checks the same. `dbp spec check` also checks the rules over several
    fields, and the data. Write the schema again after an upgrade of dbp or of a plug-in.

    \b
    Examples:
      dbp spec schema -o job.schema.json
      dbp spec schema | less
    """
    from dbp.job.spec.json_schema import job_schema
    from dbp.storage.atomic_file import write_file

    text = json.dumps(job_schema(), indent=2) + "\n"
    if file is None:
        click.echo(text, nl=False)
        return
    with writing(file):
        write_file(file, [text.encode()])
    echo(f"written to {file} ({len(text):,} bytes)")


def _components_of(service: str) -> list[ComponentInfo]:
    with connect(service) as client:
        return client.components()


def _complete_name(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    from dbp.registry import GROUPS, catalogue

    known = [*GROUPS, *sorted({info.kind for info in catalogue()})]
    return [name for name in known if name.startswith(incomplete)]


@click.command()
@click.argument("name", required=False, shell_complete=_complete_name)
@click.option(
    "--output",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    help="Format of the output; markdown: one page of all kinds and all fields of a spec.",
)
@click.option(
    "--service",
    metavar="HOST:PORT",
    help="List the components that are installed with this service.",
)
def components(name: str | None, output: str, service: str | None) -> None:
    """List the installed components with their options: all, of one group, or one by NAME.

    With NAME, show the component in full: formula, source, options, an example.
    """
    import shutil

    from dbp.cli.reference import as_json, facts, markdown, page
    from dbp.errors import InvalidInput, alternatives
    from dbp.registry import GROUPS, catalogue

    found = catalogue() if service is None else _components_of(service)
    if name is not None:
        known = [*GROUPS, *sorted({info.kind for info in found})]
        if name not in known:
            message = f"no group or kind {name[:64]!a}{alternatives(name, known, 'known')}"
            raise InvalidInput(message)
        found = [info for info in found if name in (info.group, info.kind)]
    if output == "json":
        click.echo(as_json(found))
    elif output == "markdown":
        click.echo(markdown(found), nl=False)
    elif name is not None and name not in GROUPS:
        width = min(shutil.get_terminal_size().columns, 100)
        click.echo("\n\n".join("\n".join(page(info, width)) for info in found))
    else:
        for group in dict.fromkeys(info.group for info in found):
            click.echo(group)
            for info in (one for one in found if one.group == group):
                doc = info.doc.replace("``", "")
                words = f"cannot be used: {info.problem}" if info.problem else doc
                click.echo(f"  {info.kind:<22} {words}")
                for option in info.options:
                    click.echo(f"    {option.name:<20} {option.doc} ({facts(option)})")
