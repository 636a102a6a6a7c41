"""What a model does with examples of one shape: what it draws, and whether it minds padding."""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from tacit.training.export.examine import find_draws
from tacit.training.flat import FlatModel
from tacit.training.functional_loss import StackBatch, StackLoss
from tacit.training.packing import Signature

KEPT = math.nextafter(1.0, 0.0)
"""About the largest number a draw may be: dropout keeps what it is drawn for."""
_REAL, _ALL = 2, 3  # examples, without padding and with
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Nature:
    """What a model does with examples of one shape.

    Attributes:
        is_padded: Whether clients with fewer examples may be padded: it changes none of their gradients.
        draws: The shape per example of each call of dropout.
        axes: Where the axis of the examples lies in the tensor that each call fills.
    """

    is_padded: bool = False
    draws: tuple[tuple[int, ...], ...] = ()
    axes: tuple[int, ...] = ()


def examine(model: FlatModel, loss: StackLoss, signature: Signature) -> Nature:
    """Find out what a model does with examples of one shape.

    It follows from the model's code and that shape alone, so that every run finds the same: weights and
    examples are made up. A model that takes none of those is given no padding.

    Args:
        model: The model.
        loss: Its loss, on the processor.
        signature: Shapes and dtypes of an example's inputs and target.
    """
    numbers = torch.Generator().manual_seed(0)
    *inputs, target = (_made_up(shape, kind, numbers) for shape, kind in signature)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            draws, axes = find_draws(model.module, inputs)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - whoever draws all the same says so when it is trained
            draws, axes = (), ()
        found = Nature(draws=draws, axes=axes)
        try:
            weights = [_weights(p.shape, numbers) for p in model.parameters]
            is_padded = loss.is_masked and _is_padding_harmless(loss, weights, inputs, target, found)
        except MemoryError:
            raise
        except (Exception, SystemExit):  # noqa: BLE001 - a model may refuse what is made up
            is_padded = False
    return Nature(is_padded, draws, axes)


def _is_padding_harmless(
    loss: StackLoss, weights: list[Tensor], inputs: list[Tensor], target: Tensor, nature: Nature
) -> bool:
    """Tell whether a client's gradients are the same with a row of padding and without."""
    alone, beside = (
        loss.gradients(weights, _batch(inputs, target, examples, nature)) for examples in (_REAL, _ALL)
    )
    pairs = zip([alone[0], *alone[1]], [beside[0], *beside[1]], strict=True)
    return all(torch.allclose(a, b, rtol=_ROUNDING, atol=_ROUNDING, equal_nan=True) for a, b in pairs)


def _batch(inputs: list[Tensor], target: Tensor, examples: int, nature: Nature) -> StackBatch:
    weight = torch.tensor([[1.0] * _REAL + [0.0] * (examples - _REAL)])
    draws = tuple(torch.full((1, examples, *shape), KEPT) for shape in nature.draws)
    few = tuple(x[None, :examples] for x in inputs)
    return StackBatch(few, target[None, :examples], weight, draws, nature.axes)


def _made_up(shape: tuple[int, ...], kind: str, numbers: torch.Generator) -> Tensor:
    """Return examples: floats between 0 and 1, and the integers 0 and 1, which most models know."""
    if kind == "float32":
        return torch.rand((_ALL, *shape), generator=numbers)
    return torch.randint(0, 2, (_ALL, *shape), generator=numbers)


def _weights(shape: torch.Size, numbers: torch.Generator) -> Tensor:
    """Return one client's weights, of a size that keeps what goes through them about as large as it is."""
    width = max(1, shape[1:].numel()) if len(shape) > 1 else 1
    return torch.randn((1, *shape), generator=numbers) / math.sqrt(width)
