"""The table of ATen operators that have a meaning in ONNX, and what a line of it is given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
import torch
from torch.utils._sympy.functions import FloatTrueDiv, IntTrueDiv, ToFloat

from tacit.training.export.graph import Graph, Size, Value, size_of

Side = int | torch.SymInt
Number = bool | int | float | torch.SymInt | torch.SymFloat
NUMPY = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.bool: np.bool_,
}


@dataclass(frozen=True)
class Call:
    """One call of an operator in the traced step.

    Attributes:
        graph: Where its nodes go.
        shape: The shape of its (first) result.
        dtype: The numbers of its (first) result.
    """

    graph: Graph
    shape: tuple[Size, ...]
    dtype: torch.dtype

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.graph.add(operator, *inputs, **attributes)

    def result(self, name: str) -> Value:
        """Return a value that has this call's own shape and numbers."""
        return Value(name, self.shape, self.dtype)

    def number(self, value: Value | Number | sympy.Expr, dtype: torch.dtype | None = None) -> str:
        """Return the name of a tensor or number, as numbers of a type (by default the result's)."""
        dtype = dtype or self.dtype
        if isinstance(value, Value):
            return self.graph.cast(value, dtype)
        if isinstance(value, torch.SymInt | torch.SymFloat):
            value = value.node.expr
        if isinstance(value, sympy.Expr):
            if not value.is_number:
                return self._computed(value, dtype)
            value = float(value)
        return self.graph.constant(np.array(value, dtype=NUMPY[dtype]))

    def _computed(self, formula: sympy.Expr, dtype: torch.dtype) -> str:
        """Return the name of a number that depends on the batch, of shape ()."""
        for kind in (IntTrueDiv, FloatTrueDiv):
            formula = formula.replace(kind, lambda above, below: above / below)
        above, below = sympy.fraction(sympy.cancel(sympy.nsimplify(formula.replace(ToFloat, lambda x: x))))
        if above.is_number and below.is_number:
            return self.number(above / below, dtype)
        name = self._whole(above, dtype)
        return name if below == 1 else self.add("Div", name, self._whole(below, dtype))

    def _whole(self, formula: sympy.Expr, dtype: torch.dtype) -> str:
        scalar = self.add("Squeeze", self.graph.size(formula), self.graph.integers(0))
        return self.graph.cast(Value(scalar, (), torch.int64), dtype)


Handler = Callable[..., Value | tuple[Value, ...] | str]
"""Takes the call, then what the operator takes; returns the result, or its name."""
HANDLERS: dict[Any, Handler] = {}


def handles(*operators: Any) -> Callable[[Handler], Handler]:
    """Enter a function into the table."""

    def enter(handler: Handler) -> Handler:
        for operator in operators:
            HANDLERS[operator] = handler
        return handler

    return enter


def axis_of(axis: int, rank: int) -> int:
    """Return an axis counted from the front."""
    return axis % max(rank, 1)


def axes_of(axes: int | Sequence[int] | None, rank: int) -> list[int]:
    """Return axes counted from the front; none given means all."""
    if axes is None or axes == []:
        return [*range(rank)]
    return sorted(axis_of(axis, rank) for axis in ([axes] if isinstance(axes, int) else axes))


def sizes_of(shape: Sequence[int | torch.SymInt]) -> tuple[Size, ...]:
    """Return a shape as numbers and formulas."""
    return tuple(size_of(size) for size in shape)
