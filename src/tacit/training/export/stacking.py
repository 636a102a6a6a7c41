"""A graph of one client on its way to being one of many: what a rule for an operator works with."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import onnx
from onnx import numpy_helper

from tacit.training.executor import UnsupportedError
from tacit.training.export.graph import Graph
from tacit.training.program import CLIENTS, Port


class Stackable(NamedTuple):
    """A tensor of the new graph.

    Attributes:
        name: Its name.
        rank: Its number of axes, that of the clients not counted.
        is_stacked: Whether it has one.
        length: How many numbers a vector holds, where that is known.
    """

    name: str
    rank: int
    is_stacked: bool
    length: int | None = None


class Stacker:
    """The new graph while it is made.

    Args:
        old: The graph of one client.
        inputs: The new graph's inputs.

    Attributes:
        graph: The new graph.
        constants: The old graph's constants by name.
        makers: The old graph's nodes by the names of their outputs.
        known: What each tensor of the old graph became.
    """

    def __init__(self, old: onnx.GraphProto, inputs: Sequence[Port]) -> None:
        self.graph = Graph({})
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in old.initializer}
        self.makers = {name: node for node in old.node for name in node.output}
        self.known: dict[str, Stackable] = {}
        for name, array in self.constants.items():
            length = array.shape[0] if array.ndim == 1 else None
            self.known[name] = Stackable(
                self.graph.constant(array), array.ndim, is_stacked=False, length=length
            )
        for port in inputs:
            is_stacked = port.shape[:1] == (CLIENTS,)
            self.known[port.name] = Stackable(port.name, len(port.shape) - is_stacked, is_stacked)
        self._example = next(port.name for port in inputs if port.shape[:1] == (CLIENTS,))

    def clients(self) -> str:
        """Return the name of a vector that holds the number of clients."""
        return self.graph.add("Shape", self._example, start=0, end=1)

    def each(self, tensor: Stackable) -> str:
        """Return the name of a tensor with an axis of clients, all alike if it had none."""
        if tensor.is_stacked:
            return tensor.name
        wide = self.graph.add("Unsqueeze", tensor.name, self.graph.integers(0))
        ones = [self.graph.integers(*[1] * tensor.rank)] if tensor.rank else []
        return self.graph.add("Expand", wide, self.joined(self.clients(), *ones))

    def aligned(self, tensor: Stackable, rank: int) -> str:
        """Return the name of a tensor whose axis of clients lies in front of that many others."""
        if not tensor.is_stacked or tensor.rank >= rank:
            return tensor.name
        return self.graph.add(
            "Unsqueeze", tensor.name, self.graph.integers(*range(1, rank - tensor.rank + 1))
        )

    def joined(self, *vectors: str) -> str:
        """Return the name of several vectors put together."""
        return vectors[0] if len(vectors) == 1 else self.graph.add("Concat", *vectors, axis=0)


class Call(NamedTuple):
    """One node of the old graph, and its inputs in the new one."""

    stacker: Stacker
    operator: str
    given: list[Stackable]
    settings: dict[str, Any]
    names: list[str]
    outputs: int

    @property
    def is_stacked(self) -> bool:
        """Whether any input differs from client to client."""
        return any(tensor.is_stacked for tensor in self.given)

    def plain(self, rank: int, length: int | None = None) -> list[Stackable]:
        """Keep the node as it is."""
        names = [tensor.name for tensor in self.given]
        found = self.stacker.graph.add_many(self.operator, *names, outputs=self.outputs, **self.settings)
        return [Stackable(name, rank, is_stacked=False, length=length) for name in found]

    def changed(self, rank: int, *inputs: str, **settings: Any) -> list[Stackable]:
        """Add the node with other inputs and settings; what comes out has an axis of clients."""
        found = self.stacker.graph.add_many(
            self.operator, *inputs, outputs=self.outputs, **{**self.settings, **settings}
        )
        return [Stackable(name, rank, is_stacked=True) for name in found]

    def whole(self, index: int) -> list[int]:
        """Return the numbers of an input that is constant."""
        array = self.stacker.constants.get(self.names[index])
        if array is None:
            raise UnsupportedError(f"operator {self.operator}: it cannot be stacked with computed sizes")
        return [int(number) for number in array.reshape(-1)]

    def integers(self, *numbers: int) -> str:
        """Return the name of a constant vector."""
        return self.stacker.graph.integers(*numbers)

    def axis(self, rank: int) -> int:
        """Return the node's axis, counted from the front of a tensor without clients."""
        return int(self.settings.get("axis", 0)) % max(rank, 1)


Rule = Callable[[Call], list[Stackable]]
RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Enter a function as the rule of operators."""

    def enter(function: Rule) -> Rule:
        for operator in operators:
            RULES[operator] = function
        return function

    return enter
