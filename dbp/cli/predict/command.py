"""`dbp predict` and `dbp evaluate`: use trained parameters, without MPI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dbp.cli.arguments.job import LABEL, SOURCE
from dbp.cli.arguments.service import connect, find_job
from dbp.cli.arguments.source import METAVAR, source_of
from dbp.cli.arguments.version import HELP, VERSION, VersionName, version_name
from dbp.cli.screen.output import echo, echo_json, output_option, service_option, writing
from dbp.errors import InvalidInput
from dbp.json_value import JsonValue
from dbp.quantities import count_text

if TYPE_CHECKING:
    from dbp.cli.predict.answers import Array
    from dbp.cli.predict.files import InputFile
    from dbp.cli.predict.rows import InputOptions
    from dbp.cli.predict.tables import Header
    from dbp.job.spec.resolve import ResolvedSpec

SHOWN_ROWS: Final = 10


@click.command()
@click.argument("source", type=SOURCE, metavar=METAVAR)
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--header",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "yes", "no"]),
    help="Whether line 1 of a .csv or .tsv file names the columns.",
)
@click.option(
    "--delimiter", default="", metavar="CHARACTER",
    help="Character between columns.  [default: comma in .csv, tab in .tsv]",
)  # fmt: skip
@click.option(
    "--array", default="", metavar="NAME",
    help="Array of the inputs in a .npz, .h5 or .safetensors file.  [default: the only "
    "array, else inputs or x]",
)  # fmt: skip
@click.option("--proba", is_flag=True, help="Print the probabilities of all classes.")
@click.option(
    "-o",
    "--out",
    "file",
    type=click.Path(path_type=Path),
    help="File to write: .npy, .csv or .tsv.",
)
@click.option(
    "--version", type=VERSION, help="Of a job: a number, latest or a label.  [default: latest]"
)
@click.option("--label", type=LABEL, default="", help="Of a job: the version with this label.")
@service_option
@output_option
def predict(
    source: str,
    inputs: tuple[str, ...],
    header: Header,
    delimiter: str,
    array: str,
    proba: bool,
    file: Path | None,
    version: VersionName | None,
    label: str,
    service: str,
    output: str,
) -> None:
    """Apply trained parameters to INPUTS and print the class of each row.

    RUN_FILE_OR_JOB is a run folder, a parameter file, or a job of the service. The model and
    its scaling come with the parameters; regression prints values. For a job the service
    computes, with one version for all rows; a run folder or a file needs no service.

    INPUTS are files of any format that `dbp train` reads, or patterns ('part/*.csv'): tables
    (.csv, .tsv, .parquet) or arrays (.npy, .npz, .h5, .safetensors, IDX). The content is
    examined where the name does not say the format. The columns of a table with names are
    matched to the inputs of the training set by name, in any order. The target and the weight
    of the training set may be among them and are ignored; other columns are refused. Without
    names the inputs must be in the order of the training set. The first axis of an array counts
    the rows. A row has the shape that the model takes, channels before height and width,
    whatever the layout of the training files was; a vector of as many numbers is accepted, too.

    \b
    Examples:
      dbp predict runs/digits images.npy
      dbp predict digits-7k2m9q images.npy --label best
      dbp predict weights.safetensors rows.csv --proba -o probabilities.npy
      dbp predict weights.safetensors rows.csv --header no
      dbp predict weights.safetensors images.npz --array x_test
    """
    from dbp.cli.predict.answers import WRITTEN, write_answers
    from dbp.cli.predict.files import find_files
    from dbp.cli.predict.rows import InputOptions
    from dbp.cli.predict.tables import TextOptions

    options = InputOptions(TextOptions(header, delimiter), array)
    if file is not None and file.suffix.lower() not in WRITTEN:
        raise InvalidInput(
            f"{file}: the suffix chooses the format: {', '.join(WRITTEN)}; got {file.suffix!r}"
        )
    trained = source_of(source)
    trained.refuse(version=version, label=label)
    parameters = trained.file
    files = find_files(inputs)
    if parameters is None:
        chosen = version_name(version, label)
        with trained.asking():
            found = _of_job(source, files, options, service, proba=proba, chosen=chosen)
    else:
        found = _of_file(parameters, files, options, proba=proba)
    if file is not None:
        read = [*(found.path for found in files), *([parameters] if parameters else [])]
        with writing(file, *read):
            write_answers(file, found)
        if output == "json":
            echo_json({"file": str(file), "rows": len(found)})
        else:
            echo(f"written to {file} ({count_text(len(found), 'row')})")
    elif output == "json":
        echo_json(found.tolist())
    else:
        for row in found:
            echo(" ".join(f"{v:.6g}" for v in row) if found.ndim > 1 else str(row))


@click.command()
@click.argument("source", type=SOURCE, metavar=METAVAR)
@click.option(
    "--on", "part", default="test", show_default=True,
    type=click.Choice(["test", "validation", "train"]), help="Data set of the spec.",
)  # fmt: skip
@click.option(
    "--spec", "spec_file", type=click.Path(path_type=Path),
    help="Spec that names the data.  [default: the run's or the job's own]",
)  # fmt: skip
@click.option(
    "-o", "--out", "file", type=click.Path(path_type=Path), metavar="FILE",
    help="Picture of the confusion matrix to write: .png or .svg.",
)  # fmt: skip
@click.option("--version", type=VERSION, help=f"Of a job: {HELP}.  [default: latest]")
@click.option("--label", type=LABEL, default="", help="Of a job: the version with this label.")
@service_option
@output_option
def evaluate(
    source: str,
    part: str,
    spec_file: Path | None,
    file: Path | None,
    version: VersionName | None,
    label: str,
    service: str,
    output: str,
) -> None:
    """Measure trained parameters on a data set of their spec; every sample once.

    RUN_FILE_OR_JOB is a run folder, a parameter file, or a job of the service.

    Prints loss and metrics and, for a model of classes, the confusion matrix (of more than 20
    classes the most frequent confusions) and the precision, recall, F1 and support of each
    class. These count each sample once, whatever its weight. A class that is never predicted
    has the precision 0, one that does not occur the recall 0; one that neither occurs nor is
    predicted counts in no average. -o draws the matrix: pip install 'dbp[plot]'.

    \b
    Examples:
      dbp evaluate runs/digits
      dbp evaluate runs/digits --on validation
      dbp evaluate runs/digits -o confusion.png
      dbp evaluate digits-7k2m9q --label best
    """
    from dbp.cli.arguments.trained import load_trained
    from dbp.cli.predict.answers import data_set
    from dbp.cli.predict.evaluated import check_picture, show_evaluation, write_picture
    from dbp.column_names import MODEL
    from dbp.train.check.data_notes import unnamed_notes
    from dbp.train.check.inspection import naming

    named = source_of(source)
    named.refuse(version=version, label=label)
    trained = load_trained(named, service, version_name(version, label))
    model = trained.model
    if file is not None:
        check_picture(file, model.model)
    if spec_file is None and trained.file is not None:
        spec_file = _spec_beside(trained.file)
    data = data_set(_spec(spec_file, trained.spec), part)
    for note in (*data.info.notes, *unnamed_notes(model.columns.inputs, data.info, MODEL)):
        echo(f"note: data.{part}: {note}", err=True)
    with naming(f"data.{part}"):
        found = model.evaluation(data)
    if file is not None:
        write_picture(file, found, *([trained.file] if trained.file else []))
    show_evaluation(found, model, data, part, file, output)


def _of_file(
    source: Path, files: Sequence[InputFile], options: InputOptions, *, proba: bool
) -> Array:
    from dbp.cli.predict.answers import answers
    from dbp.cli.predict.rows import read_rows
    from dbp.train.model.trained_model import TrainedModel

    model = TrainedModel.load(source)
    rows = read_rows(files, model.columns, options, _show_note)
    return answers(model, rows.shaped(model.model.input_shape), proba=proba)


def _of_job(
    source: str,
    files: Sequence[InputFile],
    options: InputOptions,
    service: str,
    *,
    proba: bool,
    chosen: VersionName,
) -> Array:
    from dbp.cli.predict.answers import check_probabilities, given_answers
    from dbp.cli.predict.rows import read_rows
    from dbp.column_names import POSITIONAL, columns_of

    if chosen.step is not None:
        raise InvalidInput("--version: predict takes a number, latest or a label, got step:N")
    version, label = chosen.number, chosen.label
    with connect(service) as client:
        job = find_job(client, source)
        if proba:
            check_probabilities(job.get().spec)
        columns = POSITIONAL
        if any(file.is_table for file in files):
            columns = columns_of(job.metadata(version=version, label=label), source)
        rows = read_rows(files, columns, options, _show_note)
        try:
            prediction = job.predict(rows.rows, version=version, label=label)
        except InvalidInput as error:
            raise rows.located(error) from error
    return given_answers(prediction, rows, proba=proba)


def _show_note(path: Path, text: str) -> None:
    """Print a reader's note on a file of inputs."""
    echo(f"note: {path}: {text}", err=True)


def _spec(file: Path | None, document: Mapping[str, JsonValue]) -> ResolvedSpec:
    """Return the spec in a file, else that of a document."""
    from dbp.job.spec.load import resolve_file
    from dbp.job.spec.resolve import resolve

    return resolve_file(file) if file is not None else resolve(document)


def _spec_beside(parameters: Path) -> Path:
    """Return the spec of the run that the parameter file belongs to."""
    from dbp.train.report.run_files import SPEC

    path = parameters.parent / SPEC
    if not path.exists():
        raise InvalidInput(f"{parameters}: no {SPEC} beside it; name the spec with --spec FILE")
    return path
