"""Tensors that are views of others by their place in memory, as writing into a part of one leaves them."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from tacit.training.executor import UnsupportedError
from tacit.training.export.graph import Size, Value
from tacit.training.export.registry import Call, Side, handles, sizes_of
from tacit.training.export.shapes import expanded

_aten = torch.ops.aten


@handles(_aten.as_strided.default)
def _as_strided(
    call: Call, value: Value, shape: object, stride: Sequence[Side], offset: Side | None = None
) -> str:
    if _is_whole(call.shape, stride, offset, value.shape):
        return call.graph.reshape(value, call.shape)
    front, table = _places(value.shape, call.shape, stride, offset)
    rows = call.graph.reshape(value, (*front, -1))
    return call.add("Gather", rows, call.graph.constant(table), axis=len(front))


@handles(_aten.as_strided_scatter.default)
def _as_strided_scatter(
    call: Call, into: Value, value: Value, shape: object, stride: Sequence[Side], offset: Side | None = None
) -> str:
    if _is_whole(value.shape, stride, offset, into.shape):
        return call.graph.reshape(value, call.shape)
    front, table = _places(into.shape, value.shape, stride, offset)
    rows = call.graph.reshape(into, (*front, -1))
    index = Value(call.graph.constant(table.reshape(-1)), (table.size,), torch.int64)
    updates = call.graph.reshape(value, (*front, table.size))
    written = call.add(
        "ScatterElements", rows, expanded(call, index, (*front, table.size)), updates, axis=len(front)
    )
    return call.graph.reshape(Value(written, (*front, -1), into.dtype), into.shape)


def _is_whole(
    shape: Sequence[Size], stride: Sequence[Side], offset: Side | None, other: Sequence[Size]
) -> bool:
    """Tell whether strides go through all elements of the other tensor, in their order."""
    step: Size = 1
    for size, given in reversed([*zip(shape, sizes_of(stride), strict=True)]):
        if size != 1 and given != step:
            return False
        step = step * size
    return not offset and bool(step == math.prod(other))


def _places(
    whole: Sequence[Size], part: Sequence[Size], stride: Sequence[Side], offset: Side | None
) -> tuple[tuple[Size, ...], npt.NDArray[np.int64]]:
    """Return the axis of the examples, if there is one, and where the rest lies within one example."""
    steps, front, inner = sizes_of(stride), tuple(part[:1]), part
    if front and not isinstance(front[0], int) and front[0] * steps[0] == math.prod(whole):
        inner, steps = part[1:], steps[1:]
    else:
        front = ()
    if not all(isinstance(number, int) for number in (*inner, *steps, offset or 0)):
        raise UnsupportedError("operator aten.as_strided: a part of the batch by its place in memory")
    table = np.full([int(size) for size in inner], int(offset or 0), dtype=np.int64)
    for axis, (size, step) in enumerate(zip(inner, steps, strict=True)):
        table += np.arange(size).reshape([-1 if i == axis else 1 for i in range(len(inner))]) * step
    return front, table
