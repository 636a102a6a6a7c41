"""One local step as a pure function of tensors: what is exported, and what the export is checked against."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.nn.attention import SDPBackend, sdpa_kernel

from tacit.training.executor import UnsupportedError
from tacit.training.export.draws import Draws
from tacit.training.export.losses import masked_loss
from tacit.training.losses import loss_of
from tacit.training.program import ProgramFacts
from tacit.training.task import Task

_Tensors = tuple[Tensor, ...]


class PureStep:
    """One local step: takes the program's inputs and returns its outputs, both in the order of the facts.

    The formula is that of ``tacit.training.step.Stepper``; the model's own state is left alone.

    Args:
        task: What is learned.
        module: Its model; frozen parameters and buffers are constants of the step.
        facts: The signature.
        axes: Where the axis of the examples lies in each draw of dropout.

    Attributes:
        facts: The signature.
    """

    def __init__(self, task: Task, module: nn.Module, facts: ProgramFacts, axes: Sequence[int]) -> None:
        self._module, self.facts, self._axes = module, facts, axes
        self._names = [tensor.name for tensor in facts.parameters]
        trained = set(self._names)
        self._constants = {n: p.detach() for n, p in module.named_parameters() if n not in trained}
        self._buffers = dict(module.named_buffers())
        self._loss = loss_of(task.loss)
        self._masked = masked_loss(self._loss)
        self._ports = facts.graph_inputs()

    def __call__(self, *values: Tensor) -> _Tensors:
        by_name = {port.name: value for port, value in zip(self._ports, values, strict=True)}
        draws = [by_name.pop(f"draw.{index}") for index in range(len(self.facts.draws))]
        with training(self._module), Draws(draws, self._axes) as used:
            outputs = self._step(by_name)
        if used.left:
            raise UnsupportedError("dropout: a call of it was left out")
        return outputs

    def _step(self, values: dict[str, Tensor]) -> _Tensors:
        facts = self.facts
        if _is_plain(facts):
            return self._plain_step(values)
        parameters = self._each("parameters", values)
        gradients, loss = grad_and_value(lambda tensors: self._loss_of(tensors, values))(parameters)
        if facts.max_grad_norm:
            gradients = _clipped(gradients, values["max_grad_norm"])
        if facts.weight_decay:
            gradients = _plus(gradients, parameters, values["weight_decay"])
        if facts.proximal:
            pairs = zip(parameters, self._each("anchor", values), strict=True)
            gradients = _plus(gradients, [p - a for p, a in pairs], values["proximal"])
        if facts.correction:
            pairs = zip(gradients, self._each("correction", values), strict=True)
            gradients = tuple(g + c for g, c in pairs)
        velocity: _Tensors = ()
        if facts.momentum:
            # A velocity of zero makes the first step's velocity the gradient itself.
            velocity = gradients = _plus(gradients, self._each("velocity", values), values["momentum"])
        moved = tuple(p - values["lr"] * g for p, g in zip(parameters, gradients, strict=True))
        return (*moved, *velocity, loss)

    def _plain_step(self, values: dict[str, Tensor]) -> _Tensors:
        """Step by plain SGD: a loss that is scaled by the learning rate saves a pass over every gradient."""

        def scaled(tensors: _Tensors) -> _Tensors:
            loss = self._loss_of(tensors, values)
            return loss * values["lr"], loss

        parameters = self._each("parameters", values)
        moves, (_, loss) = grad_and_value(scaled, has_aux=True)(parameters)
        return (*(p - move for p, move in zip(parameters, moves, strict=True)), loss)

    def _loss_of(self, parameters: _Tensors, values: Mapping[str, Tensor]) -> Tensor:
        # Buffers are cloned: one that the model writes into must not be the model's own.
        state = dict(zip(self._names, parameters, strict=True)) | self._constants
        state |= {name: buffer.clone() for name, buffer in self._buffers.items()}
        inputs = tuple(values[f"input.{index}"] for index in range(len(self.facts.inputs)))
        outputs = functional_call(self._module, state, inputs)
        if self.facts.is_masked:
            assert self._masked is not None
            return self._masked(outputs, values["target"], values["weight"])
        return self._loss(outputs, values["target"])

    def _each(self, prefix: str, values: Mapping[str, Tensor]) -> _Tensors:
        return tuple(values[f"{prefix}.{name}"] for name in self._names)


@contextmanager
def training(module: nn.Module) -> Iterator[None]:
    """Put a module into training mode, and torch where its operators fall apart; undo both at the end."""
    modes = [(part, part.training) for part in module.modules()]
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_without_mkldnn())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        module.train()
        try:
            yield
        finally:
            for part, mode in modes:
                part.training = mode


@contextmanager
def _without_mkldnn() -> Iterator[None]:
    # Not torch.backends.mkldnn.flags, which sets and warns of more than this.
    before = torch._C._get_mkldnn_enabled()  # noqa: SLF001 - has no public name
    torch._C._set_mkldnn_enabled(False)  # noqa: SLF001 - has no public name
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)  # noqa: SLF001 - has no public name


def _is_plain(facts: ProgramFacts) -> bool:
    extras = (facts.momentum, facts.weight_decay, facts.max_grad_norm, facts.proximal, facts.correction)
    return not any(extras)


def _plus(tensors: _Tensors, others: Sequence[Tensor], factor: Tensor) -> _Tensors:
    return tuple(t + factor * o for t, o in zip(tensors, others, strict=True))


def _clipped(gradients: _Tensors, largest: Tensor) -> _Tensors:
    # As torch.nn.utils.clip_grad_norm_, its 1e-6 included.
    squares: Tensor = sum((g.square().sum() for g in gradients), start=torch.zeros(()))
    scale = (largest / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    return tuple(g * scale for g in gradients)
