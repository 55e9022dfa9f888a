"""The job specification: dataclasses with every field, default and limit. No I/O.

These dataclasses are the one schema. TOML, JSON and the protos use the same names; ``load``
parses files to documents, ``check`` and ``resolve`` turn documents into specs,
``dbp.rpc.spec_convert`` converts documents to protos. A component (layer, loss, optimizer, ...)
is its kind and options; the registry finds its class. The number of workers is not part of a
spec: it changes how fast a job runs, not what it computes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dbp.registry import option


@dataclass(frozen=True)
class Component:
    """A component by kind, with the given options; its class has the defaults."""

    kind: str
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Holdout:
    """Validation samples taken out of the training set, a fraction chosen by the seed."""

    fraction: float = option(doc="share of the training samples", above=0.0, below=1.0)


@dataclass(frozen=True)
class DataSpec:
    """Data sets and how they are scaled."""

    train: Component = option(doc="training set", group="readers")
    validation: Component | Holdout | None = option(
        None,
        doc="validation set: a reader of its own, or { fraction = 0.1 } of the training set",
        group="readers",
    )
    test: Component | None = option(
        None, doc="test set, evaluated once, after training", group="readers"
    )
    scale: Literal["none", "unit", "standard", "min_max"] = option(
        "none",
        doc="none; unit: divide by 255 for bytes (16 for digits), else by the largest "
        "magnitude among the training inputs; standard: zero mean, unit variance per feature; "
        "min_max: 0 to 1 per feature",
    )


@dataclass(frozen=True)
class ModelSpec:
    """Layers from input to output, the loss after them, and the metrics."""

    layers: tuple[Component, ...] = option(
        doc='layers, input first; activation = "relu" (a kind, or a table with options) in a '
        "layer adds that layer after it and takes the next position, so later tensors have "
        "higher numbers, as in torch.nn.Sequential",
        group="layers",
    )
    loss: Component = option(doc="loss, summed over samples", group="losses")
    metrics: tuple[Component, ...] | None = option(
        None, doc="metrics; left out: those that fit the loss", group="metrics"
    )


@dataclass(frozen=True)
class StopSpec:
    """Conditions for stopping before the set number of epochs or steps."""

    metric: str = option(
        "training_loss",
        doc="training_loss, validation_loss, or training_/validation_ and a metric's name",
    )
    patience: int | None = option(
        None,
        doc="stop after this many epochs without improvement; epochs in which the metric is "
        "NaN or infinite do not count",
        minimum=1,
    )
    tolerance: float = option(
        0.0, doc="a smaller improvement than this counts as none", minimum=0.0
    )
    target: float | None = option(None, doc="stop once the metric has reached this value")
    restore_best: bool = option(
        False,
        doc="end with the parameters of the best epoch; works without patience and target",
    )


@dataclass(frozen=True)
class TrainSpec:
    """The training loop: mini-batches, length, numerics."""

    batch_size: int = option(
        128,
        doc="samples of one global mini-batch, whatever the number of workers",
        minimum=1,
        maximum=2**31 - 1,
    )
    last_batch: Literal["keep", "drop"] = option(
        "keep",
        doc="remainder, if batch_size does not divide the number of samples: keep: train on a "
        "short mini-batch; drop: skip it (other samples in each epoch)",
    )
    epochs: int | None = option(
        None,
        doc="passes over the training set; needs epochs or steps; the smaller ends the run",
        minimum=1,
        maximum=10**9,
    )
    steps: int | None = option(
        None, doc="updates of the parameters (see epochs)", minimum=1, maximum=10**12
    )
    dtype: Literal["float32", "float64"] = option("float32", doc="type of all parameters")
    numerics: Literal["fast", "exact"] = option(
        "exact",
        doc="exact: the same bits for any number of workers up to lanes; "
        "fast: no lanes, and the last bits depend on the number of workers",
    )
    lanes: int = option(
        4,
        doc="fixed slices of a mini-batch in exact numerics: at most this many workers, and "
        "at most batch_size",
        minimum=1,
        maximum=1024,
    )
    exchange: Literal["allreduce", "overlapped", "sharded"] = option(
        "sharded",
        doc="allreduce: every worker gets the whole gradient; sharded: each worker updates one "
        "shard of the parameters and stores the optimizer state of that shard; overlapped: "
        "gradients are sent during the backward pass, for workers on several hosts",
    )
    clip_norm: float | None = option(
        None, doc="largest global norm of the gradient; longer ones are scaled down", above=0.0
    )
    clip_value: float | None = option(
        None, doc="largest magnitude of one element of the gradient", above=0.0
    )
    average: float | None = option(
        None,
        doc="decay of the running mean of the parameters, for instance 0.999; if set, the mean "
        "is evaluated, published and saved instead of the parameters",
        above=0.0,
        below=1.0,
    )
    accumulate: int = option(
        1,
        doc="number of micro-batches, computed one after another to save memory; batch "
        "normalization uses the statistics of one micro-batch",
        minimum=1,
        maximum=1_000_000,
    )
    non_finite: Literal["fail", "skip", "rollback"] = option(
        "fail",
        doc="reaction to a loss or gradient that is not finite (its update is never applied): "
        "fail: end the run; skip: leave out the mini-batch; rollback: return to the newest "
        "checkpoint and continue at half the learning rate",
    )
    initial_parameters: str | None = option(
        None,
        doc="a .safetensors file whose tensors the run starts from: dbp's own, or a PyTorch "
        "state_dict of the same names and shapes; left out: drawn by the seed",
        file=True,
    )
    max_seconds: float | None = option(
        None,
        doc="limit of training time in seconds, summed over the first start and all "
        "resumes; the run stops after the current step and can be resumed",
        above=0.0,
    )
    schedule_steps: tuple[int, ...] | None = option(
        None,
        doc="written by dbp train --resume --schedule: steps that the learning rate's "
        "schedule is planned for: [n], or [n, a, m]: n steps up to step a, m after it; a "
        "missing last number is the length of the run",
        minimum=1,
    )
    evaluate_every_epochs: int = option(
        1, doc="epochs between evaluations on the validation set", minimum=1
    )
    stop: StopSpec | None = option(None, doc="conditions for an earlier end")


@dataclass(frozen=True)
class CheckpointSpec:
    """When checkpoints are written.

    A run that is stopped, or ends by its length or time, also writes one after its last step.
    """

    every_steps: int | None = option(None, doc="steps between checkpoints", minimum=1)
    every_seconds: float | None = option(
        None, doc="seconds between checkpoints; 60 where every_steps is left out too", above=0.0
    )
    keep: int = option(2, doc="newest checkpoints kept", minimum=1, maximum=10_000)
    keep_best: bool = option(
        False,
        doc="also write and keep a checkpoint of the best epoch; needs train.stop, whose "
        "metric decides",
    )


@dataclass(frozen=True)
class RetrySpec:
    """Retries of a job that a service launches, when one of its attempts fails.

    The job is launched again and resumes from its newest checkpoint with the same bits. A
    failure that would only repeat itself ends the job: NON_FINITE, DIVERGED, INVALID_DATA,
    DATA_CHANGED, NOTHING_APPLIED, and the same Python exception at the same step.
    """

    attempts: int = option(
        3,
        doc="attempts in a row without a new checkpoint after which the job fails; 0: it fails "
        "with its first failed attempt",
        minimum=0,
        maximum=1_000_000,
    )
    backoff_seconds: float = option(
        1.0,
        doc="seconds from a failure to the next launch; doubled with every further failure in "
        "a row, up to 60",
        minimum=0.0,
        maximum=60.0,
    )
    stall_seconds: float = option(
        60.0,
        doc="seconds without progress, beyond ten times the median step, after which the "
        "attempt ends as stalled; 30 times as long while CPU or disk are used to open data, or "
        "for a rank's first evaluation or checkpoint",
        above=0.0,
        maximum=1_000_000.0,
    )


@dataclass(frozen=True)
class PublishSpec:
    """When the live parameters become a new version."""

    every_steps: int | None = option(None, doc="steps between versions", minimum=1)
    every_seconds: float | None = option(
        None, doc="seconds between versions; 2 where every_steps is left out too", above=0.0
    )
    keep: int = option(4, doc="newest versions kept", minimum=1, maximum=10_000)
    best: bool = option(
        True,
        doc="also publish the best epoch, with the label best; train.stop's metric decides, "
        "else the validation loss",
    )


@dataclass(frozen=True)
class ReportSpec:
    """Where the events of a run go, beside its folder, its log and the service."""

    sinks: tuple[Component, ...] | None = option(
        None,
        doc="sinks, which receive the events of the run, each in a thread of its own; a "
        "service refuses sinks of plug-ins that it does not allow",
        group="sinks",
    )


@dataclass(frozen=True)
class JobSpec:
    """One training job, complete: the same spec and seed give the same parameters."""

    name: str = option(doc="lower-case letters, digits and dashes, at most 63")
    seed: int = option(0, doc="source of every random draw", minimum=0, maximum=2**63 - 1)
    data: DataSpec = option(doc="data sets and scaling")
    model: ModelSpec = option(doc="layers and loss")
    optimizer: Component = option(doc="update rule", group="optimizers")
    train: TrainSpec = option(TrainSpec(), doc="length, mini-batches, numerics")
    checkpoint: CheckpointSpec = option(
        CheckpointSpec(), doc="when checkpoints are written, and how many are kept"
    )
    publish: PublishSpec = option(
        PublishSpec(), doc="when versions are published, and how many are kept"
    )
    retry: RetrySpec = option(
        RetrySpec(),
        doc="how often, and after which pause, a service launches a failed job again",
    )
    report: ReportSpec = option(ReportSpec(), doc="where the events of the run go")
    visibility: Literal["private", "shared"] = option(
        "private",
        doc="private: only the owner and admins of a service see the job; shared: its viewers "
        "read it and predict with it, its submitters also change it",
    )
