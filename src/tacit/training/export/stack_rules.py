"""How each operator of a graph is done for many clients at once."""

import numpy as np

from tacit.training.executor import UnsupportedError
from tacit.training.export.stacking import Call, Stackable, rule

# --- element by element --------------------------------------------------------------------------


@rule(
    "Abs", "Acos", "Add", "And", "Asin", "Atan", "Cast", "Ceil", "Cos", "Cosh", "Div", "Equal", "Erf",
    "Exp", "Floor", "Greater", "GreaterOrEqual", "Identity", "IsNaN", "Less", "LessOrEqual", "Log",
    "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid",
    "Sign", "Sin", "Sinh", "Sqrt", "Sub", "Tan", "Tanh", "Where", "Xor",
)  # fmt: skip
def _elementwise(call: Call) -> list[Stackable]:
    rank = max(tensor.rank for tensor in call.given)
    if not call.is_stacked:
        return call.plain(rank, call.given[0].length)
    return call.changed(rank, *(call.stacker.aligned(tensor, rank) for tensor in call.given))


@rule("Softmax", "LogSoftmax")
def _along_an_axis(call: Call) -> list[Stackable]:
    (value,) = call.given
    if not call.is_stacked:
        return call.plain(value.rank)
    return call.changed(value.rank, value.name, axis=call.axis(value.rank) + 1)


@rule("TopK")
def _largest(call: Call) -> list[Stackable]:
    value, count = call.given
    if not call.is_stacked:
        return call.plain(value.rank)
    return call.changed(value.rank, value.name, count.name, axis=call.axis(value.rank) + 1)


@rule("CumSum")
def _cumulative(call: Call) -> list[Stackable]:
    value, place = call.given
    if not call.is_stacked:
        return call.plain(value.rank)
    one = call.stacker.graph.constant(np.array(1, dtype=np.int64))
    return call.changed(value.rank, value.name, call.stacker.graph.add("Add", place.name, one))


@rule("Trilu")
def _triangle(call: Call) -> list[Stackable]:
    value, diagonal = call.given
    if not call.is_stacked:
        return call.plain(value.rank)
    return call.changed(value.rank, value.name, diagonal.name)


# --- products and windows ------------------------------------------------------------------------


@rule("MatMul")
def _product(call: Call) -> list[Stackable]:
    rank = max(tensor.rank for tensor in call.given)
    if not call.is_stacked:
        return call.plain(rank)
    return call.changed(rank, *(call.stacker.aligned(tensor, rank) for tensor in call.given))


@rule("Gemm")
def _gemm(call: Call) -> list[Stackable]:
    if not call.is_stacked:
        return call.plain(2)
    graph, (left, right, plus) = call.stacker.graph, call.given
    product, added = graph.add("MatMul", left.name, right.name), call.stacker.aligned(plus, 2)
    for name, factor in (("alpha", call.settings["alpha"]), ("beta", call.settings["beta"])):
        if factor != 1:
            number = graph.constant(np.array(factor, dtype=np.float32))
            if name == "alpha":
                product = graph.add("Mul", product, number)
            else:
                added = graph.add("Mul", added, number)
    return [Stackable(graph.add("Add", product, added), 2, is_stacked=True)]


@rule("Conv", "ConvTranspose", "MaxPool")
def _windows(call: Call) -> list[Stackable]:
    """Let clients be more examples; a kernel of each client's own is what ``unfolded`` layers avoid."""
    rank = call.given[0].rank
    if not call.is_stacked:
        return call.plain(rank)
    if not call.given[0].is_stacked or any(tensor.is_stacked for tensor in call.given[1:]):
        raise UnsupportedError(f"operator {call.operator} with weights of each client's own")
    graph, name = call.stacker.graph, call.given[0].name
    front = graph.add("Shape", name, start=0, end=2)
    rest = graph.add("Shape", name, start=2, end=rank + 1)
    rows = graph.add("Reshape", name, call.stacker.joined(call.integers(-1), rest))
    found = graph.add_many(
        call.operator, rows, *(t.name for t in call.given[1:]), outputs=call.outputs, **call.settings
    )
    shapes = [call.stacker.joined(front, graph.add("Shape", part, start=1, end=rank)) for part in found]
    return [
        Stackable(graph.add("Reshape", part, shape), rank, is_stacked=True)
        for part, shape in zip(found, shapes, strict=True)
    ]


@rule("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
def _reduction(call: Call) -> list[Stackable]:
    value, axes = call.given[0], call.whole(1)
    rank = value.rank if call.settings["keepdims"] else value.rank - len(axes)
    if not call.is_stacked:
        return call.plain(rank)
    return call.changed(rank, value.name, call.integers(*(axis + 1 for axis in axes)))


@rule("ArgMax", "ArgMin")
def _place_of_extreme(call: Call) -> list[Stackable]:
    (value,) = call.given
    rank = value.rank if call.settings["keepdims"] else value.rank - 1
    if not call.is_stacked:
        return call.plain(rank)
    return call.changed(rank, value.name, axis=call.axis(value.rank) + 1)


# --- shapes --------------------------------------------------------------------------------------


@rule("Shape")
def _shape(call: Call) -> list[Stackable]:
    (value,) = call.given
    start, end = call.settings["start"], call.settings["end"]
    shift = int(value.is_stacked)
    name = call.stacker.graph.add("Shape", value.name, start=start + shift, end=end + shift)
    return [Stackable(name, 1, is_stacked=False, length=end - start)]


@rule("ConstantOfShape", "Range")
def _new(call: Call) -> list[Stackable]:
    return call.plain(1 if call.operator == "Range" else _length(call, 0))


@rule("Reshape")
def _reshape(call: Call) -> list[Stackable]:
    rank = _length(call, 1)
    if not call.is_stacked:
        return call.plain(rank)
    value, shape = call.given
    # A 0 copies the size at the same place, and all places move by one.
    return call.changed(rank, value.name, call.stacker.joined(call.integers(0), shape.name))


@rule("Expand")
def _expand(call: Call) -> list[Stackable]:
    value, shape = call.given
    rank = max(value.rank, _length(call, 1))
    if not call.is_stacked:
        return call.plain(rank)
    missing = rank - _length(call, 1)
    front = call.integers(*[1] * (1 + missing))
    return call.changed(rank, call.stacker.aligned(value, rank), call.stacker.joined(front, shape.name))


@rule("Unsqueeze", "Squeeze")
def _axes_come_and_go(call: Call) -> list[Stackable]:
    value, axes = call.given[0], call.whole(1)
    rank = value.rank + len(axes) * (1 if call.operator == "Unsqueeze" else -1)
    if not call.is_stacked:
        return call.plain(rank)
    return call.changed(rank, value.name, call.integers(*(axis + 1 for axis in axes)))


@rule("Transpose")
def _transpose(call: Call) -> list[Stackable]:
    (value,) = call.given
    if not call.is_stacked:
        return call.plain(value.rank)
    return call.changed(value.rank, value.name, perm=[0, *(axis + 1 for axis in call.settings["perm"])])


@rule("Concat")
def _concat(call: Call) -> list[Stackable]:
    rank = call.given[0].rank
    if not call.is_stacked:
        lengths = [tensor.length for tensor in call.given]
        return call.plain(rank, None if None in lengths else sum(n for n in lengths if n is not None))
    return call.changed(rank, *(call.stacker.each(tensor) for tensor in call.given), axis=call.axis(rank) + 1)


@rule("Split")
def _split(call: Call) -> list[Stackable]:
    value, sizes = call.given
    if not call.is_stacked:
        return call.plain(value.rank)
    return call.changed(value.rank, value.name, sizes.name, axis=call.axis(value.rank) + 1)


@rule("Slice")
def _slice(call: Call) -> list[Stackable]:
    value, first, last, _, steps = call.given
    if not call.is_stacked:
        return call.plain(value.rank)
    axes = call.integers(*(axis + 1 for axis in call.whole(3)))
    return call.changed(value.rank, value.name, first.name, last.name, axes, steps.name)


@rule("Pad")
def _pad(call: Call) -> list[Stackable]:
    value, _, fill = call.given
    if not call.is_stacked:
        return call.plain(value.rank)
    pads = call.whole(1)
    wide = call.integers(0, *pads[: value.rank], 0, *pads[value.rank :])
    return call.changed(value.rank, value.name, wide, fill.name)


@rule("Tile")
def _tile(call: Call) -> list[Stackable]:
    value, times = call.given
    if not call.is_stacked:
        return call.plain(value.rank)
    return call.changed(value.rank, value.name, call.stacker.joined(call.integers(1), times.name))


def _length(call: Call, index: int) -> int:
    """Return how many sizes a vector of sizes holds."""
    length = call.given[index].length
    if length is None:
        raise UnsupportedError(f"operator {call.operator}: it cannot be stacked with computed sizes")
    return length


# --- places --------------------------------------------------------------------------------------


@rule("Gather")
def _gather(call: Call) -> list[Stackable]:
    value, index = call.given
    axis, rank = call.axis(value.rank), value.rank - 1 + index.rank
    if not call.is_stacked:
        return call.plain(rank)
    if not index.is_stacked:
        return call.changed(rank, value.name, index.name, axis=axis + 1)
    if axis:
        raise UnsupportedError("operator Gather: it cannot be stacked along a later axis")
    if not value.is_stacked:
        return call.changed(rank, value.name, index.name)
    graph = call.stacker.graph
    places = graph.add("Unsqueeze", index.name, call.integers(index.rank + 1))
    return [Stackable(graph.add("GatherND", value.name, places, batch_dims=1), rank, is_stacked=True)]


@rule("GatherElements", "ScatterElements")
def _elements(call: Call) -> list[Stackable]:
    rank = call.given[0].rank
    if not call.is_stacked:
        return call.plain(rank)
    return call.changed(rank, *(call.stacker.each(tensor) for tensor in call.given), axis=call.axis(rank) + 1)


@rule("GatherND")
def _gather_places(call: Call) -> list[Stackable]:
    value, places = call.given
    rank = places.rank - 1 + value.rank - _width(call)
    if not call.is_stacked:
        return call.plain(rank)
    if not value.is_stacked:
        return call.changed(rank, value.name, places.name)
    return call.changed(rank, value.name, call.stacker.each(places), batch_dims=1)


@rule("ScatterND")
def _scatter_places(call: Call) -> list[Stackable]:
    value, places, updates = call.given
    if not call.is_stacked:
        return call.plain(value.rank)
    graph, stacker = call.stacker.graph, call.stacker
    wide = stacker.each(places)
    # Each place is led by the number of its client.
    zero, one = (graph.constant(np.array(number, dtype=np.int64)) for number in (0, 1))
    count = graph.add("Squeeze", stacker.clients(), call.integers(0))
    numbers = graph.add(
        "Reshape", graph.add("Range", zero, count, one), call.integers(-1, *[1] * places.rank)
    )
    sizes = stacker.joined(graph.add("Shape", wide, start=0, end=places.rank), call.integers(1))
    led = graph.add("Concat", graph.add("Expand", numbers, sizes), wide, axis=places.rank)
    return call.changed(value.rank, stacker.each(value), led, stacker.each(updates))


def _width(call: Call) -> int:
    """Return over how many axes the places of a GatherND run: their last size."""
    maker = call.stacker.makers[call.names[1]]
    return len(maker.input) if maker.op_type == "Concat" else 1
