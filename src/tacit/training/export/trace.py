"""From a pure step to a graph of plain ATen operators in which the batch has no fixed size."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv

from tacit.training.executor import UnsupportedError
from tacit.training.export.decompositions import decompositions
from tacit.training.export.expansions import expansions
from tacit.training.program import BATCH, Port

_DTYPES = {"float32": torch.float32, "int64": torch.int64}
_HINT = 6007  # what a model is shown as batch size; it stands for any, and no model has it by itself
_TORCH = str(Path(torch.__file__).parent)


def trace(
    step: Callable[..., tuple[Tensor, ...]], ports: tuple[Port, ...], *, unfold: bool
) -> fx.GraphModule:
    """Run a step on tensors without values and note every operator.

    Args:
        step: A function of tensors.
        ports: Its arguments.
        unfold: Spell convolutions out as products, which can be stacked over clients.

    Returns:
        A graph with one placeholder per port, in their order, that changes nothing in place.

    Raises:
        UnsupportedError: The step looks at the number of examples, or at what a tensor holds.
    """
    environment = ShapeEnv()
    fakes = FakeTensorMode(shape_env=environment, allow_non_fake_inputs=True)
    batch: Any = fakes.from_tensor(torch.empty(_HINT)).shape[0]
    with ExitStack() as stack:
        stack.enter_context(fakes)
        shapes: list[Any] = [[batch if size == BATCH else size for size in port.shape] for port in ports]
        arguments = [
            torch.empty(shape, dtype=_DTYPES[port.dtype]) for shape, port in zip(shapes, ports, strict=True)
        ]
        stack.enter_context(enable_python_dispatcher())
        stack.enter_context(expansions(unfold=unfold))
        try:
            traced = make_fx(step, decomposition_table=decompositions(), _allow_non_fake_inputs=True)(
                *arguments
            )
        except GuardOnDataDependentSymNode as error:
            raise UnsupportedError("the model does one thing or another by what a tensor holds") from error
        if _mutates(traced):
            plain = functionalize(traced, remove="mutations")
            traced = make_fx(plain, _allow_non_fake_inputs=True)(*arguments)
    _refuse_decisions(environment, batch)
    traced.graph.eliminate_dead_code()
    return traced


def _mutates(traced: fx.GraphModule) -> bool:
    return any(
        isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable  # noqa: SLF001 - no public name
        for node in traced.graph.nodes
    )


def _refuse_decisions(environment: ShapeEnv, batch: torch.SymInt) -> None:
    """Refuse a step that looked at the number of examples and went one way because of it."""
    for guard in environment.guards:
        place = guard.sloc.framework_loc
        file = str(getattr(place, "filename", ""))
        if not file.startswith(_TORCH):  # torch itself decides how something is computed, not what
            where = f"{Path(file).name}, line {getattr(place, 'lineno', '?')}"
            raise UnsupportedError(f"the model does one thing or another by the number of examples ({where})")
    if batch.node.expr.is_number:
        raise UnsupportedError("an operator of the model wants a fixed number of examples")
