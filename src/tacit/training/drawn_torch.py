"""Plain torch whose dropout is given the numbers that a program is given, so that the two can be compared."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from tacit.core.examples import Examples
from tacit.core.randomness import generator
from tacit.training.executor import ClientWork
from tacit.training.executors import Recipe
from tacit.training.export.draws import Draws
from tacit.training.export.examine import find_draws
from tacit.training.tensors import tensors_of
from tacit.training.torch_executor import TorchExecutor


class DrawnTorchExecutor(TorchExecutor):
    """Trains as ``TorchExecutor`` does, but takes what dropout draws from where ``ProgramRunner`` takes it.

    Args:
        recipe: What executors are built from.
        example: Some of a client's examples, for shapes and types.

    Raises:
        UnsupportedError: What the model draws does not follow the batch.
    """

    def __init__(self, recipe: Recipe, example: Examples) -> None:
        model = recipe.model()
        super().__init__(recipe.task, model, recipe.local, recipe.terms, recipe.seed)
        inputs, _ = tensors_of(example)
        self._entered = ExitStack()
        self._shapes, self._axes = find_draws(model.module, inputs)

    def _run_steps(self, start: Tensor, work: ClientWork) -> float:
        self._numbers = generator(self._seed, work.round, "client", work.client, "draw")
        module = self._model.module
        hooks = (
            module.register_forward_pre_hook(self._begin),
            module.register_forward_hook(self._end, always_call=True),
        )
        try:
            return super()._run_steps(start, work)
        finally:
            for hook in hooks:
                hook.remove()

    def _begin(self, module: object, inputs: tuple[Any, ...]) -> None:
        shapes = [(len(inputs[0]), *shape) for shape in self._shapes]
        draws = [torch.from_numpy(self._numbers.random(shape, dtype="float32")) for shape in shapes]
        self._entered.enter_context(Draws(draws, self._axes))

    def _end(self, module: object, inputs: object, outputs: object) -> None:
        self._entered.close()
