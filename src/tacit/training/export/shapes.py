"""Operators that move elements, cut and join tensors, and make new ones."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnx import numpy_helper

from tacit.training.executor import UnsupportedError
from tacit.training.export.graph import Size, Value
from tacit.training.export.registry import NUMPY, Call, Number, Side, axes_of, axis_of, handles, sizes_of

_aten = torch.ops.aten
_END = 2**63 - 1


@handles(_aten.view.default, _aten.reshape.default, _aten._unsafe_view.default, _aten._reshape_copy.default)  # noqa: SLF001 - their names
def _view(call: Call, value: Value, shape: object) -> str:
    return call.graph.reshape(value, call.shape)


@handles(_aten.unsqueeze.default)
def _unsqueeze(call: Call, value: Value, axis: int) -> str:
    return call.add("Unsqueeze", value.name, call.graph.integers(axis_of(axis, len(call.shape))))


@handles(_aten.squeeze.dim, _aten.squeeze.dims, _aten.squeeze.default)
def _squeeze(call: Call, value: Value, axes: int | Sequence[int] | None = None) -> str:
    ones = [axis for axis in axes_of(axes, len(value.shape)) if value.shape[axis : axis + 1] == (1,)]
    return call.add("Squeeze", value.name, call.graph.integers(*ones)) if ones else value.name


@handles(_aten.permute.default)
def _permute(call: Call, value: Value, axes: Sequence[int]) -> str:
    return permuted(call, value, [axis_of(axis, len(axes)) for axis in axes])


@handles(_aten.transpose.int)
def _transpose(call: Call, value: Value, first: int, second: int) -> str:
    axes = [*range(len(value.shape))]
    axes[first], axes[second] = axes[second], axes[first]
    return permuted(call, value, axes)


@handles(_aten.t.default)
def _t(call: Call, value: Value) -> str:
    return permuted(call, value, [*range(len(value.shape))][::-1])


def permuted(call: Call, value: Value, axes: Sequence[int]) -> str:
    """Return the name of a value with its axes in another order."""
    if [*axes] == [*range(len(axes))]:
        return value.name
    return call.add("Transpose", value.name, perm=[*axes])


@handles(_aten.expand.default)
def _expand(call: Call, value: Value, shape: object, implicit: bool = False) -> str:
    return expanded(call, value, call.shape)


def expanded(call: Call, value: Value, shape: Sequence[Size]) -> str:
    """Return the name of a value that is repeated along axes of size one, or new ones, up to a shape."""
    if tuple(shape) == value.shape:
        return value.name
    new = len(shape) - len(value.shape)
    # Where nothing is repeated a 1 is enough: ONNX keeps the larger of both.
    wanted = [1 if i >= new and value.shape[i - new] == size else size for i, size in enumerate(shape)]
    return call.add("Expand", value.name, call.graph.sizes(wanted))


@handles(_aten.slice.Tensor)
def _slice(
    call: Call,
    value: Value,
    axis: int = 0,
    start: Side | None = None,
    end: Side | None = None,
    step: int = 1,
) -> str:
    if call.shape == value.shape and step == 1:
        return value.name
    return sliced(call, value, axis_of(axis, len(value.shape)), start, end, step)


def sliced(
    call: Call,
    value: Value,
    axis: int,
    start: Side | None,
    end: Side | None,
    step: int = 1,
) -> str:
    """Return the name of a part of a value along one axis."""
    first, last = sizes_of([start or 0, _END if end is None else end])
    graph = call.graph
    return call.add(
        "Slice", value.name, graph.size(first), graph.size(last), graph.integers(axis), graph.integers(step)
    )


@handles(_aten.select.int)
def _select(call: Call, value: Value, axis: int, index: Side) -> str:
    if not isinstance(index, int):
        raise UnsupportedError("an index that depends on the batch")
    place = call.graph.constant(np.array(index, dtype=np.int64))
    return call.add("Gather", value.name, place, axis=axis_of(axis, len(value.shape)))


@handles(_aten.cat.default)
def _cat(call: Call, values: Sequence[Value], axis: int = 0) -> str:
    full = [value for value in values if value.shape != (0,)]  # torch lets old-fashioned empty ones pass
    names = [call.number(value) for value in full]
    return names[0] if len(names) == 1 else call.add("Concat", *names, axis=axis_of(axis, len(call.shape)))


@handles(_aten.stack.default)
def _stack(call: Call, values: Sequence[Value], axis: int = 0) -> str:
    axis = axis_of(axis, len(call.shape))
    names = [call.add("Unsqueeze", call.number(value), call.graph.integers(axis)) for value in values]
    return call.add("Concat", *names, axis=axis)


@handles(_aten.split_with_sizes.default)
def _split(call: Call, value: Value, parts: Sequence[Side], axis: int = 0) -> tuple[Value, ...]:
    axis, sizes = axis_of(axis, len(value.shape)), sizes_of(parts)
    names = call.graph.add_many("Split", value.name, call.graph.sizes(sizes), outputs=len(sizes), axis=axis)
    shapes = [(*value.shape[:axis], size, *value.shape[axis + 1 :]) for size in sizes]
    return tuple(Value(name, shape, value.dtype) for name, shape in zip(names, shapes, strict=True))


@handles(_aten.flip.default)
def _flip(call: Call, value: Value, axes: Sequence[int]) -> str:
    axes = axes_of(axes, len(value.shape))
    numbers = call.graph.integers
    last = numbers(*[-1] * len(axes))
    return call.add("Slice", value.name, last, numbers(*[-_END] * len(axes)), numbers(*axes), last)


@handles(_aten.repeat.default)
def _repeat(call: Call, value: Value, times: Sequence[Side]) -> str:
    new = len(times) - len(value.shape)
    wide = Value(value.name, (*[1] * new, *value.shape), value.dtype)
    return call.add("Tile", call.graph.reshape(value, wide.shape), call.graph.sizes(sizes_of(times)))


@handles(_aten.constant_pad_nd.default)
def _pad(call: Call, value: Value, pad: Sequence[Side], fill: Number = 0) -> str:
    rank = len(value.shape)
    before, after = [0] * rank, [0] * rank
    for index, (left, right) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        if not isinstance(left, int) or not isinstance(right, int):
            raise UnsupportedError("padding that depends on the batch")
        before[rank - 1 - index], after[rank - 1 - index] = left, right
    return call.add(
        "Pad", value.name, call.graph.integers(*before, *after), call.number(fill), mode="constant"
    )


@handles(_aten.slice_scatter.default)
def _slice_scatter(
    call: Call,
    into: Value,
    value: Value,
    axis: int = 0,
    start: Side | None = None,
    end: Side | None = None,
    step: int = 1,
) -> str:
    axis = axis_of(axis, len(into.shape))
    size = into.shape[axis]
    if value.shape == into.shape and step == 1:
        return value.name
    if not isinstance(size, int) or isinstance(start, torch.SymInt) or isinstance(end, torch.SymInt):
        raise UnsupportedError("writing into a part of the batch")
    rows = range(*slice(start, end, step).indices(size))
    shape = [1] * len(into.shape)
    shape[axis] = len(rows)
    places = call.graph.constant(np.array(rows, dtype=np.int64).reshape(shape))
    index = expanded(call, Value(places, tuple(shape), torch.int64), value.shape)
    return call.add("ScatterElements", into.name, index, call.number(value), axis=axis)


@handles(_aten.select_scatter.default)
def _select_scatter(call: Call, into: Value, value: Value, axis: int, index: Side) -> str:
    axis, size = axis_of(axis, len(into.shape)), into.shape[axis]
    if not isinstance(size, int) or not isinstance(index, int):
        raise UnsupportedError("writing into one example of the batch")
    chosen = np.zeros([size if i == axis else 1 for i in range(len(into.shape))], dtype=np.bool_)
    chosen.swapaxes(0, axis)[index % size] = True
    wide = call.add("Unsqueeze", call.number(value), call.graph.integers(axis))
    return call.add("Where", call.graph.constant(chosen), wide, into.name)


@handles(_aten.full.default, _aten.full_like.default, _aten.new_full.default)
def _full(call: Call, like: object, *more: Any, **_: Any) -> str:
    return filled(call, more[-1])


@handles(_aten.scalar_tensor.default)
def _scalar_tensor(call: Call, number: Number, **_: Any) -> str:
    return call.number(number)


@handles(_aten.zeros.default, _aten.zeros_like.default, _aten.new_zeros.default, _aten.empty.memory_format,
         _aten.empty_like.default, _aten.new_empty.default, _aten.empty_permuted.default,
         _aten.new_empty_strided.default)  # fmt: skip
def _zeros(call: Call, *_: Any, **__: Any) -> str:
    return filled(call, 0)


@handles(_aten.ones.default, _aten.ones_like.default, _aten.new_ones.default)
def _ones(call: Call, *_: Any, **__: Any) -> str:
    return filled(call, 1)


def filled(call: Call, number: Number) -> str:
    """Return the name of a tensor of the call's shape that holds one number everywhere."""
    if isinstance(number, torch.SymInt | torch.SymFloat) or not call.shape:
        name = call.number(number)
        return expanded(call, Value(name, (), call.dtype), call.shape)
    if all(isinstance(size, int) for size in call.shape) and math.prod(call.shape) <= 1:
        return call.graph.constant(np.full(call.shape, number, dtype=NUMPY[call.dtype]))
    value = numpy_helper.from_array(np.array([number], dtype=NUMPY[call.dtype]))
    return call.add("ConstantOfShape", call.graph.sizes(call.shape), value=value)


@handles(_aten.arange.start_step)
def _arange(call: Call, start: Number, end: Number, step: Number = 1, **_: Any) -> str:
    return call.add("Range", *(call.number(number) for number in (start, end, step)))


@handles(_aten.tril.default)
def _tril(call: Call, value: Value, diagonal: int = 0) -> str:
    return call.add("Trilu", value.name, call.graph.constant(np.array(diagonal, dtype=np.int64)), upper=0)


@handles(_aten.triu.default)
def _triu(call: Call, value: Value, diagonal: int = 0) -> str:
    return call.add("Trilu", value.name, call.graph.constant(np.array(diagonal, dtype=np.int64)), upper=1)
