"""Gradients of single examples, never mixed: all of a batch in one call (torch.func), or one by one."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from tacit.core.layout import Rows
from tacit.training.executor import UnsupportedError
from tacit.training.flat import FlatModel
from tacit.training.losses import IGNORED, Loss, class_rows, cross_entropy

Inputs = tuple[Tensor, ...]
Gradients = tuple[Rows, ...]
"""Per parameter one row for each example, float32, shape (examples, parameter size)."""
_CHUNK_NUMBERS = 1 << 22  # 16 MiB of gradients at a time
_CHUNK_EXAMPLES = 256
_GOLDEN = 0.6180339887  # its multiples fill the interval from 0 to 1 evenly, and never repeat
_TOLERANCE = 1e-3  # both ways take the same sums in another order; a gradient that is wrong is wrong by more
_MIXERS = (nn.modules.batchnorm._BatchNorm,)  # noqa: SLF001 - the one base of all batch norms


class PerExampleGradients:
    """Computes the gradient of the task's loss on each example alone, as a batch of one.

    A loss that averages over a batch is thus the loss of that one example. Models that ``torch.func.vmap``
    takes run batch-wise, the others (recurrent layers, control flow that depends on data) example by
    example. An example that raises has no gradient: it must not make a whole site fail, which anybody
    would see.

    Args:
        model: The model; gradients are taken at its current state.
        loss: The task's loss.

    Raises:
        UnsupportedError: The model mixes the examples of a batch.
    """

    def __init__(self, model: FlatModel, loss: Loss) -> None:
        _refuse_mixers(model.module)
        self._model, self._loss = model, _for_one(loss)
        named = model.module.named_parameters()
        self._parameters = {name: p.detach() for name, p in named if p.requires_grad}  # same memory
        self._together = vmap(grad(self._loss_of_one), in_dims=(None, 0, 0), randomness="different")
        self._is_together: dict[object, bool] = {}
        self._chunk = max(1, min(_CHUNK_NUMBERS // model.parameter_count, _CHUNK_EXAMPLES))

    def check(self, inputs: Inputs, target: Tensor) -> None:
        """Try the model on made-up examples of these shapes, and choose how gradients are taken.

        Raises:
            UnsupportedError: It raises even there, or moves its buffers.
        """
        self._runs_together(inputs, target)

    def chunks(self, inputs: Inputs, target: Tensor) -> Iterator[Gradients]:
        """Yield the gradients of all examples, some at a time; those of examples that raise are left out.

        Raises:
            UnsupportedError: As ``check`` does.
        """
        is_together = self._runs_together(inputs, target)
        for start in range(0, len(target), self._chunk):
            part = slice(start, start + self._chunk)
            chunk = tuple(x[part] for x in inputs), target[part]
            found = self._attempt(self._all, *chunk) if is_together else None
            yield from [found] if found is not None else self._one_by_one(*chunk)

    def _one_by_one(self, inputs: Inputs, target: Tensor) -> Iterator[Gradients]:
        for index in range(len(target)):
            part = slice(index, index + 1)
            found = self._attempt(self._one, tuple(x[part] for x in inputs), target[part])
            if found is not None:
                yield found

    def _attempt(
        self, compute: Callable[[Inputs, Tensor], Gradients], inputs: Inputs, target: Tensor
    ) -> Gradients | None:
        """Return the gradients, or None where an example made the model raise."""
        try:
            return compute(inputs, target)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a record may make a model raise anything
            _pass_on_trouble(error)
            return None

    def _runs_together(self, inputs: Inputs, target: Tensor) -> bool:
        key = tuple((tuple(x.shape[1:]), x.dtype) for x in (*inputs, target))
        if key not in self._is_together:
            made_up = tuple(map(_made_up, inputs)), _made_up(target)
            self._refuse_failing(*made_up)
            self._is_together[key] = self._agrees(*made_up)
        return self._is_together[key]

    def _all(self, inputs: Inputs, target: Tensor) -> Gradients:
        found = self._together(self._parameters, inputs, target)
        return tuple(gradient.reshape(len(target), -1).numpy() for gradient in found.values())

    def _loss_of_one(self, parameters: Mapping[str, Tensor], inputs: Inputs, target: Tensor) -> Tensor:
        outputs = functional_call(self._model.module, dict(parameters), tuple(x.unsqueeze(0) for x in inputs))
        return self._loss(outputs, target.unsqueeze(0))

    def _one(self, inputs: Inputs, target: Tensor) -> Gradients:
        # On the module itself: layers that keep their weights in lists of their own miss functional_call's.
        loss = self._loss(self._model.module(*inputs), target)
        # torch's types leave out that an unused parameter has no gradient.
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            loss, self._model.parameters, allow_unused=True
        )
        pairs = zip(found, self._model.parameters, strict=True)
        gradients = (torch.zeros_like(p) if gradient is None else gradient for gradient, p in pairs)
        return tuple(gradient.reshape(1, -1).numpy() for gradient in gradients)

    def _refuse_failing(self, inputs: Inputs, target: Tensor) -> None:
        """Train on one made-up example as it would be done; it holds nobody's data, so words may be shown."""
        module = self._model.module
        before = {name: buffer.clone() for name, buffer in module.named_buffers()}
        try:
            self._one(tuple(x[:1] for x in inputs), target[:1])
        except Exception as error:
            _pass_on_trouble(error)
            words = f"{type(error).__name__}: {error}"
            raise UnsupportedError(f"a batch of one example cannot be trained on: {words}") from error
        for name, buffer in module.named_buffers():
            if not torch.equal(buffer, before[name]):
                raise UnsupportedError(f"buffer `{name}` moves with the examples, outside of any clipping")

    def _agrees(self, inputs: Inputs, target: Tensor) -> bool:
        """Tell whether torch.func takes the model, and says what plain autograd says (dropout off)."""
        module = self._model.module
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # vmap warns where it would loop over examples itself
                self._all(inputs, target)
                module.eval()
                together = self._all(inputs, target)
                apart = self._one(tuple(x[1:] for x in inputs), target[1:])
        except Exception as error:  # noqa: BLE001 - whatever it lacks, one by one it works
            _pass_on_trouble(error)
            return False
        finally:
            module.train()
        return all(_is_close(a[1:], b) for a, b in zip(together, apart, strict=True))


def _refuse_mixers(module: nn.Module) -> None:
    for name, layer in module.named_modules():
        is_tracking = bool(getattr(layer, "track_running_stats", False))
        if isinstance(layer, _MIXERS) or is_tracking:
            raise UnsupportedError(
                f"`{name}` ({type(layer).__name__}) mixes the examples of a batch or keeps statistics "
                "of them; use GroupNorm or LayerNorm"
            )


def _for_one(loss: Loss) -> Loss:
    return _cross_entropy if loss is cross_entropy else loss


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy without a look at the data, which vmap does not allow."""
    logits, labels = class_rows(outputs, targets)
    counted = (labels != IGNORED).sum().clamp_min(1)
    return functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum") / counted


def _made_up(tensor: Tensor) -> Tensor:
    """Return two made-up examples: zeros where values are an index or a class, fractions elsewhere."""
    if not tensor.is_floating_point():
        return tensor.new_zeros((2, *tensor.shape[1:]))
    size = 2 * math.prod(tensor.shape[1:])
    return (torch.arange(1, size + 1) * _GOLDEN % 1).to(tensor.dtype).reshape(2, *tensor.shape[1:])


def _is_close(found: Rows, wanted: Rows) -> bool:
    scale = float(np.abs(wanted).max(initial=0.0))
    return np.allclose(found, wanted, rtol=_TOLERANCE, atol=_TOLERANCE * scale)


def _pass_on_trouble(error: BaseException) -> None:
    """Raise again what is this machine's trouble, not an example's."""
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        raise error
