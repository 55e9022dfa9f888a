"""The ``teacher`` reader: any number of synthetic samples from a fixed random network.

The teacher has one hidden layer of clipped linear units (hard tanh). Weights, inputs and hidden
values are whole numbers small enough for every sum to be exact in float64, so no bit depends on
the order of additions: not on the blocks in which samples are requested, the linear algebra
library, or the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
import numpy.typing as npt

from dbp.data.dataset import Array, DataInfo, Dataset, Indices, Reader
from dbp.data.sample_random import VARIANCE, SampleRandom
from dbp.registry import option

MAX_INPUTS: Final = 2**20
MAX_HIDDEN: Final = 2**16
MAX_SAMPLES: Final = 2**53
MAX_WEIGHTS: Final = 2**26

# Inputs are the bell-shaped numbers over this power of two: from -4 to 4, exact in float32.
INPUT_BITS: Final = 15

_WEIGHT_BITS: Final = 12
_CLIP: Final = 2.0**16

# Numbers computed at once; more rows are computed in blocks.
_PIECE: Final = 2**17

Numbers = npt.NDArray[np.float64]


@final
@dataclass(frozen=True)
class Teacher(Reader):
    """Any number of samples, labeled by a fixed random network; nothing is stored."""

    samples: int = option(doc="number of samples", minimum=1, maximum=MAX_SAMPLES)
    inputs: int = option(
        16, doc="features of a sample, bell-shaped", minimum=1, maximum=MAX_INPUTS
    )
    outputs: int = option(
        10, doc="number of classes, or of values to predict", minimum=1, maximum=65_536
    )
    hidden: int = option(
        32, doc="units of the teacher's hidden layer", minimum=1, maximum=MAX_HIDDEN
    )
    target_kind: Literal["class", "values"] = option(
        "class", doc="class: the teacher's largest output; values: its outputs, of about 1"
    )
    noise: float = option(
        0.0, doc="standard deviation of the noise added to the teacher's outputs", minimum=0
    )
    seed: int = option(
        0,
        doc="another seed is another teacher with other samples",
        minimum=0,
        maximum=2**63 - 1,
    )
    first: int = option(
        0,
        doc="index of the first sample: a test set of the same teacher begins after the "
        "training set",
        minimum=0,
        maximum=MAX_SAMPLES,
    )

    def __post_init__(self) -> None:
        if self.target_kind == "class" and self.outputs < 2:
            raise ValueError(f"outputs: must be at least 2 classes, got {self.outputs}")
        weights = self.hidden * (self.inputs + self.outputs)
        if weights > MAX_WEIGHTS:
            raise ValueError(
                f"hidden: must leave the teacher at most {MAX_WEIGHTS:,} weights, got "
                f"{weights:,}"
            )

    def inspect(self) -> DataInfo:
        classes = self.target_kind == "class"
        return DataInfo(
            samples=self.samples,
            input_shape=(self.inputs,),
            input_dtype=np.dtype(np.float32),
            target_shape=() if classes else (self.outputs,),
            target_kind=self.target_kind,
            classes=self.outputs if classes else None,
        )

    def open(self) -> Dataset:
        return _Samples(self)


@final
class _Samples(Dataset):
    """Samples computed on demand, block by block."""

    def __init__(self, options: Teacher) -> None:
        self.info = options.inspect()
        self._options = options
        self._random = SampleRandom(options.seed, "teacher inputs", options.inputs)
        self._noise = SampleRandom(options.seed, "teacher noise", options.outputs)
        self._network = _Network(options)
        self._rows = max(1, _PIECE // max(options.inputs, options.hidden, options.outputs))

    def take_inputs(self, indices: Indices, out: Array) -> None:
        """Write the inputs of these samples into ``out``."""
        rows = out.reshape(len(indices), self._options.inputs)
        for block in self._blocks(len(indices)):
            numbers = self._random.bell(indices[block] + self._options.first)
            np.multiply(numbers, 2.0**-INPUT_BITS, out=rows[block], casting="unsafe")

    def take_targets(self, indices: Indices, out: Array) -> None:
        """Write the targets of these samples into ``out``."""
        rows = out.reshape(len(indices), *self.info.target_shape)
        for block in self._blocks(len(indices)):
            places = indices[block] + self._options.first
            outputs = self._network.outputs(self._random.bell(places).astype(np.float64))
            if self._options.noise:
                noise = self._noise.bell(places) * (VARIANCE**-0.5)
                outputs += self._options.noise * noise
            rows[block] = outputs.argmax(axis=1) if self.info.classes else outputs

    def locate_target(self, index: int) -> str:
        """Return the index of the sample, with the name of the reader."""
        return f"teacher: sample {index}"

    def _blocks(self, rows: int) -> Iterator[slice]:
        return (slice(start, start + self._rows) for start in range(0, rows, self._rows))


@final
class _Network:
    """The teacher: outputs of about unit size for bell-shaped whole inputs."""

    def __init__(self, options: Teacher) -> None:
        inputs, hidden = options.inputs, options.hidden
        root = _half_bits(inputs)
        self._first = _weights(options.seed, "teacher hidden", inputs, hidden)
        self._bias = _weights(options.seed, "teacher bias", 1, hidden)[0] * 2.0 ** (14 + root)
        self._shift = 2.0 ** -(10 + root)
        self._second = _weights(options.seed, "teacher outputs", hidden, options.outputs)
        self._scale = 2.0 ** -(26 + _half_bits(hidden))

    def outputs(self, inputs: Numbers) -> Numbers:
        """Return the outputs, shape (rows, inputs) -> (rows, outputs)."""
        hidden: Any = inputs @ self._first
        hidden += self._bias
        hidden *= self._shift
        np.floor(hidden, out=hidden)
        np.clip(hidden, -_CLIP, _CLIP, out=hidden)
        outputs: Numbers = hidden @ self._second
        outputs *= self._scale
        return outputs


def _half_bits(terms: int) -> int:
    """Return the bits by which a sum of independent terms spreads more than one term."""
    return (terms.bit_length() - 1) // 2


def _weights(seed: int, purpose: str, rows: int, columns: int) -> Numbers:
    """Return uniform whole numbers of 12 bits, around 0, shape (rows, columns)."""
    words = SampleRandom(seed, purpose, columns).words(np.arange(rows))
    numbers = (words >> np.uint64(64 - _WEIGHT_BITS)).astype(np.float64)
    return numbers - 2.0 ** (_WEIGHT_BITS - 1)
