"""An ONNX graph under construction."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import sympy
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.utils._sympy.functions import FloorDiv, Max

from tacit.training.executor import UnsupportedError
from tacit.training.program import OPSET, Port

_IR_VERSION = 9
TYPES = {
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.int64: TensorProto.INT64,
    torch.int32: TensorProto.INT32,
    torch.bool: TensorProto.BOOL,
}
_PORT_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
Size: TypeAlias = int | Any
"""A size: a number, or sympy's formula of the batch size."""


class Value(NamedTuple):
    """A tensor in the graph.

    Attributes:
        name: Its name.
        shape: Its sizes.
        dtype: Its numbers.
    """

    name: str
    shape: tuple[Size, ...]
    dtype: torch.dtype


def size_of(size: int | torch.SymInt) -> Size:
    """Return a size as a number or a formula."""
    if isinstance(size, torch.SymInt):
        formula = size.node.expr.replace(Max, _largest)
        return int(formula) if formula.is_Integer else formula
    return int(size)


def _largest(*sizes: Any) -> Any:
    """Return the largest of some sizes, where that is the same one for every batch."""
    if all((size - sizes[0]).is_number for size in sizes):
        return max(sizes, key=lambda size: size - sizes[0])
    return Max(*sizes)  # type: ignore[no-untyped-call]


class Graph:
    """Collects nodes and constants; the same node or constant is there once.

    Args:
        symbols: Where to read each unknown size: an input's name and the axis.
    """

    def __init__(self, symbols: Mapping[sympy.Symbol, tuple[str, int]]) -> None:
        self._symbols = symbols
        self._nodes: list[onnx.NodeProto] = []
        self._known: dict[tuple[Any, ...], tuple[str, ...]] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._tensors: list[onnx.TensorProto] = []
        self._made = 0

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.add_many(operator, *inputs, outputs=1, **attributes)[0]

    def add_many(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> tuple[str, ...]:
        """Add a node and return the names of its outputs."""
        protos = [helper.make_attribute(name, value) for name, value in sorted(attributes.items())]
        key = (operator, inputs, outputs, *(proto.SerializeToString(deterministic=True) for proto in protos))
        if key not in self._known:
            names = tuple(f"v{self._made + index}" for index in range(outputs))
            self._made += outputs
            node = onnx.NodeProto(op_type=operator, input=inputs, output=names, attribute=protos)
            self._nodes.append(node)
            self._known[key] = names
        return self._known[key]

    def constant(self, array: npt.NDArray[Any]) -> str:
        """Return the name of a constant."""
        array = np.asarray(array)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._constants[key] = name
            self._tensors.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def integers(self, *numbers: int) -> str:
        """Return the name of a constant vector of whole numbers."""
        return self.constant(np.array(numbers, dtype=np.int64))

    def size(self, size: Size) -> str:
        """Return the name of a vector that holds one size."""
        if isinstance(size, int) or size.is_Integer:
            return self.integers(int(size))
        if size in self._symbols:
            name, axis = self._symbols[size]
            return self.add("Shape", name, start=axis, end=axis + 1)
        if size.is_symbol:
            raise UnsupportedError("a number or size that is taken out of a tensor")
        operators = {sympy.Mul: "Mul", sympy.Add: "Add", FloorDiv: "Div"}
        if type(size) not in operators:
            raise UnsupportedError(f"the shape of a tensor depends on the batch in an odd way: {size}")
        # Ordered by text: sympy's own order differs from process to process.
        parts = size.args if type(size) is FloorDiv else sorted(size.args, key=str)
        names = [self.size(part) for part in parts]
        total = names[0]
        for name in names[1:]:
            total = self.add(operators[type(size)], total, name)
        return total

    def sizes(self, shape: Sequence[Size]) -> str:
        """Return the name of a vector of sizes."""
        if all(isinstance(size, int) for size in shape):
            return self.integers(*shape)
        return self.add("Concat", *(self.size(size) for size in shape), axis=0)

    def reshape(self, value: Value, shape: Sequence[Size]) -> str:
        """Return the value in another shape."""
        if tuple(shape) == value.shape:
            return value.name
        # 0 stands for the size that the input has there, -1 for whatever is left.
        wanted = [
            0 if not isinstance(size, int) and value.shape[i : i + 1] == (size,) else size
            for i, size in enumerate(shape)
        ]
        unknown = [i for i, size in enumerate(wanted) if not isinstance(size, int)]
        if 0 in shape:
            raise UnsupportedError("a tensor without any element")
        if len(unknown) == 1 and -1 not in wanted:
            wanted[unknown[0]] = -1
        return self.add("Reshape", value.name, self.sizes(wanted))

    def cast(self, value: Value, dtype: torch.dtype) -> str:
        """Return the value with other numbers."""
        if value.dtype == dtype:
            return value.name
        if dtype not in TYPES:
            raise UnsupportedError(f"numbers of type {dtype}")
        return self.add("Cast", value.name, to=TYPES[dtype])

    @property
    def _computed(self) -> set[str]:
        return {name for node in self._nodes for name in node.output}

    def model(
        self,
        inputs: Sequence[Port],
        outputs: Sequence[tuple[Port, str]],
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """Return the graph as a model, without what does not reach an output.

        Args:
            inputs: The graph's inputs.
            outputs: Its outputs, and the value behind each.
            metadata: Goes into the model's metadata.
        """
        renamed: dict[str, str] = {}
        for port, name in outputs:
            if name in renamed or name not in self._computed:  # an input, a constant, or two outputs in one
                copy = f"{name}>{port.name}"
                self._nodes.append(onnx.NodeProto(op_type="Identity", input=[name], output=[copy]))
                name = copy
            renamed[name] = port.name
        nodes = _reached(self._nodes, set(renamed))
        for node in nodes:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            node.output[:] = [renamed.get(name, name) for name in node.output]
        used = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            "step",
            [_value_info(port) for port in inputs],
            [_value_info(port) for port, _ in outputs],
            initializer=[tensor for tensor in self._tensors if tensor.name in used],
        )
        model = helper.make_model(
            graph,
            producer_name="tacit",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
        )
        helper.set_model_props(model, dict(metadata))
        return model


def _reached(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes that something depends on, in their order."""
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _value_info(port: Port) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(port.name, _PORT_TYPES[port.dtype], port.shape)
