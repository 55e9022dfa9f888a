"""Distributed backpropagation: data-parallel training over MPI, live parameters over gRPC.

The public API, all of it importable from ``dbp``. ``help(dbp.Client)`` describes one class.

===================================  ===================================================
fit, load, FittedModel, ClassReport  train in this process, without a service; the trained
                                     model: predict, evaluate, save; its report on classes
Client, AsyncClient                  connect to a service: submit, find, list, watch jobs
DBPClassifier, DBPRegressor           estimators for scikit-learn, which they need
JobHandle, AsyncJobHandle            one job: wait, logs, cancel, parameters, predict
ParameterMirror,                     a local copy of the newest parameters, updated in the
  AsyncParameterMirror               background
ParameterSet, Prediction             results of a job: arrays by name; outputs by row
JobMetrics, MetricSeries             metrics history of a job: arrays by name and step
Job, State, Failure, FailureReason,  a job and its progress, as the service reports them
  Condition, ConditionKind,
  BestEpoch, ProgressReport, JobUpdate
Version, VersionEntry, LabelMove,    versions of the parameters, and labels on them
  ParameterUpdate
JobSpec (DataSpec, ModelSpec,        a job specification, also as a file or a dict, and its
  TrainSpec, StopSpec, Component,    parts; ``to_toml(spec)`` is the text of a file
  CheckpointSpec, PublishSpec, Holdout)
ValidatedJob                         the resolved spec of a job that was only validated
ComponentInfo, OptionInfo            a layer, loss, optimizer, ... that the service has
errors, DbpError                     every exception; ``help(dbp.errors)`` shows the tree
plugin, testing                      base classes for layers, losses, optimizers, ... of your
                                     own package, and checks of their contracts
===================================  ===================================================

::

    with dbp.Client() as client:
        job = client.submit("job.toml", workers=2)
        parameters = job.parameters(wait=30)

Other modules may change without notice. ``import dbp`` loads neither numpy nor gRPC: a name is
imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbp import errors, plugin, testing
    from dbp.client.async_client import AsyncClient
    from dbp.client.async_job import AsyncJobHandle
    from dbp.client.async_mirror import AsyncParameterMirror
    from dbp.client.async_parameters import ParameterUpdate
    from dbp.client.client import Client
    from dbp.client.inference import Prediction
    from dbp.client.job import JobHandle
    from dbp.client.metrics import JobMetrics, MetricSeries
    from dbp.client.mirror import ParameterMirror
    from dbp.client.parameter_set import ParameterSet
    from dbp.client.spec import ValidatedJob
    from dbp.client.transport.streams import JobUpdate
    from dbp.errors import DbpError
    from dbp.estimators.classifier import DBPClassifier as DBPClassifier
    from dbp.estimators.regressor import DBPRegressor as DBPRegressor
    from dbp.job.best import BestEpoch
    from dbp.job.failure import Condition, ConditionKind, Failure, FailureReason
    from dbp.job.spec.document import to_toml
    from dbp.job.spec.job_spec import (
        CheckpointSpec,
        Component,
        DataSpec,
        Holdout,
        JobSpec,
        ModelSpec,
        PublishSpec,
        StopSpec,
        TrainSpec,
    )
    from dbp.job.state import Job, LabelMove, ProgressReport, State, Version, VersionEntry
    from dbp.registry import ComponentInfo, OptionInfo
    from dbp.train.fit import fit, load
    from dbp.train.model.class_report import ClassReport
    from dbp.train.model.fitted_model import FittedModel

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncJobHandle",
    "AsyncParameterMirror",
    "BestEpoch",
    "CheckpointSpec",
    "ClassReport",
    "Client",
    "Component",
    "ComponentInfo",
    "Condition",
    "ConditionKind",
    "DataSpec",
    "DbpError",
    "Failure",
    "FailureReason",
    "FittedModel",
    "Holdout",
    "Job",
    "JobHandle",
    "JobMetrics",
    "JobSpec",
    "JobUpdate",
    "LabelMove",
    "MetricSeries",
    "ModelSpec",
    "OptionInfo",
    "ParameterMirror",
    "ParameterSet",
    "ParameterUpdate",
    "Prediction",
    "ProgressReport",
    "PublishSpec",
    "State",
    "StopSpec",
    "TrainSpec",
    "ValidatedJob",
    "Version",
    "VersionEntry",
    "__version__",
    "errors",
    "fit",
    "load",
    "plugin",
    "testing",
    "to_toml",
]

_NAMES = {
    "client.async_client": "AsyncClient",
    "client.async_job": "AsyncJobHandle",
    "client.async_mirror": "AsyncParameterMirror",
    "client.async_parameters": "ParameterUpdate",
    "client.client": "Client",
    "client.inference": "Prediction",
    "client.job": "JobHandle",
    "client.metrics": "JobMetrics MetricSeries",
    "client.mirror": "ParameterMirror",
    "client.parameter_set": "ParameterSet",
    "client.spec": "ValidatedJob",
    "client.transport.streams": "JobUpdate",
    "errors": "DbpError",
    "job.best": "BestEpoch",
    "job.spec.document": "to_toml",
    "job.spec.job_spec": "CheckpointSpec Component DataSpec Holdout JobSpec ModelSpec "
    "PublishSpec StopSpec TrainSpec",
    "job.failure": "Condition ConditionKind Failure FailureReason",
    "job.state": "Job LabelMove ProgressReport State Version VersionEntry",
    "registry": "ComponentInfo OptionInfo",
    "train.fit": "fit load",
    "train.model.class_report": "ClassReport",
    "train.model.fitted_model": "FittedModel",
}
# Not in __all__: without scikit-learn, ``from dbp import *`` and ``help(dbp)`` work, too.
_OPTIONAL = {
    "DBPClassifier": "dbp.estimators.classifier",
    "DBPRegressor": "dbp.estimators.regressor",
}
_HOMES = {name: f"dbp.{home}" for home, names in _NAMES.items() for name in names.split()}

if not TYPE_CHECKING:  # a type checker that saw __getattr__ would accept any name

    def __getattr__(name: str) -> object:
        if name in ("errors", "plugin", "testing"):
            return importlib.import_module(f"dbp.{name}")
        homes = _HOMES | _OPTIONAL
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        from dbp.errors import nearest

        raise AttributeError(
            f"module 'dbp' has no attribute {name!r}{nearest(name, __dir__())}"
        )


def __dir__() -> list[str]:
    from importlib.util import find_spec

    has_sklearn = find_spec("sklearn") is not None
    return sorted([*__all__, *(_OPTIONAL if has_sklearn else ())])
