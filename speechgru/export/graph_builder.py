"""Builds an ONNX graph node by node."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper
from torch import Tensor

from speechgru.export.weights import is_rounded, to_int8

#: Read by onnxruntime 1.12 (2022) and later.
OPSET, IR_VERSION = 17, 8


class GraphBuilder:
    """Collects nodes and initializers; values are referred to by name.

    With `int8`, large weights are stored as 8-bit integers with a scale per row; scales and other
    trained numbers in half precision where that loses nothing, see `weights.rounded`. The graph
    converts them to floats (Cast, Mul), which a runtime does once, when it loads the graph.
    """

    def __init__(self, int8: bool = False) -> None:
        self.int8 = int8
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._prefix = ""

    @property
    def _count(self) -> int:
        return len(self._nodes)

    def input(self, name: str, *shape: int | str) -> str:
        """A float input of the graph; dimensions of varying size are given by name."""
        self._inputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
        return name

    def output(self, name: str, value: str, *shape: int | str) -> None:
        """Make a value a float output of the graph."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The output of a node that has one; "" stands for an omitted input."""
        (output,) = self.ops(kind, *inputs, outputs=1, **attributes)
        return output

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """The outputs of a node."""
        name = f"{self._prefix}v{self._count}"
        names = [f"{name}.{i}" for i in range(outputs)] if outputs > 1 else [name]
        self._nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names

    def scan(
        self,
        body: Callable[["GraphBuilder", list[str], list[str]], tuple[list[str], str]],
        states: Sequence[str],
        sequences: Sequence[str],
    ) -> tuple[list[str], str]:
        """A loop over the first axis of sequences (T, ...): the last states, all outputs (T, ...).

        `body` gets its own builder, the states before the step, and the sequences' values at the
        step; it returns the states after the step and its output. It may use values of this
        builder.
        """
        inner = GraphBuilder()
        inner._initializers, inner._prefix = self._initializers, f"{self._prefix}scan{self._count}."
        names = [f"{inner._prefix}in{i}" for i in range(len(states) + len(sequences))]
        after, output = body(inner, names[: len(states)], names[len(states) :])
        # Each output needs its own node, as a state and the output may be the same value.
        results = [inner.op("Identity", value) for value in (*after, output)]
        graph = helper.make_graph(
            inner._nodes,
            "step",
            [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names],
            [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in results],
        )
        *last, outputs = self.ops(
            "Scan",
            *states,
            *sequences,
            outputs=len(states) + 1,
            body=graph,
            num_scan_inputs=len(sequences),
        )
        return last, outputs

    def floats(self, values: ArrayLike | Tensor) -> str:
        """A float constant."""
        return self._initializer(np.asarray(values, np.float32))

    def integers(self, values: ArrayLike) -> str:
        """An int64 constant: indices, axes, shapes."""
        return self._initializer(np.asarray(values, np.int64))

    def small_integers(self, values: NDArray[np.integer], to: int = onnx.TensorProto.INT64) -> str:
        """An int64 constant of many numbers from 0 on, stored in as few bytes as they need.

        Args:
            to: another type for it.
        """
        return self.op(
            "Cast", self._initializer(values.astype(np.min_scalar_type(values.max()))), to=to
        )

    def sparse(self, matrix: NDArray[np.float32]) -> str:
        """A constant with few nonzero columns per row; zeros are not stored."""
        columns = int(np.count_nonzero(matrix, axis=1).max())
        places = np.argsort(-np.abs(matrix), axis=1, kind="stable")[:, :columns]
        zeros = self.op("ConstantOfShape", self.integers(matrix.shape))
        values = self.floats(np.take_along_axis(matrix, places, axis=1))
        return self.op("ScatterElements", zeros, self.small_integers(places), values, axis=1)

    def weight(self, values: Tensor) -> str:
        """Trained weights with outputs as rows, (O, ...)."""
        array = values.detach().cpu().numpy().astype(np.float32)
        if not self.int8 or not is_rounded(array.shape):
            return self.vector(values)
        numbers, scales = to_int8(array)
        floats = self.op("Cast", self._initializer(numbers), to=onnx.TensorProto.FLOAT)
        return self.op("Mul", floats, self._trained(scales))

    def vector(self, values: Tensor) -> str:
        """Other trained numbers, such as biases, of any shape."""
        return self._trained(values.detach().cpu().numpy().astype(np.float32))

    def _trained(self, array: NDArray[np.float32]) -> str:
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not self.int8 or not np.array_equal(half, array):
            return self._initializer(array)
        return self.op("Cast", self._initializer(half), to=onnx.TensorProto.FLOAT)

    def slice(
        self, value: str, axis: int, start: int, end: int | None = None, step: int = 1
    ) -> str:
        """value[start:end:step] along an axis."""
        beyond = np.iinfo(np.int64).max if step > 0 else np.iinfo(np.int64).min
        bounds = (start, beyond if end is None else end, axis, step)
        return self.op("Slice", value, *(self.integers([bound]) for bound in bounds))

    def linear(self, x: str, weight: Tensor, bias: Tensor | None) -> str:
        """x W^T + b over the last axis: (..., I) -> (..., O)."""
        y = self.op("MatMul", x, self.op("Transpose", self.weight(weight), perm=[1, 0]))
        return y if bias is None else self.op("Add", y, self.vector(bias))

    def affine(self, x: str, weight: Tensor, bias: Tensor) -> str:
        """The same for a matrix, as one node: (T, I) -> (T, O)."""
        rows = self.weight(weight)
        return self.op("Gemm", x, rows, self.floats(bias.detach()), transB=1)

    def model(self, producer: str, version: str) -> bytes:
        """The graph as an ONNX file, checked."""
        graph = helper.make_graph(
            self._nodes,
            "speechgru",
            self._inputs,
            self._outputs,
            list(self._initializers.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name=producer,
            producer_version=version,
        )
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)

    def _initializer(self, array: NDArray[Any]) -> str:
        """The name of a constant; equal constants share one."""
        key = f"{array.dtype}{list(array.shape)}{hash(array.tobytes())}"
        if key not in self._initializers:
            name = f"c{len(self._initializers)}"
            self._initializers[key] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return self._initializers[key].name
