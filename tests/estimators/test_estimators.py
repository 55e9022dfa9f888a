"""`DBPClassifier` and `DBPRegressor`: the bits of `dbp.fit`, and use as scikit-learn's own."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, make_regression
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import dbp
from dbp.errors import InvalidArgument, InvalidInput, InvalidSpec
from dbp.estimators.settings import document_of

RNG = np.random.default_rng(5)
X = RNG.normal(size=(240, 6))
NUMBERS = np.argmax(X[:, :3], axis=1)
Y = np.array(["ant", "bee", "cow"])[NUMBERS]
VALUES = X @ RNG.normal(size=(6, 2))


def vector(model: dbp.FittedModel) -> bytes:
    return b"".join(array.tobytes() for array in model.parameters.values())


def small(**changed: Any) -> dbp.DBPClassifier:
    settings = {"hidden_layer_sizes": 12, "epochs": 4, "batch_size": 32, "random_state": 3}
    return dbp.DBPClassifier(**settings | {"learning_rate": 0.01} | changed)


def spec(**train: Any) -> dict[str, Any]:
    return {
        "name": "own",
        "seed": 3,
        "data": {"scale": "standard"},
        "model": {
            "layers": [
                {"kind": "dense", "units": 12, "activation": "relu"},
                {"kind": "dense", "units": 3},
            ],
            "loss": "softmax_cross_entropy",
        },
        "optimizer": {"kind": "adam", "learning_rate": 0.01},
        "train": {"batch_size": 32, "epochs": 4, "dtype": "float64"} | train,
    }


def test_the_parameters_are_the_bits_of_fit_with_the_spec_written_by_hand() -> None:
    wanted = dbp.fit(spec(), X, NUMBERS)

    fitted = small(scale="standard").fit(X, Y)

    assert vector(fitted.model_) == vector(wanted)
    assert vector(small(scale="standard").fit(X, Y).model_) == vector(wanted)
    assert vector(small(scale="standard", random_state=4).fit(X, Y).model_) != vector(wanted)
    assert fitted.loss_curve_ == [epoch["training_loss"] for epoch in wanted.history]
    assert (fitted.n_iter_, len(fitted.loss_curve_)) == (4, 4)
    assert fitted.predict(X).tolist() == fitted.classes_[wanted.predict(X)].tolist()
    assert fitted.predict_proba(X).tobytes() == wanted.probabilities(X).tobytes()


def test_each_parameter_sets_its_field_of_the_spec() -> None:
    numbers: dict[str, Any] = {  # as searches draw them
        "hidden_layer_sizes": (8, np.int64(4)),
        "learning_rate": np.float32(0.5),
        "batch_size": np.int64(16),
    }
    estimator = dbp.DBPRegressor(
        activation={"kind": "leaky_relu", "slope": 0.2},
        optimizer={"kind": "momentum", "momentum": 0.8}, weight_decay=0.25,
        epochs=None, steps=7, validation_fraction=0.2,
        patience=2, tolerance=0.125, restore_best=True,
        scale="min_max", dtype="float32", lanes=2, **numbers,
    )  # fmt: skip

    document = document_of(
        estimator.get_params(), samples=50, seed=9, dtype="float64", units=2, loss="huber"
    )

    activation = {"kind": "leaky_relu", "slope": 0.2}
    assert document == {
        "name": "estimator",
        "seed": 9,
        "data": {"scale": "min_max", "validation": {"fraction": 0.2}},
        "model": {
            "layers": [
                {"kind": "dense", "units": 8, "activation": activation},
                {"kind": "dense", "units": 4, "activation": activation},
                {"kind": "dense", "units": 2},
            ],
            "loss": "huber",
        },
        "optimizer": {
            "kind": "momentum", "momentum": 0.8, "learning_rate": 0.5, "weight_decay": 0.25,
        },
        "train": {
            "batch_size": 16, "steps": 7, "lanes": 2, "dtype": "float32",
            "stop": {
                "metric": "validation_loss", "tolerance": 0.125, "restore_best": True,
                "patience": 2,
            },
        },
    }  # fmt: skip
    assert type(document["train"]["batch_size"]) is int  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", -1.0, "learning_rate: .*got -1.0"),
        ("hidden_layer_sizes", (0,), "hidden_layer_sizes: .*got 0"),
        ("hidden_layer_sizes", "12", "hidden_layer_sizes: .*got '12'"),
        ("activation", "rleu", "activation: .*'relu'"),
        ("optimizer", "adma", "optimizer: .*'adam'"),
        ("batch_size", 0, "batch_size: .*got 0"),
        ("epochs", None, "epochs, steps: needs epochs or steps"),
        ("patience", 0, "patience: .*got 0"),
        ("validation_fraction", 1.5, "validation_fraction: .*1.5"),
        ("scale", "log", "scale: .*'log'"),
        ("dtype", "float16", "dtype: .*'float16'"),
        ("lanes", 1000, r"batch_size: .*lanes \(1000\)"),
        ("random_state", -1, "random_state: .*-1"),
    ],
)
def test_an_error_names_the_parameter(name: str, value: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=f"(?s)^{message}"):
        small(**{name: value}).fit(X, Y)


def test_one_class_and_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"y: has one class, 'ant'; training needs at least 2"):
        small().fit(X[Y == "ant"], Y[Y == "ant"])
    with pytest.raises(ValueError, match="contains NaN"):
        small().fit(np.where(X > 2, np.nan, X), Y)
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        small().fit(X, Y, sample_weight=-np.ones(len(X)))
    fitted = small(epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match="X has 5 features, but DBPClassifier is expecting 6"):
        fitted.predict(X[:, :5])
    with pytest.raises(NotFittedError, match="not fitted yet"):
        small().predict(X)


def test_a_whole_spec_is_trained_as_it_is(tmp_path: Path) -> None:
    wanted = vector(dbp.fit(spec(), X, NUMBERS))
    layers = tuple(
        dbp.Component(layer["kind"], {n: v for n, v in layer.items() if n != "kind"})
        for layer in spec()["model"]["layers"]
    )
    job = dbp.JobSpec(
        name="own",
        seed=3,
        data=dbp.DataSpec(train=dbp.Component("arrays"), scale="standard"),
        model=dbp.ModelSpec(layers=layers, loss=dbp.Component("softmax_cross_entropy")),
        optimizer=dbp.Component("adam", {"learning_rate": 0.01}),
        train=dbp.TrainSpec(batch_size=32, epochs=4, dtype="float64"),
    )
    (tmp_path / "job.toml").write_text(dbp.to_toml(job))

    for given in (spec(), job, tmp_path / "job.toml"):
        estimator = pickle.loads(pickle.dumps(clone(dbp.DBPClassifier(spec=given))))
        assert vector(estimator.fit(X, Y).model_) == wanted
    seeded = dbp.DBPClassifier(spec=spec() | {"seed": 8}, random_state=3).fit(X, Y)
    assert vector(seeded.model_) == wanted


def test_a_spec_and_other_parameters_exclude_each_other() -> None:
    with pytest.raises(InvalidArgument, match=r"^epochs, lanes: cannot be set beside spec"):
        dbp.DBPClassifier(spec=spec(), epochs=3, lanes=2).fit(X, Y)
    with pytest.raises(InvalidSpec, match=r"train\.epochs"):
        dbp.DBPClassifier(spec=spec(epochs=0)).fit(X, Y)


def spec_of(loss: str, units: int) -> dict[str, Any]:
    layers = [{"kind": "dense", "units": units}]
    return spec() | {"model": {"layers": layers, "loss": loss}}


def test_a_spec_that_does_not_fit_the_estimator_is_refused() -> None:
    for loss, units, message in (
        (
            "mean_squared_error",
            1,
            "model.loss gives values; DBPClassifier needs one of classes",
        ),
        ("softmax_cross_entropy", 5, "model.layers gives 5 classes, y has 3"),
    ):
        with pytest.raises(InvalidArgument, match=f"^spec: {message}"):
            dbp.DBPClassifier(spec=spec_of(loss, units)).fit(X, NUMBERS if units == 1 else Y)
    with pytest.raises(InvalidArgument, match=r"^spec: model\.loss gives classes"):
        dbp.DBPRegressor(spec=spec_of("softmax_cross_entropy", 3)).fit(X, NUMBERS)


def test_a_spec_with_one_output_gives_the_probabilities_of_both_classes() -> None:
    fitted = dbp.DBPClassifier(spec=spec_of("binary_cross_entropy", 1)).fit(X, Y == "bee")

    chances = fitted.predict_proba(X)

    assert chances.shape == (240, 2)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert (fitted.classes_[chances.argmax(axis=1)] == fitted.predict(X)).all()


def test_a_spec_of_a_hinge_loss_predicts_classes_and_no_probabilities() -> None:
    fitted = dbp.DBPClassifier(spec=spec_of("hinge", 3)).fit(X, Y)

    assert set(fitted.predict(X)) <= set(Y)
    with pytest.raises(InvalidInput, match="gives scores, no probabilities"):
        fitted.predict_proba(X)


def test_a_spec_may_take_images() -> None:
    document = spec(epochs=1) | {"data": {}}
    document["model"]["layers"] = [
        {"kind": "conv2d", "filters": 2, "kernel": 3, "activation": "relu"},
        {"kind": "flatten"},
        {"kind": "dense", "units": 3},
    ]
    images = RNG.normal(size=(40, 1, 5, 5))

    fitted = dbp.DBPClassifier(spec=document).fit(images, Y[:40])

    assert set(fitted.predict(images)) <= set(Y)


def test_digits_are_learned_in_a_pipeline() -> None:
    inputs, targets = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(inputs, targets, random_state=0, stratify=targets)
    model = make_pipeline(
        StandardScaler(), dbp.DBPClassifier(64, epochs=20, learning_rate=0.005, random_state=1)
    )

    assert model.fit(x, y).score(x_test, y_test) > 0.96


def test_values_are_learned_in_the_shape_they_are_given() -> None:
    model = dbp.DBPRegressor(32, epochs=60, learning_rate=0.01, batch_size=32, random_state=1)

    for values in (VALUES, VALUES[:, 0], VALUES[:, :1], VALUES[:, 0].tolist()):
        predicted = clone(model).fit(X, values).predict(X)
        assert predicted.shape == np.shape(values)
    assert clone(model).fit(X, VALUES).score(X, VALUES) > 0.97
    inputs, targets = make_regression(150, 4, random_state=0)
    scores = cross_val_score(model, inputs, targets / targets.std(), cv=3)
    assert scores.min() > 0.9


def test_a_grid_search_finds_the_best_parameters() -> None:
    grid = {"hidden_layer_sizes": [(4,), (16, 8)], "learning_rate": [1e-6, 0.02]}

    search = GridSearchCV(small(epochs=6), grid, cv=2).fit(X, Y)

    assert search.best_params_["learning_rate"] == 0.02
    assert search.best_score_ > 0.7
    alone = small(epochs=6, **search.best_params_).fit(X, Y)
    assert vector(search.best_estimator_.model_) == vector(alone.model_)


def test_a_copied_model_has_the_same_bits() -> None:
    fitted = small(validation_fraction=0.2, restore_best=True).fit(X, Y)

    for copied in (pickle.loads(pickle.dumps(fitted)), pickle.loads(pickle.dumps(fitted, 2))):
        assert copied.predict_proba(X).tobytes() == fitted.predict_proba(X).tobytes()
        assert copied.model_.history == fitted.model_.history
        assert copied.model_.outcome == fitted.model_.outcome
        assert copied.model_.metadata == fitted.model_.metadata


def test_weights_count_as_repeated_samples() -> None:
    """In one mini-batch of all samples, up to rounding."""
    weights = RNG.integers(0, 3, size=60)
    model = small(batch_size=200, lanes=1)

    weighted = clone(model).fit(X[:60], Y[:60], sample_weight=weights).predict_proba(X)
    repeated = clone(model).fit(X[:60].repeat(weights, 0), Y[:60].repeat(weights))

    np.testing.assert_allclose(weighted, repeated.predict_proba(X), rtol=1e-9)


def test_a_limit_before_patience_is_a_convergence_warning() -> None:
    with pytest.warns(ConvergenceWarning, match=r"after 4 epochs, before patience=50"):
        small(patience=50).fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stopped = small(patience=1, tolerance=10.0, epochs=50).fit(X, Y)
    assert stopped.n_iter_ == 2


def test_the_type_of_the_inputs_is_that_of_the_parameters() -> None:
    def dtype(estimator: dbp.DBPClassifier, inputs: np.ndarray) -> np.dtype:
        return estimator.fit(inputs, Y).model_.parameters["0.weight"].dtype

    assert dtype(small(epochs=1), X) == np.float64
    assert dtype(small(epochs=1), X.astype(np.float32)) == np.float32
    assert dtype(small(epochs=1), np.round(X).astype(np.int8)) == np.float64
    assert dtype(small(epochs=1, dtype="float32"), X) == np.float32


@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_samples_and_small_batches_need_no_other_parameter(count: int) -> None:
    for batch_size in (1, 2, 128):
        small(epochs=1, batch_size=batch_size).fit(X[:count], ["a", "b", "a", "b", "b"][:count])


def test_a_drawn_seed_differs_and_a_generator_repeats() -> None:
    def bits(state: object) -> bytes:
        return vector(small(epochs=1, random_state=state).fit(X, Y).model_)

    assert bits(None) != bits(None)
    assert bits(np.random.RandomState(1)) == bits(np.random.RandomState(1))
    assert bits(np.int64(3)) == bits(3)


def test_progress_is_silent_unless_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    small().fit(X, Y)
    assert capsys.readouterr() == ("", "")

    small(verbose=True).fit(X, Y)

    assert "epoch 4" in capsys.readouterr().err
