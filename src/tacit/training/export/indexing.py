"""Operators that read or write elements at places that other tensors name."""

from collections.abc import Sequence

import torch

from tacit.training.executor import UnsupportedError
from tacit.training.export.graph import Size, Value
from tacit.training.export.registry import Call, Number, axis_of, handles
from tacit.training.export.shapes import expanded, filled, permuted, sliced

_aten = torch.ops.aten
_REDUCED = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}


@handles(_aten.gather.default)
def _gather(call: Call, value: Value, axis: int, index: Value, sparse_grad: bool = False) -> str:
    axis = axis_of(axis, len(value.shape))
    return call.add("GatherElements", value.name, _unwrapped(call, index, value.shape[axis]), axis=axis)


@handles(_aten.index_select.default)
def _index_select(call: Call, value: Value, axis: int, index: Value) -> str:
    axis = axis_of(axis, len(value.shape))
    return call.add("Gather", value.name, _unwrapped(call, index, value.shape[axis]), axis=axis)


@handles(_aten.scatter.value)
def _scatter_value(call: Call, into: Value, axis: int, index: Value, number: Number) -> str:
    whole, axis = Call(call.graph, index.shape, into.dtype), axis_of(axis, len(into.shape))
    places = _unwrapped(call, index, into.shape[axis])
    return call.add("ScatterElements", into.name, places, filled(whole, number), axis=axis)


@handles(_aten.scatter.src)
def _scatter(call: Call, into: Value, axis: int, index: Value, source: Value) -> str:
    return _scattered(call, into, axis, index, source)


@handles(_aten.scatter_add.default)
def _scatter_add(call: Call, into: Value, axis: int, index: Value, source: Value) -> str:
    return _scattered(call, into, axis, index, source, reduction="add")


@handles(_aten.scatter_reduce.two)
def _scatter_reduce(
    call: Call, into: Value, axis: int, index: Value, source: Value, reduce: str, include_self: bool = True
) -> str:
    if reduce not in _REDUCED or not include_self:
        raise UnsupportedError(f"scatter_reduce with {reduce!r}")
    return _scattered(call, into, axis, index, source, reduction=_REDUCED[reduce])


def _scattered(call: Call, into: Value, axis: int, index: Value, source: Value, **reduction: str) -> str:
    name = source.name
    for i, (wanted, size) in enumerate(zip(index.shape, source.shape, strict=True)):
        if wanted != size:  # torch takes as much of the source as there are places
            if not isinstance(wanted, int):
                raise UnsupportedError("scatter: the source is larger than the index along the batch")
            name = sliced(call, Value(name, source.shape, source.dtype), i, 0, wanted)
    axis = axis_of(axis, len(into.shape))
    return call.add("ScatterElements", into.name, index.name, name, axis=axis, **reduction)


def _unwrapped(call: Call, index: Value, size: Size) -> str:
    """Send an index below zero beyond the end: ONNX would count it from there, where torch raises."""
    end = call.number(size, index.dtype) if isinstance(size, int) else call.graph.size(size)
    below = call.add("Less", index.name, call.number(0, index.dtype))
    return call.add("Where", below, end, index.name)


@handles(_aten.index.Tensor, _aten._unsafe_index.Tensor)  # noqa: SLF001 - its name
def _index(call: Call, value: Value, indices: Sequence[Value | None]) -> str:
    axes, places = _places(indices)
    if len(axes) == 1:
        return call.add("Gather", value.name, places[0].name, axis=axes[0])
    order, back, _ = _orders(value, axes, places)
    found = call.add("GatherND", permuted(call, value, order), _joined(call, places))
    return permuted(call, Value(found, call.shape, call.dtype), back)


@handles(_aten.index_put.default, _aten._unsafe_index_put.default)  # noqa: SLF001 - its name
def _index_put(
    call: Call, into: Value, indices: Sequence[Value | None], source: Value, accumulate: bool = False
) -> str:
    if len(indices) == 1 and indices[0] is not None and indices[0].dtype == torch.bool and not source.shape:
        if accumulate:
            raise UnsupportedError("adding at places chosen by truth values")
        mask = indices[0]
        wide = call.graph.reshape(mask, (*mask.shape, *[1] * (len(into.shape) - len(mask.shape))))
        return call.add("Where", wide, call.number(source), into.name)
    axes, places = _places(indices)
    order, back, shape = _orders(into, axes, places)
    updates = expanded(call, Value(call.number(source), source.shape, into.dtype), shape)
    updates = permuted(call, Value(updates, shape, into.dtype), _inverse(back))
    added = call.add(
        "ScatterND", permuted(call, into, order), _joined(call, places), updates,
        reduction="add" if accumulate else "none",
    )  # fmt: skip
    return permuted(call, Value(added, into.shape, into.dtype), _inverse(order))


def _places(indices: Sequence[Value | None]) -> tuple[list[int], list[Value]]:
    """Return the axes that are indexed, and by what."""
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    places = [index for index in indices if index is not None]
    if any(index.dtype == torch.bool for index in places):
        raise UnsupportedError("a choice by truth values, whose size nobody knows")
    return axes, places


def _orders(
    value: Value, axes: Sequence[int], places: Sequence[Value]
) -> tuple[list[int], list[int], tuple[Size, ...]]:
    """Return how to bring the indexed axes to the front, how to bring what was found back, and its shape.

    As in NumPy, what is indexed stays where it is if the indexed axes are neighbours, and comes first if not.
    """
    rest = [axis for axis in range(len(value.shape)) if axis not in axes]
    shape = _common_shape(places)
    first = axes[0] if [*axes] == [*range(axes[0], axes[0] + len(axes))] else 0
    before, after = rest[:first], rest[first:]
    found = [*range(len(shape))]
    back = [len(shape) + rest.index(axis) for axis in before] + found
    back += [len(shape) + rest.index(axis) for axis in after]
    sizes = [value.shape[axis] for axis in before], [value.shape[axis] for axis in after]
    return [*axes, *rest], back, (*sizes[0], *shape, *sizes[1])


def _inverse(order: Sequence[int]) -> list[int]:
    return [order.index(axis) for axis in range(len(order))]


def _common_shape(places: Sequence[Value]) -> tuple[Size, ...]:
    """Return the shape that several index tensors have together."""
    rank = max(len(index.shape) for index in places)
    shapes = [(*[1] * (rank - len(index.shape)), *index.shape) for index in places]
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*shapes, strict=True))


def _joined(call: Call, places: Sequence[Value]) -> str:
    """Return the name of an index tensor whose last axis names a place."""
    shape = _common_shape(places)
    last = call.graph.integers(len(shape))
    names = [call.add("Unsqueeze", expanded(call, index, shape), last) for index in places]
    return names[0] if len(names) == 1 else call.add("Concat", *names, axis=len(shape))
