"""What has to be known of a model before its step is traced: its state, its draws, and what padding does."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tacit.core.layout import Vector
from tacit.training.executor import UnsupportedError
from tacit.training.export.draws import Recorder, placed
from tacit.training.export.step import PureStep, training
from tacit.training.program import BATCH, ProgramFacts

_FEW, _MORE = 2, 3  # two batch sizes show what depends on the batch size
_ROUNDING = 1e-4


def refuse_changing_buffers(module: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Refuse a model whose buffers change in training, such as batch normalisation's running statistics.

    Raises:
        UnsupportedError: They do; the message names one and its layer.
    """
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    with training(module), torch.random.fork_rng(devices=[]), torch.no_grad():
        functional_call(module, buffers, tuple(tiled(x, _MORE) for x in inputs))
    for name, buffer in buffers.items():
        if not torch.equal(buffer, before[name]):
            owner = type(module.get_submodule(name.rpartition(".")[0])).__name__
            raise UnsupportedError(
                f"buffer `{name}` of {owner}: it changes in training, and a program keeps none"
            )


def find_draws(
    module: nn.Module, inputs: Sequence[Tensor]
) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Return the shape per example of each draw of dropout, and where its axis of examples lies."""
    found = []
    for size in (_FEW, _MORE):
        with training(module), torch.random.fork_rng(devices=[]), torch.no_grad(), Recorder() as recorder:
            state = {name: buffer.clone() for name, buffer in module.named_buffers()}
            functional_call(module, state, tuple(tiled(x, size) for x in inputs))
        found.append(recorder.shapes)
    return placed(found[0], found[1], (_FEW, _MORE))


def padding_is_harmless(step: PureStep, vector: Vector, inputs: Sequence[Tensor], target: Tensor) -> bool:
    """Tell whether a row of padding leaves the step of the others as it is; batch statistics would not."""
    ports = step.facts.graph_inputs()
    values = sample(step.facts, vector, inputs, target, _MORE)
    full = dict(zip((port.name for port in ports), values, strict=True))
    full["weight"] = torch.tensor([1.0] * _FEW + [0.0] * (_MORE - _FEW))
    for name, value in full.items():
        if name.startswith(
            "input."
        ):  # another row than those that count, even where there is but one example
            row = value[_FEW:]
            full[name] = torch.cat([value[:_FEW], row + 1 if row.is_floating_point() else row.flip(-1)])
    rows = {port.name for port in ports if port.shape[:1] == (BATCH,)}
    alone = {name: value[:_FEW] if name in rows else value for name, value in full.items()}
    return all(
        torch.allclose(a, b, rtol=_ROUNDING, atol=_ROUNDING, equal_nan=True)
        for a, b in zip(step(*full.values()), step(*alone.values()), strict=True)
    )


def sample(
    facts: ProgramFacts, vector: Vector, inputs: Sequence[Tensor], target: Tensor, size: int
) -> tuple[Tensor, ...]:
    """Return values for all of a step's inputs, in order: examples, and a state beside the model's own."""
    random = torch.Generator().manual_seed(0)
    flat = torch.from_numpy(vector)
    values, starts = [], dict.fromkeys(("parameters", "velocity", "anchor", "correction"), 0)
    given = {f"input.{index}": x for index, x in enumerate(inputs)} | {"target": target}
    for port in facts.graph_inputs():
        segment = port.name.partition(".")[0]
        shape = [size if side == BATCH else int(side) for side in port.shape]
        if port.name in given:
            values.append(tiled(given[port.name], size))
        elif segment in starts:
            begin = starts[segment]
            starts[segment] = end = begin + int(torch.Size(shape).numel())
            part = flat[begin:end].view(shape)
            noise = torch.randn(shape, generator=random) * 0.01
            values.append(part.clone() if segment == "parameters" else noise + part * (segment == "anchor"))
        elif segment == "draw":
            values.append(torch.rand(shape, generator=random))
        else:
            values.append(torch.full(shape, 1.0 if port.name == "weight" else 0.1))
    return tuple(values)


def tiled(tensor: Tensor, size: int) -> Tensor:
    """Return that many rows, by going through the given ones again and again."""
    return tensor[torch.arange(size) % len(tensor)]
