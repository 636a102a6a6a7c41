"""Dropout with numbers that come from outside, so that a step is a pure function."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tacit.training.executor import UnsupportedError

_aten = torch.ops.aten
_IN_PLACE, _NEW, _FUSED = _aten.bernoulli_.float, _aten.bernoulli.p, _aten.native_dropout.default
_Shape = tuple[int, ...]


class Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Takes the numbers of every call of dropout from ``draws``, in order.

    An element is kept where its number is at least p; dropout, attention and recurrent layers all end here.

    Args:
        draws: Uniform numbers, one tensor per call, each of shape (examples, ...).
        axes: Where the axis of the examples lies in the tensor that each call fills.
    """

    def __init__(self, draws: Sequence[Tensor], axes: Sequence[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._draws, self._axes, self._next = draws, axes, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        p = _dropped(func, args)
        if p is None:
            if torch.Tag.nondeterministic_seeded in func.tags and func is not _FUSED:
                raise UnsupportedError(f"operator {func}: random numbers other than dropout's")
            return func(*args, **(kwargs or {}))
        tensor = args[0]
        kept = self._numbers(tensor) >= p
        if func is _FUSED:
            return tensor * kept * (1 / (1 - p)), kept
        return tensor.copy_(kept) if func is _IN_PLACE else kept.to(tensor.dtype)

    @property
    def left(self) -> int:
        """How many draws nobody has asked for."""
        return len(self._draws) - self._next

    def _numbers(self, like: Tensor) -> Tensor:
        """Return the next draw in the shape that the call wants."""
        if not self.left:
            raise UnsupportedError("dropout: more calls of it than there were before")
        draw, axis = self._draws[self._next], self._axes[self._next]
        self._next += 1
        shape = like.shape
        return draw.reshape(shape[axis], *shape[:axis], *shape[axis + 1 :]).movedim(0, axis)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the shape of every draw of dropout."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes: list[_Shape] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if _dropped(func, args) is not None:
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


def _dropped(func: Any, args: tuple[Any, ...]) -> float | None:
    """Return the share of elements that a call drops; None if it is no draw of dropout."""
    if func in (_IN_PLACE, _NEW):
        return 1 - float(args[1] if len(args) > 1 else 0.5)  # torch leaves out what is the default
    if func is _FUSED and args[2] and 0 < args[1] < 1:
        return float(args[1])
    return None


def placed(
    few: Sequence[_Shape], more: Sequence[_Shape], sizes: tuple[int, int]
) -> tuple[tuple[_Shape, ...], tuple[int, ...]]:
    """Find the examples' axis of each draw from the draws' shapes for two batch sizes.

    Returns:
        The shape per example of each draw, and its axis.

    Raises:
        UnsupportedError: The draws do not follow the batch size.
    """
    if len(few) != len(more):
        raise UnsupportedError("dropout: the number of its calls depends on the batch size")
    shapes, axes = [], []
    for one, other in zip(few, more, strict=True):
        grown = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
        if len(grown) != 1 or one[grown[0]] * sizes[1] != other[grown[0]] * sizes[0]:
            raise UnsupportedError(f"dropout: it draws {list(one)} numbers for {sizes[0]} examples")
        axis = grown[0]
        times = one[axis] // sizes[0]
        shapes.append((*([times] if times > 1 else []), *one[:axis], *one[axis + 1 :]))
        axes.append(axis)
    return tuple(shapes), tuple(axes)
