"""Print what `dbp evaluate` has measured, and write the picture of the confusion matrix."""

from __future__ import annotations

import shutil
from pathlib import Path

from dbp.cli.screen.output import echo, echo_json, writing
from dbp.data.dataset import Dataset
from dbp.errors import InvalidInput
from dbp.json_value import JsonValue
from dbp.nn.class_counts import MOST_PAIRED
from dbp.nn.model import Model
from dbp.plot.confusion import confusion_picture
from dbp.plot.picture import check_installed, picture_form
from dbp.quantities import count_text
from dbp.storage.atomic_file import write_file
from dbp.train.model.class_report import WIDTH
from dbp.train.model.evaluation import Evaluation
from dbp.train.model.trained_model import TrainedModel
from dbp.train.report.watched_metrics import undefined_figures


def check_picture(file: Path, model: Model) -> None:
    """Raise an error for a picture that cannot be drawn, before the evaluation."""
    picture_form(file)
    if model.loss.target_kind() != "class":
        raise InvalidInput("-o: the model gives values, which have no confusion matrix")
    classes = model.loss.class_count(model.output_shape)
    if classes > MOST_PAIRED:
        raise InvalidInput(
            f"-o: the model has {classes:,} classes; pairs of them are counted for up to "
            f"{MOST_PAIRED:,}"
        )
    check_installed()


def write_picture(file: Path, found: Evaluation, *sources: Path) -> None:
    """Write the picture of the confusion matrix; ``sources``: see ``writing``."""
    report = found.class_report
    if report is None or report.confusion_matrix is None:
        raise AssertionError("check_picture refuses such a model")
    content = confusion_picture(report.confusion_matrix, report.names, picture_form(file))
    with writing(file, *sources):
        write_file(file, [content])


def show_evaluation(
    found: Evaluation,
    model: TrainedModel,
    data: Dataset,
    part: str,
    picture: Path | None,
    output: str,
) -> None:
    """Print loss, metrics and the report on classes; ``picture``: the file written, if any."""
    metrics = dict(zip(model.metric_kinds, model.model.metrics, strict=True))
    for _, text in undefined_figures(found.figures, metrics):
        echo(f"note: data.{part}: {text}", err=True)
    report = found.class_report
    if output == "json":
        content: dict[str, JsonValue] = {"on": part, "samples": len(data), **found.figures}
        if report is not None:
            content["class_report"] = report.to_json()
        if picture is not None:
            content["file"] = str(picture)
        echo_json(content)
        return
    figures = ", ".join(f"{name} {value:.4f}" for name, value in found.figures.items())
    echo(f"{part} set, {count_text(len(data), 'sample')}: {figures}")
    if report is not None:
        echo("\n" + report.text(shutil.get_terminal_size((WIDTH, 1)).columns))
    if picture is not None:
        echo(f"written to {picture}")
