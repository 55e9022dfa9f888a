"""Lines of fields: right, or none at all."""

from __future__ import annotations

import pytest

from dbp.errors import Violation
from dbp.job.spec.locate import MAX_TEXT, with_lines

TEXT = """\
# units = 1, in a comment
name = "units = 2"
train.epochs = 3

[data]
train = { kind = "npy", inputs = "a", targets = "b" }
"scale" = "unit"

[model]
layers = [
  { kind = "dense", units = 512, activation = "relu" },
  { kind = "dense", units = 10, bias = nan },
  "relu",
]
loss = "x"

[[extra]]
kind = "first"
[[extra]]
kind = "second"

[optimizer]
kind = "sgd"
"""

LINES = [
    ("name", 2),
    ("train.epochs", 3),
    ("data.scale", 7),
    ("data.train.inputs", 6),
    ("model.layers[0].units", 11),
    ("model.layers[1].units", 12),
    ("model.layers[1].bias", 12),
    ("model.layers[0].activation.kind", 11),
    ("model.layers[1]", 12),
    ("model.layers", 10),
    ("model.layers[0].weight_initializer", 11),
    ("model.metrics", 9),
    ("extra[1].kind", 20),
    ("optimizer", 22),
    ("optimizer.learning_rate.rate", 22),
    ("model.layers[2].kind", 13),
    ("nothing", 0),
    ("", 0),
    ("model.'odd key'", 0),
]


@pytest.mark.parametrize(("path", "line"), LINES)
def test_the_line_is_that_of_the_field_or_of_its_table(path: str, line: int) -> None:
    (located,) = with_lines([Violation(path, "m")], TEXT)

    assert located == Violation(path, "m", line)


def test_violations_come_in_the_order_of_their_lines_unknown_ones_last() -> None:
    violations = [Violation(path, "m") for path in ("nothing", "optimizer.kind", "name")]

    located = with_lines(violations, TEXT)

    assert [v.path for v in located] == ["name", "optimizer.kind", "nothing"]


def test_long_texts_and_no_text_are_left_without_lines() -> None:
    violations = [Violation("name", "m")]

    assert with_lines(violations, "") == violations
    assert with_lines(violations, 'name = "x"\n' + "#" * MAX_TEXT) == violations


def test_a_key_that_stands_a_thousand_times_costs_a_bounded_number_of_probes() -> None:
    text = "# x\n" * 1000 + "x = 1\n"

    assert with_lines([Violation("x", "m")], text) == [Violation("x", "m", 0)]
