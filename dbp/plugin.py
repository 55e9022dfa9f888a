"""Base classes for packages that add components to dbp, imported in one place.

A component is a frozen dataclass whose fields are its options, declared with ``option``. It
derives from ``Layer``, ``Loss``, ``Metric``, ``Optimizer``, ``Schedule``, ``Initializer``,
``Reader`` or ``Sink`` and is registered in the ``pyproject.toml`` of its package::

    [project.entry-points."dbp.layers"]
    softsign_gain = "dbp_example.softsign_gain:SoftsignGain"

``dbp.testing`` checks that a component keeps the contract of its base class.

A ``Sink`` receives the events of a run on rank 0, in a thread of its own: ``RunStart``,
``Progress``, ``Evaluation``, ``EpochEnd``, ``RollBack`` and ``RunEnd``. A spec names kinds of
sinks in ``report.sinks``, ``dbp.fit`` takes instances. Their constructors keep options only,
``start`` opens what they need; a sink that is no frozen dataclass may keep it in attributes.
A service refuses the sinks of plug-ins that its operator has not allowed.

A reader opens its files with ``DataFile``, and quotes their contents in errors with ``quoted``.
Then the rules of ``dbp serve --data-root`` hold for it: the folders that a job may read, links
that lead out of them, names that begin with a dot, state folders of services; a file that is
replaced after the service has checked it is refused; and errors show contents to the user
alone. A reader that calls ``open`` itself, or gives a library the name of a file, gives all of
this up: it reads whatever the service's user can read. Give a library ``DataFile.stream()`` or
``DataFile.reopened``. Declare options that name files with ``option(..., file=True)``: the
service refuses paths outside the folders when a job is submitted.
"""

from __future__ import annotations

from dbp.data.array_dataset import arrays
from dbp.data.dataset import DataInfo, Dataset, Indices, Reader
from dbp.data.file import DataFile
from dbp.data.quoting import quoted
from dbp.errors import InvalidData
from dbp.nn.batch_layer import BatchLayer, LaneBackward, LaneGenerator
from dbp.nn.elementwise import Elementwise
from dbp.nn.initializer import Initializer
from dbp.nn.joint_layer import JointBackward, JointLayer, LaneGradients
from dbp.nn.layer import (
    UNLIMITED,
    Array,
    Backward,
    Layer,
    Range,
    Shape,
    Views,
    Workspace,
)
from dbp.nn.loss import Loss
from dbp.nn.metric import Metric, ScoreMetric
from dbp.nn.role import Role
from dbp.nn.row_product import RowProduct
from dbp.optim.optimizer import Optimizer, Vector
from dbp.optim.schedule import Schedule
from dbp.registry import option
from dbp.train.sinks.events import (
    EpochEnd,
    Evaluation,
    Event,
    Progress,
    RollBack,
    RunEnd,
    RunStart,
)
from dbp.train.sinks.sink import Sink

__all__ = [
    "UNLIMITED",
    "Array",
    "Backward",
    "BatchLayer",
    "DataFile",
    "DataInfo",
    "Dataset",
    "Elementwise",
    "EpochEnd",
    "Evaluation",
    "Event",
    "Indices",
    "Initializer",
    "InvalidData",
    "JointBackward",
    "JointLayer",
    "LaneBackward",
    "LaneGenerator",
    "LaneGradients",
    "Layer",
    "Loss",
    "Metric",
    "Optimizer",
    "Progress",
    "Range",
    "Reader",
    "Role",
    "RollBack",
    "RowProduct",
    "RunEnd",
    "RunStart",
    "Schedule",
    "ScoreMetric",
    "Shape",
    "Sink",
    "Vector",
    "Views",
    "Workspace",
    "arrays",
    "option",
    "quoted",
]
