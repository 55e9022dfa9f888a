"""Documents to protos and back: nothing is added, nothing is lost, nothing unknown is kept."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.errors import InvalidSpec
from dbp.job.spec.job_spec import (
    CheckpointSpec,
    DataSpec,
    JobSpec,
    ModelSpec,
    PublishSpec,
    ReportSpec,
    RetrySpec,
    StopSpec,
    TrainSpec,
)
from dbp.job.spec.resolve import resolve
from dbp.rpc.enums import values_of
from dbp.rpc.spec_convert import (
    check_size,
    refuse_unknown,
    spec_from_proto,
    spec_to_proto,
    stored_spec,
)
from dbp.v1 import job_pb2 as pb
from dbp.v1 import job_service_pb2

Document = dict[str, Any]

# Field 1000, a varint: what a newer client might send.
UNKNOWN = b"\xc0\x3e\x01"

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUE = st.recursive(
    st.booleans() | INT64 | FLOAT | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OPTIONS = st.dictionaries(TEXT.filter(lambda name: name != "kind"), VALUE, max_size=3)
COMPONENT = st.builds(
    lambda kind, options: {"kind": kind} | options, TEXT.filter(bool), OPTIONS
)
HOLDOUT = st.fixed_dictionaries({"fraction": FLOAT})


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries({}, optional=fields)


def one_of(name: str, cls: type[Any]) -> st.SearchStrategy[str]:
    return st.sampled_from(typing.get_args(typing.get_type_hints(cls)[name]))


DOCUMENT = optional(
    name=TEXT.filter(bool),
    seed=INT64,
    data=optional(
        train=COMPONENT,
        validation=COMPONENT | HOLDOUT,
        test=COMPONENT,
        scale=one_of("scale", DataSpec),
    ),
    model=optional(
        layers=st.lists(COMPONENT, min_size=1, max_size=3),
        loss=COMPONENT,
        metrics=st.lists(COMPONENT, min_size=1, max_size=2),
    ),
    optimizer=COMPONENT,
    train=optional(
        batch_size=INT64,
        epochs=INT64,
        dtype=one_of("dtype", TrainSpec),
        numerics=one_of("numerics", TrainSpec),
        non_finite=one_of("non_finite", TrainSpec),
        exchange=one_of("exchange", TrainSpec),
        last_batch=one_of("last_batch", TrainSpec),
        clip_norm=FLOAT,
        schedule_steps=st.lists(INT64, min_size=1, max_size=4),
        stop=optional(metric=TEXT, patience=INT64, tolerance=FLOAT),
    ),
    checkpoint=optional(every_steps=INT64, every_seconds=FLOAT, keep=INT64),
    publish=optional(every_steps=INT64, every_seconds=FLOAT, keep=INT64),
    retry=optional(attempts=INT64, backoff_seconds=FLOAT, stall_seconds=FLOAT),
    report=optional(sinks=st.lists(COMPONENT, min_size=1, max_size=2)),
)


def over_the_wire(document: Document) -> Document:
    return spec_from_proto(pb.JobSpec.FromString(spec_to_proto(document).SerializeToString()))


def typed(value: Any) -> Any:
    """The value with its types, since 1 == 1.0 == True."""
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value), value


@given(DOCUMENT)
@settings(max_examples=200, deadline=None)
def test_any_document_comes_back_as_it_was(document: Document) -> None:
    assert typed(over_the_wire(document)) == typed(document)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (JobSpec, pb.JobSpec),
        (DataSpec, pb.DataSpec),
        (ModelSpec, pb.ModelSpec),
        (TrainSpec, pb.TrainSpec),
        (CheckpointSpec, pb.CheckpointSpec),
        (StopSpec, pb.StopSpec),
        (PublishSpec, pb.PublishSpec),
        (RetrySpec, pb.RetrySpec),
        (ReportSpec, pb.ReportSpec),
    ],
)
def test_the_protos_have_the_fields_of_the_spec(cls: type[Any], message: Any) -> None:
    kinds = {int: "INT64", float: "DOUBLE", str: "STRING"}
    hints = typing.get_type_hints(cls)

    assert {f.name for f in dataclasses.fields(cls)} == set(message.DESCRIPTOR.fields_by_name)
    for name, field in message.DESCRIPTOR.fields_by_name.items():
        scalars = {arm for arm in (hints[name], *typing.get_args(hints[name])) if arm in kinds}
        for scalar in scalars:
            assert field.type == getattr(field, f"TYPE_{kinds[scalar]}"), name
            assert field.has_presence or name == "name", f"{name}: 0 and unset differ"
        if typing.get_origin(hints[name]) is typing.Literal:
            assert set(values_of(field.enum_type)) == set(typing.get_args(hints[name]))
        else:
            assert field.enum_type is None


def test_a_resolved_spec_keeps_its_digest_over_the_wire() -> None:
    resolved = resolve(
        {
            "name": "digits",
            "data": {"train": "digits", "validation": {"fraction": 0.1}, "test": "digits"},
            "model": {
                "layers": [
                    {"kind": "dense", "units": 3, "activation": "relu", "bias": False},
                    {"kind": "dense", "units": 10, "weight_initializer": "he_normal"},
                ],
                "loss": "softmax_cross_entropy",
            },
            "optimizer": {
                "kind": "adamw",
                "learning_rate": {"kind": "cosine", "peak": 1, "warmup_steps": 5},
            },
            "train": {"epochs": 2, "stop": {"patience": 3, "tolerance": 0}},
        }
    )

    again = resolve(over_the_wire(dict(resolved.document)))

    assert again.digest == resolved.digest
    assert typed(over_the_wire(dict(resolved.document))) == typed(resolved.document)


def test_a_kind_alone_is_short_for_a_component() -> None:
    document = {"optimizer": "adam", "model": {"layers": ["relu", {"kind": "dense"}]}}

    assert over_the_wire(document) == {
        "optimizer": {"kind": "adam"},
        "model": {"layers": [{"kind": "relu"}, {"kind": "dense"}]},
    }


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"nmae": "x"}, "nmae"),
        ({"train": {"epohcs": 1}}, "train.epohcs"),
        ({"train": {"stop": {"wait": 1}}}, "train.stop.wait"),
        ({"train": {"epochs": "two"}}, "train.epochs"),
        ({"train": {"epochs": 2**63}}, "train.epochs"),
        ({"seed": 1.5}, "seed"),
        ({"name": "\ud800"}, "name"),
        ({"optimizer": {"kind": "sgd", "learning_rate": None}}, "optimizer"),
        ({"optimizer": {"kind": 3}}, "optimizer"),
        ({"optimizer": {"kind": "sgd", "steps": 2**64}}, "optimizer"),
        ({"model": {"layers": 3}}, "model.layers"),
        ({"data": 3}, "data"),
        ({"data": {"scale": "standrad"}}, "data.scale"),
        ({"train": {"numerics": "unspecified"}}, "train.numerics"),
        ({"train": {"exchange": 1}}, "train.exchange"),
        ({"train": {"dtype": ["float32"]}}, "train.dtype"),
    ],
)
def test_unencodable_fields_are_refused_by_path(document: Document, path: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        spec_to_proto(document)

    assert [violation.path for violation in caught.value.violations] == [path]


def test_a_value_that_an_enum_lacks_names_the_values_and_the_nearest() -> None:
    with pytest.raises(InvalidSpec) as caught:
        spec_to_proto({"data": {"scale": "standrad"}})

    assert str(caught.value) == (
        "data.scale: must be one of none, unit, standard, min_max, got 'standrad', did you "
        "mean 'standard'?"
    )


def test_enum_values_of_a_newer_client_are_refused_by_their_path() -> None:
    spec = pb.JobSpec()
    spec.train.numerics = 99  # type: ignore[assignment]

    with pytest.raises(InvalidSpec) as caught:
        spec_from_proto(pb.JobSpec.FromString(spec.SerializeToString()))

    assert str(caught.value) == (
        "train.numerics: value number 99 (known: fast, exact) is not known to this version of "
        "dbp"
    )


def test_an_unspecified_enum_is_a_field_left_out() -> None:
    spec = pb.JobSpec(name="x")
    spec.train.numerics = pb.NUMERICS_UNSPECIFIED
    spec.train.epochs = 1

    assert spec_from_proto(spec) == {"name": "x", "train": {"epochs": 1}}


def test_fields_of_a_newer_client_are_refused_wherever_they_are() -> None:
    spec = spec_to_proto(
        {
            "train": {"stop": {"patience": 1}},
            "model": {"layers": ["relu", {"kind": "dense", "units": 1}]},
            "optimizer": {"kind": "adam", "rate": {"kind": "cosine", "peaks": [1, 2]}},
        }
    )
    rate = spec.optimizer.options["rate"].table_value.fields
    for message in (
        spec,
        spec.train.stop,
        spec.model.layers[1],
        spec.model.layers[1].options["units"],
        rate["peaks"].list_value.values[1],
    ):
        message.MergeFromString(UNKNOWN)

    with pytest.raises(InvalidSpec) as caught:
        spec_from_proto(spec)

    assert {violation.path for violation in caught.value.violations} == {
        "",
        "train.stop",
        "model.layers[1]",
        "model.layers[1].options['units']",
        "optimizer.options['rate'].table_value.fields['peaks'].list_value.values[1]",
    }
    assert "field number 1000 is not known" in str(caught.value)


def test_unknown_fields_of_a_request_are_refused_too() -> None:
    request = job_service_pb2.CreateJobRequest.FromString(UNKNOWN)

    with pytest.raises(InvalidSpec, match="field number 1000"):
        refuse_unknown(request)
    refuse_unknown(job_service_pb2.CreateJobRequest(workers=2, spec=pb.JobSpec(name="x")))


def test_a_field_that_was_looked_through_is_not_looked_through_again() -> None:
    request = job_service_pb2.CreateJobRequest(spec=pb.JobSpec.FromString(UNKNOWN))

    refuse_unknown(request, checked="spec")
    with pytest.raises(InvalidSpec, match=r"spec: field number 1000"):
        refuse_unknown(request)
    request.MergeFromString(UNKNOWN)
    with pytest.raises(InvalidSpec, match="field number 1000"):
        refuse_unknown(request, checked="spec")


def test_the_proto_of_a_checked_document_is_made_once() -> None:
    document: Document = {"name": "x", "train": {"epochs": 1}}
    check_size(document)

    assert stored_spec(document) is stored_spec(document)
    assert stored_spec(document) == spec_to_proto(document)


def test_an_equal_document_has_a_proto_of_its_own() -> None:
    document = {"name": "x"}
    check_size(document)
    other = dict(document)

    assert stored_spec(other) is not stored_spec(document)
    assert stored_spec(other) == stored_spec(document)


def test_protos_of_documents_checked_long_ago_are_made_again() -> None:
    documents = [{"name": f"x{number}"} for number in range(100)]
    for document in documents:
        check_size(document)

    assert stored_spec(documents[0]) is not stored_spec(documents[0])
    assert [stored_spec(document).name for document in documents] == [
        document["name"] for document in documents
    ]
