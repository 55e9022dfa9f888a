"""Build an ONNX graph node by node, from the names of operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from dbp.nn.layer import Array, Shape

# LayerNormalization came with 17, Gelu with 20; onnx 1.15 and newer know both.
OPSET: Final = 20
IR_VERSION: Final = 9
INPUT: Final = "input"
OUTPUT: Final = "output"
BATCH: Final = "batch"


@final
class Graph:
    """Nodes and constants of one type; values are referred to by name.

    ``wide`` is True for float64. Attributes of ONNX operators are float32, and few runtimes
    have float64 kernels for other operators than arithmetic. So a layer with such attributes
    is then composed of arithmetic nodes with constants of the graph's type.
    """

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.wide = self.dtype == np.float64
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        name = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """Add a tensor of the graph's type; return its name."""
        return self._tensor(name, np.asarray(value, self.dtype))

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Add a list of integers, such as axes; return its name."""
        return self._tensor(name, np.array(values, np.int64))

    def finish(
        self, output: str, input_shape: Shape, output_shape: Shape, metadata: dict[str, str]
    ) -> onnx.ModelProto:
        """Return the checked model whose output is the value named ``output``.

        Shapes are those of one sample; the batch axis before them may have any size.
        """
        self._nodes.append(helper.make_node("Identity", [output], [OUTPUT], name=OUTPUT))
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        graph = helper.make_graph(
            self._nodes,
            "dbp",
            [helper.make_tensor_value_info(INPUT, kind, [BATCH, *input_shape])],
            [helper.make_tensor_value_info(OUTPUT, kind, [BATCH, *output_shape])],
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="dbp",
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _tensor(self, name: str, value: Array) -> str:
        if name in self._constants:
            raise AssertionError(f"two constants are called {name!r}")
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name
