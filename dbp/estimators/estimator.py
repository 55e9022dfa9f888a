"""The base of classifier and regressor: parameters, training, fitted attributes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from dbp.errors import InvalidArgument, InvalidSpec
from dbp.estimators.scikit_learn import (
    BaseEstimator,
    ConvergenceWarning,
    check_is_fitted,
    check_random_state,
    check_sample_weight,
    validate_data,
)
from dbp.estimators.settings import document_of, in_parameters
from dbp.job.spec.given import Spec, read_document
from dbp.train.fit import fit
from dbp.train.model.fitted_model import FittedModel

Array = npt.NDArray[Any]

# Types of inputs that are taken as they are; others become the first.
_DTYPES = (np.float64, np.float32)

# Parameters that count beside a spec.
_BESIDE_SPEC = ("spec", "random_state", "verbose")


class Estimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Base of both estimators; their parameters are listed there."""

    def __init__(
        self,
        hidden_layer_sizes: int | tuple[int, ...] = (100,),
        activation: str | Mapping[str, object] = "relu",
        *,
        optimizer: str | Mapping[str, object] = "adam",
        learning_rate: float | Mapping[str, object] = 0.001,
        weight_decay: float = 0.0,
        batch_size: int = 128,
        epochs: int | None = 100,
        steps: int | None = None,
        validation_fraction: float | None = None,
        patience: int | None = None,
        tolerance: float = 0.0,
        restore_best: bool = False,
        scale: Literal["none", "unit", "standard", "min_max"] = "none",
        dtype: Literal["float32", "float64"] | None = None,
        lanes: int | None = None,
        spec: Spec | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        """Store the parameters; ``fit`` checks them.

        Args:
            hidden_layer_sizes: Units of each hidden layer; () for none.
            activation: Kind of layer after each hidden layer, or a table with its options.
            optimizer: Kind of update rule, or a table such as {"kind": "momentum",
                "momentum": 0.95}.
            learning_rate: Number, or a table of a schedule.
            weight_decay: Weight-decay factor: L2, or decoupled, as the optimizer says.
            batch_size: Samples of one mini-batch.
            epochs: Passes over the samples.
            steps: Updates of the parameters; the smaller of both ends the training.
            validation_fraction: Share of the samples, drawn by the seed, that ``patience`` and
                ``restore_best`` are decided by; None: they are decided by the training loss.
            patience: Stop after this many epochs without improvement.
            tolerance: A smaller improvement than this counts as none.
            restore_best: End with the parameters of the best epoch.
            scale: Scaling of the features; "standard" is that of a StandardScaler.
            dtype: Type of the parameters; None: that of X if it is float32, else float64.
            lanes: Slices of a mini-batch, and so the largest number of MPI processes; None: 4,
                or fewer for less than 4 samples.
            spec: A whole job spec without data, instead of all parameters above: a file, a
                mapping or a JobSpec. Its layers may take inputs of more than 2 dimensions.
            random_state: Seed: the same one gives the same bits. None draws one from numpy,
                or takes that of ``spec``. Under mpirun it must be a number.
            verbose: Write a line per epoch to stderr.
        """
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.steps = steps
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.tolerance = tolerance
        self.restore_best = restore_best
        self.scale = scale
        self.dtype = dtype
        self.lanes = lanes
        self.spec = spec
        self.random_state = random_state
        self.verbose = verbose

    def _checked(self, X: object, **options: object) -> Any:
        """Return X, or X and y, as arrays; learn or compare number and names of features."""
        is_whole = self.spec is not None  # only a spec can name layers that take images
        return validate_data(self, X, dtype=_DTYPES, allow_nd=is_whole, **options)

    def _train(
        self, X: Array, targets: Array, sample_weight: object, *, units: int, loss: str
    ) -> Self:
        """Train with ``dbp.fit``; set the fitted attributes."""
        weights = None
        if sample_weight is not None:
            weights = check_sample_weight(sample_weight, X, ensure_non_negative=True)
        spec = self._given_spec()
        if spec is None:
            spec = document_of(
                self.get_params(deep=False),
                samples=len(X), seed=self._seed(), dtype=str(X.dtype), units=units, loss=loss,
            )  # fmt: skip
        try:
            self.model_ = fit(spec, X, targets, weights=weights, progress=bool(self.verbose))
        except InvalidSpec as error:
            if self.spec is not None:
                raise
            raise in_parameters(error) from error
        if self.spec is not None:
            self._check_model(X)
        self.loss_curve_ = [epoch["training_loss"] for epoch in self.model_.history]
        outcome = self.model_.outcome
        self.n_iter_ = len(self.loss_curve_) if outcome is None else outcome.epoch
        if self.patience is not None and outcome and outcome.reason in ("epochs", "steps"):
            warnings.warn(
                f"training ended after {self.n_iter_} epochs, before patience="
                f"{self.patience} stopped it; raise epochs or steps",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _check_model(self, X: Array) -> None:
        """Raise InvalidArgument if the model of a given spec does not fit the estimator."""
        raise NotImplementedError

    def _seed(self) -> int:
        """Return the seed of the run: a number as given, else one that is drawn."""
        state = self.random_state
        if isinstance(state, int | np.integer) and not isinstance(state, bool):
            return int(state)
        return int(check_random_state(state).randint(np.iinfo(np.int32).max))

    def _given_spec(self) -> Spec | None:
        """Return the parameter ``spec``, with the seed of ``random_state`` if that is set."""
        spec = self.spec
        if spec is None:
            return None
        initial = inspect.signature(type(self)).parameters
        changed = [
            name
            for name, value in self.get_params(deep=False).items()
            if name not in _BESIDE_SPEC and value is not initial[name].default
            and value != initial[name].default
        ]  # fmt: skip
        if changed:
            raise InvalidArgument(
                f"{', '.join(changed)}: cannot be set beside spec, which has these settings; "
                "set them there"
            )
        if self.random_state is None:
            return spec
        document = read_document(spec)
        return {**document, "seed": self._seed()} if isinstance(document, Mapping) else spec

    def _model(self) -> FittedModel:
        check_is_fitted(self)
        model: FittedModel = self.model_
        return model
