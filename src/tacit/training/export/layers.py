"""Products, convolutions, pooling, softmax, and what gathers a whole axis into one number."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy
import torch

from tacit.training.executor import UnsupportedError
from tacit.training.export.decompositions import window_begins
from tacit.training.export.graph import Value
from tacit.training.export.registry import HANDLERS, Call, Handler, Number, Side, axes_of, axis_of, handles

_aten = torch.ops.aten


@handles(_aten.mm.default, _aten.bmm.default)
def _product(call: Call, left: Value, right: Value) -> str:
    return call.add("MatMul", left.name, right.name)


@handles(_aten.addmm.default)
def _addmm(call: Call, plus: Value, left: Value, right: Value, beta: Number = 1, alpha: Number = 1) -> str:
    return call.add("Gemm", left.name, right.name, plus.name, alpha=float(alpha), beta=float(beta))


@handles(_aten.baddbmm.default)
def _baddbmm(call: Call, plus: Value, left: Value, right: Value, beta: Number = 1, alpha: Number = 1) -> str:
    product = call.add("MatMul", left.name, right.name)
    if alpha != 1:
        product = call.add("Mul", product, call.number(alpha))
    return call.add("Add", product, call.add("Mul", plus.name, call.number(beta)) if beta != 1 else plus.name)


@handles(_aten.convolution.default)
def _convolution(
    call: Call,
    inputs: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> str:
    if not isinstance(groups, int):
        raise UnsupportedError("convolution: it would need one group per client, and their number may change")
    axes = len(inputs.shape) - 2
    stride, padding, dilation = (
        [*sizes] * (axes if len(sizes) == 1 else 1) for sizes in (stride, padding, dilation)
    )
    settings: dict[str, Any] = {
        "strides": stride, "pads": padding * 2, "dilations": dilation, "group": groups,
    }  # fmt: skip
    if transposed:
        settings["output_padding"] = [*output_padding] * (axes if len(output_padding) == 1 else 1)
    names = [inputs.name, weight.name] + ([] if bias is None else [bias.name])
    return call.add("ConvTranspose" if transposed else "Conv", *names, **settings)


@handles(_aten.max_pool2d_with_indices.default, _aten.max_pool3d_with_indices.default)
def _max_pool(
    call: Call,
    inputs: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[Value, Value]:
    spatial = len(call.shape) - 2
    kernel, stride, padding, dilation = (
        [*sizes] * (spatial if len(sizes) == 1 else 1)
        for sizes in (kernel, stride or kernel, padding, dilation)
    )
    sizes = inputs.shape[2:]
    after = []  # written out, since runtimes differ in how they round up
    for size, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        span = d * (k - 1) + 1
        last = window_begins(int(size), span, s, p, ceil_mode=ceil_mode)[-1]
        after.append(max(last + span - int(size), 0))
    values, places = call.graph.add_many(
        "MaxPool", inputs.name, outputs=2,
        kernel_shape=kernel, strides=stride, pads=[*padding, *after], dilations=dilation,
    )  # fmt: skip
    plane = call.graph.constant(np.array(math.prod(int(size) for size in sizes), dtype=np.int64))
    # ONNX counts through the whole tensor, torch within a plane.
    within = call.add("Mod", places, plane)
    return call.result(values), Value(within, call.shape, torch.int64)


@handles(_aten._softmax.default, _aten._safe_softmax.default)  # noqa: SLF001 - their names
def _softmax(call: Call, value: Value, axis: int, *_: Any, **__: Any) -> str:
    return call.add("Softmax", call.number(value), axis=axis_of(axis, len(value.shape)))


@handles(_aten._log_softmax.default)  # noqa: SLF001 - its name
def _log_softmax(call: Call, value: Value, axis: int, half_to_float: bool = False) -> str:
    return call.add("LogSoftmax", call.number(value), axis=axis_of(axis, len(value.shape)))


# --- reductions ----------------------------------------------------------------------------------

_Axes = int | Sequence[int] | None
# These two had their axes moved from an attribute to an input only in the opset that we write.
_REDUCTIONS = {
    "sum": "ReduceSum",
    "mean": "ReduceMean",
    "amax": "ReduceMax",
    "amin": "ReduceMin",
    "prod": "ReduceProd",
}


def _reduction(operator: str) -> Handler:
    def handler(call: Call, value: Value, axes: _Axes = None, keepdim: bool = False, **_: Any) -> str:
        return reduced(call, operator, call.number(value), len(value.shape), axes, keepdim)

    return handler


for _name, _operator in _REDUCTIONS.items():
    for _overload in ("default", "dim", "dim_IntList", "dim_int"):
        if hasattr(getattr(_aten, _name), _overload):
            HANDLERS[getattr(getattr(_aten, _name), _overload)] = _reduction(_operator)


def reduced(call: Call, operator: str, name: str, rank: int, axes: _Axes, keepdim: bool) -> str:
    """Return the name of a value that was gathered along axes."""
    if not rank:
        return name
    return call.add(operator, name, call.graph.integers(*axes_of(axes, rank)), keepdims=int(keepdim))


@handles(_aten.linalg_vector_norm.default)
def _norm(
    call: Call, value: Value, order: Number = 2, axes: _Axes = None, keepdim: bool = False, **_: Any
) -> str:
    rank, size = len(value.shape), call.add("Abs", call.number(value))
    if order in (math.inf, -math.inf):
        return reduced(call, "ReduceMax" if order > 0 else "ReduceMin", size, rank, axes, keepdim)
    if order == 1:
        return reduced(call, "ReduceSum", size, rank, axes, keepdim)
    if order == 2:
        squares = call.add("Mul", size, size)
        return call.add("Sqrt", reduced(call, "ReduceSum", squares, rank, axes, keepdim))
    total = reduced(call, "ReduceSum", call.add("Pow", size, call.number(order)), rank, axes, keepdim)
    return call.add("Pow", total, call.number(1 / float(order)))


@handles(_aten.topk.default)
def _topk(
    call: Call, value: Value, count: Side, axis: int = -1, largest: bool = True, is_sorted: bool = True
) -> tuple[Value, Value]:
    return _largest_first(call, value, count, axis, largest=largest)


@handles(_aten.sort.default)
def _sort(call: Call, value: Value, axis: int = -1, descending: bool = False) -> tuple[Value, Value]:
    return _largest_first(call, value, call.shape[axis], axis, largest=descending)


@handles(_aten.sort.stable)
def _stable_sort(
    call: Call, value: Value, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[Value, Value]:
    return _largest_first(call, value, call.shape[dim], dim, largest=descending)


def _largest_first(call: Call, value: Value, count: Side, axis: int, *, largest: bool) -> tuple[Value, Value]:
    if not isinstance(count, int):
        raise UnsupportedError("sorting the examples of a batch")
    axis, numbers = axis_of(axis, len(value.shape)), call.graph.integers(count)
    found = call.graph.add_many("TopK", value.name, numbers, outputs=2, axis=axis, largest=int(largest))
    return call.result(found[0]), Value(found[1], call.shape, torch.int64)


def _truth(operator: str) -> Handler:
    def handler(call: Call, value: Value, axes: _Axes = None, keepdim: bool = False) -> str:
        numbers = call.graph.cast(Value(call.number(value, torch.bool), value.shape, torch.bool), torch.int32)
        found = reduced(call, operator, numbers, len(value.shape), axes, keepdim)
        return call.graph.cast(Value(found, call.shape, torch.int32), torch.bool)

    return handler


for _overload in ("default", "dim", "dims"):
    HANDLERS[getattr(_aten.any, _overload)] = _truth("ReduceMax")
    HANDLERS[getattr(_aten.all, _overload)] = _truth("ReduceMin")


def _extreme(operator: str, place: str) -> Callable[..., tuple[Value, Value]]:
    def handler(call: Call, value: Value, axis: int, keepdim: bool = False) -> tuple[Value, Value]:
        axis = axis_of(axis, len(value.shape))
        found = reduced(call, operator, value.name, len(value.shape), axis, keepdim)
        where = call.add(place, value.name, axis=axis, keepdims=int(keepdim))
        return call.result(found), Value(where, call.shape, torch.int64)

    return handler


HANDLERS[_aten.max.dim] = _extreme("ReduceMax", "ArgMax")
HANDLERS[_aten.min.dim] = _extreme("ReduceMin", "ArgMin")


@handles(_aten.max.default)
def _largest(call: Call, value: Value) -> str:
    return reduced(call, "ReduceMax", value.name, len(value.shape), None, False)


@handles(_aten.min.default)
def _smallest(call: Call, value: Value) -> str:
    return reduced(call, "ReduceMin", value.name, len(value.shape), None, False)


def _argument(operator: str) -> Handler:
    def handler(call: Call, value: Value, axis: int | None = None, keepdim: bool = False) -> str:
        if axis is None:
            flat = call.graph.add("Reshape", value.name, call.graph.integers(-1))
            return call.add(operator, flat, axis=0, keepdims=0)
        return call.add(operator, value.name, axis=axis_of(axis, len(value.shape)), keepdims=int(keepdim))

    return handler


HANDLERS[_aten.argmax.default] = _argument("ArgMax")
HANDLERS[_aten.argmin.default] = _argument("ArgMin")


@handles(_aten.cumsum.default)
def _cumsum(call: Call, value: Value, axis: int, **_: Any) -> str:
    place = call.graph.constant(np.array(axis_of(axis, len(value.shape)), dtype=np.int64))
    return call.add("CumSum", call.number(value), place)


@handles(_aten.var.correction)
def _variance(
    call: Call, value: Value, axes: _Axes = None, *, correction: Number | None = None, keepdim: bool = False
) -> str:
    return _spread(call, value, axes, correction, keepdim)[0]


@handles(_aten.var_mean.correction)
def _variance_and_mean(
    call: Call, value: Value, axes: _Axes = None, *, correction: Number | None = None, keepdim: bool = False
) -> tuple[Value, Value]:
    variance, mean = _spread(call, value, axes, correction, keepdim)
    return call.result(variance), call.result(mean)


def _spread(
    call: Call, value: Value, axes: _Axes, correction: Number | None, keepdim: bool
) -> tuple[str, str]:
    along, rank = axes_of(axes, len(value.shape)), len(value.shape)
    sizes = [value.shape[axis] for axis in along]
    count = math.prod(sizes, start=sympy.Integer(1))
    mean = reduced(call, "ReduceMean", value.name, rank, along, True)
    away = call.add("Sub", value.name, mean)
    total = reduced(call, "ReduceSum", call.add("Mul", away, away), rank, along, keepdim)
    divisor = call.add("Sub", call.number(count), call.number(1 if correction is None else correction))
    variance = call.add("Div", total, call.add("Max", divisor, call.number(0)))
    if not keepdim:
        mean = call.add("Squeeze", mean, call.graph.integers(*along))
    return variance, mean
