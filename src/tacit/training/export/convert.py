"""From a graph of ATen operators to ONNX."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from torch import Tensor, fx

from tacit.training.executor import UnsupportedError
from tacit.training.export import elementwise, indexing, layers, shapes, strides  # noqa: F401 - they fill the table
from tacit.training.export.graph import TYPES, Graph, Value
from tacit.training.export.registry import HANDLERS, Call, sizes_of
from tacit.training.program import Port


def convert(
    traced: fx.GraphModule, inputs: tuple[Port, ...], outputs: tuple[Port, ...], metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """Write a traced step as an ONNX model.

    Args:
        traced: The step, as ``trace`` returns it.
        inputs: Its arguments, in order.
        outputs: Its results, in order.
        metadata: What the model says about itself.

    Raises:
        UnsupportedError: It has an operator without a counterpart; the message names it.
    """
    known: dict[fx.Node, Any] = {}
    placeholders = [node for node in traced.graph.nodes if node.op == "placeholder"]
    symbols: dict[Any, tuple[str, int]] = {}
    for node, port in zip(placeholders, inputs, strict=True):
        known[node] = value = _value(port.name, node.meta["val"])
        for axis, size in enumerate(value.shape):
            if not isinstance(size, int):
                symbols.setdefault(size, (port.name, axis))
    graph = Graph(symbols)
    for node in traced.graph.nodes:
        if node.op == "get_attr":
            known[node] = _constant(graph, getattr(traced, str(node.target)))
        elif node.op == "call_function":
            known[node] = _called(graph, node, known)
    (results,) = next(node for node in traced.graph.nodes if node.op == "output").args
    names = [known[node].name for node in results]
    return graph.model(inputs, [*zip(outputs, names, strict=True)], metadata)


def _called(graph: Graph, node: fx.Node, known: Mapping[fx.Node, Any]) -> Any:
    """Add the nodes for one operator, and return what it gives."""
    found = node.meta.get("val")
    if not isinstance(found, Tensor | tuple | list):
        return found  # a size, or a number made of sizes: whoever uses it computes it
    args: Any = fx.map_arg(node.args, lambda other: known[other])
    kwargs: Any = fx.map_arg(node.kwargs, lambda other: known[other])
    if getattr(node.target, "__name__", "") == "getitem":
        return args[0][args[1]]
    handler = HANDLERS.get(node.target)
    if handler is None:
        raise UnsupportedError(f"operator {_name(node.target)}")
    first = found if isinstance(found, Tensor) else found[0]
    call = Call(graph, sizes_of(first.shape), first.dtype)
    try:
        result = handler(call, *args, **kwargs)
    except UnsupportedError:
        raise
    except (TypeError, ValueError, KeyError) as error:  # an argument nobody has met here
        raise UnsupportedError(f"operator {_name(node.target)}: {error}") from error
    return call.result(result) if isinstance(result, str) else result


def _name(operator: Any) -> str:
    """Return how an operator is called in PyTorch, without the overload."""
    return str(operator).removesuffix(".default")


def _value(name: str, fake: Tensor) -> Value:
    return Value(name, sizes_of(fake.shape), fake.dtype)


def _constant(graph: Graph, tensor: Tensor) -> Value:
    if tensor.dtype not in TYPES:
        raise UnsupportedError(f"numbers of type {tensor.dtype}")
    array = tensor.detach().cpu().numpy()
    return Value(graph.constant(np.array(array, order="C")), tuple(array.shape), tensor.dtype)
