"""Two small networks worked out on paper: every number below is exact, none was computed here.

The weights are multiples of L = ln 3 (or of M = ln 2) so that activations are fractions:
sigmoid(L) = 3/4, sigmoid(-L) = 1/4, sigmoid(0) = 1/2; softmax(0, -L) = (3/4, 1/4);
tanh(L) = (9 - 1) / (9 + 1) = 4/5, tanh(M) = (4 - 1) / (4 + 1) = 3/5.
"""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from dbp.nn.dense import Dense
from dbp.nn.layer import Array, Layer
from dbp.nn.loss import Loss
from dbp.nn.mean_squared_error import MeanSquaredError
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.nn.role import is_bias
from dbp.nn.sigmoid import Sigmoid
from dbp.nn.softmax_cross_entropy import SoftmaxCrossEntropy
from dbp.nn.tanh import Tanh
from dbp.optim.apply import Updater
from dbp.optim.schedule import Constant
from dbp.optim.sgd import SGD
from tests.closeness import assert_close

L, M = log(3), log(2)

# z1 = W1 x + b1, h = sigmoid(z1), z2 = W2 h + b2, p = softmax(z2)
START: dict[str, list] = {
    "0.weight": [[L, L], [4 * L, 2 * L]],
    "0.bias": [-2 * L, -9 * L],
    "2.weight": [[L, L], [-L, 2 * L]],
    "2.bias": [-L, -3 / 4 * L],
}

# Sample A: x = (1, 2), class 1.
#   z1 = ((1 + 2 - 2) L, (4 + 4 - 9) L) = (L, -L)          h  = (3/4, 1/4)
#   z2 = ((3/4 + 1/4 - 1) L, (-3/4 + 2/4 - 3/4) L) = (0, -L)   p  = (3/4, 1/4)
#   loss = -ln 1/4 = 2 M
#   dz2 = p - (0, 1) = (3/4, -3/4)
#   dW2 = dz2 h^T = [[9/16, 3/16], [-9/16, -3/16]]         db2 = dz2
#   dh  = W2^T dz2 = ((3/4 + 3/4) L, (3/4 - 6/4) L) = (3/2 L, -3/4 L)
#   h (1 - h) = (3/16, 3/16)                               dz1 = (9/32 L, -9/64 L)
#   dW1 = dz1 x^T = [[9/32 L, 9/16 L], [-9/64 L, -9/32 L]] db1 = dz1
X_A, CLASS_A = [1.0, 2.0], 1
GRADIENT_A = {
    "0.weight": [[9 / 32 * L, 9 / 16 * L], [-9 / 64 * L, -9 / 32 * L]],
    "0.bias": [9 / 32 * L, -9 / 64 * L],
    "2.weight": [[9 / 16, 3 / 16], [-9 / 16, -3 / 16]],
    "2.bias": [3 / 4, -3 / 4],
}
# One step of SGD at rate 1/2 takes half of each away: 1 - 9/64 = 55/64, 1 - 9/32 = 23/32,
# 4 + 9/128 = 521/128, 2 + 9/64 = 137/64, -2 - 9/64 = -137/64, -9 + 9/128 = -1143/128.
AFTER_A = {
    "0.weight": [[55 / 64 * L, 23 / 32 * L], [521 / 128 * L, 137 / 64 * L]],
    "0.bias": [-137 / 64 * L, -1143 / 128 * L],
    "2.weight": [[L - 9 / 32, L - 3 / 32], [-L + 9 / 32, 2 * L + 3 / 32]],
    "2.bias": [-L - 3 / 8, -3 / 4 * L + 3 / 8],
}

# Sample B: x = (3, -1), class 0.
#   z1 = ((3 - 1 - 2) L, (12 - 2 - 9) L) = (0, L)          h  = (1/2, 3/4)
#   z2 = ((2/4 + 3/4 - 1) L, (-2/4 + 6/4 - 3/4) L) = (L/4, L/4)   p  = (1/2, 1/2)
#   loss = -ln 1/2 = M
#   dz2 = p - (1, 0) = (-1/2, 1/2)
#   dW2 = [[-1/4, -3/8], [1/4, 3/8]]                       db2 = dz2
#   dh  = ((-1/2 - 1/2) L, (-1/2 + 1) L) = (-L, L/2)
#   h (1 - h) = (1/4, 3/16)                                dz1 = (-L/4, 3/32 L)
#   dW1 = [[-3/4 L, 1/4 L], [9/32 L, -3/32 L]]             db1 = dz1
X_B, CLASS_B = [3.0, -1.0], 0

# Both samples: the gradients' sum.
#   dW1 = [[9/32 - 24/32, 18/32 + 8/32], [-9/64 + 18/64, -18/64 - 6/64]] L
#   db1 = (9/32 - 8/32, -9/64 + 6/64) L
#   dW2 = [[9/16 - 4/16, 3/16 - 6/16], [the same, negative]]    db2 = (3/4 - 2/4, -1/4)
GRADIENT_BOTH = {
    "0.weight": [[-15 / 32 * L, 13 / 16 * L], [9 / 64 * L, -3 / 8 * L]],
    "0.bias": [1 / 32 * L, -3 / 64 * L],
    "2.weight": [[5 / 16, -3 / 16], [-5 / 16, 3 / 16]],
    "2.bias": [1 / 4, -1 / 4],
}
# The mean is half the sum, and rate 1/2 halves it again: a quarter of each goes away.
# 1 + 15/128 = 143/128, 1 - 13/64 = 51/64, 4 - 9/256 = 1015/256, 2 + 3/32 = 67/32.
AFTER_BOTH = {
    "0.weight": [[143 / 128 * L, 51 / 64 * L], [1015 / 256 * L, 67 / 32 * L]],
    "0.bias": [-2 * L - 1 / 128 * L, -9 * L + 3 / 256 * L],
    "2.weight": [[L - 5 / 64, L + 3 / 64], [-L + 5 / 64, 2 * L - 3 / 64]],
    "2.bias": [-L - 1 / 16, -3 / 4 * L + 1 / 16],
}


def build(
    layers: list[Layer], loss: Loss, start: dict[str, list]
) -> tuple[Model, Parameters, Parameters]:
    model = Model(layers, (2,), dtype=np.float64, loss=loss)
    assert list(model.parameter_shapes) == list(start)
    parameters = Parameters.zeros(model.parameter_shapes, np.float64)
    for name, values in start.items():
        parameters[name][...] = values
    gradients = Parameters.zeros(model.parameter_shapes, np.float64)
    gradients.vector.fill(np.nan)  # every element must be written
    return model, parameters, gradients


def update(parameters: Parameters, gradients: Parameters, *, samples: int) -> None:
    biases = [name for name in parameters.shapes if is_bias(name)]
    optimizer = SGD(learning_rate=Constant(rate=0.5))
    updater = Updater(optimizer, parameters.slices, biases, dtype=np.float64)
    gradients.vector[:] /= samples
    assert updater.step(parameters.vector, gradients.vector, step=1, total_steps=1) == 0.5


def assert_equal(actual: Parameters, expected: dict[str, list]) -> None:
    for name, values in expected.items():
        assert_close(actual[name], values, 1e-12, name=name)


@pytest.mark.parametrize(
    ("x", "classes", "outputs", "loss", "gradient", "after"),
    [
        ([X_A], [CLASS_A], [[0, -L]], 2 * M, GRADIENT_A, AFTER_A),
        (
            [X_A, X_B],
            [CLASS_A, CLASS_B],
            [[0, -L], [L / 4, L / 4]],
            3 * M,
            GRADIENT_BOTH,
            AFTER_BOTH,
        ),
    ],
    ids=["one sample", "two samples"],
)
def test_a_step_of_a_classifier_equals_the_one_computed_by_hand(
    x: list[list[float]],
    classes: list[int],
    outputs: list[list[float]],
    loss: float,
    gradient: dict[str, list],
    after: dict[str, list],
) -> None:
    layers: list[Layer] = [Dense(units=2), Sigmoid(), Dense(units=2)]
    model, parameters, gradients = build(layers, SoftmaxCrossEntropy(), START)

    found = model.forward_backward(parameters, gradients, np.array(x), np.array(classes))

    assert_close(model.prediction, outputs, 1e-12)
    assert found == pytest.approx(loss, rel=1e-12)
    assert_equal(gradients, gradient)
    update(parameters, gradients, samples=len(x))
    assert_equal(parameters, after)


def test_probabilities_of_the_classifier() -> None:
    layers: list[Layer] = [Dense(units=2), Sigmoid(), Dense(units=2)]
    model, parameters, _ = build(layers, SoftmaxCrossEntropy(), START)

    p: Array = model.loss.activate(model.forward(parameters, np.array([X_A, X_B])))

    assert_close(p, [[3 / 4, 1 / 4], [1 / 2, 1 / 2]], 1e-12)


def test_a_step_of_a_regression_without_biases_equals_the_one_computed_by_hand() -> None:
    # z = W1 x = (-L + 2 L, -M + 2 M) = (L, M)              h = tanh z = (4/5, 3/5)
    # y = W2 h = (4/5 - 6/5, 12/5 + 3/5) = (-2/5, 3)
    # e = y - t = (-2/5 - 3/5, 3 - 2) = (-1, 1)             loss = (1 + 1) / 2 = 1
    # dy = 2 e / 2 = (-1, 1)                                dW2 = dy h^T
    # dh = W2^T dy = (-1 + 3, 2 + 1) = (2, 3)               1 - h^2 = (9/25, 16/25)
    # dz = (18/25, 48/25)                                   dW1 = dz x^T
    layers: list[Layer] = [Dense(units=2, bias=False), Tanh(), Dense(units=2, bias=False)]
    start = {"0.weight": [[-L, L], [-M, M]], "2.weight": [[1.0, -2.0], [3.0, 1.0]]}
    model, parameters, gradients = build(layers, MeanSquaredError(), start)

    loss = model.forward_backward(
        parameters, gradients, np.array([[1.0, 2.0]]), np.array([[3 / 5, 2.0]])
    )

    assert_close(model.prediction, [[-2 / 5, 3.0]], 1e-12)
    assert loss == pytest.approx(1.0, rel=1e-12)
    assert_equal(
        gradients,
        {
            "0.weight": [[18 / 25, 36 / 25], [48 / 25, 96 / 25]],
            "2.weight": [[-4 / 5, -3 / 5], [4 / 5, 3 / 5]],
        },
    )
    update(parameters, gradients, samples=1)
    assert_equal(
        parameters,
        {
            "0.weight": [[-L - 9 / 25, L - 18 / 25], [-M - 24 / 25, M - 48 / 25]],
            "2.weight": [[1 + 2 / 5, -2 + 3 / 10], [3 - 2 / 5, 1 - 3 / 10]],
        },
    )
