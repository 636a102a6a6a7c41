"""Measure a model on examples."""

import torch

from tacit.core.examples import Examples
from tacit.core.layout import Vector
from tacit.training.flat import FlatModel
from tacit.training.losses import loss_of
from tacit.training.metrics import Meter
from tacit.training.task import Task
from tacit.training.tensors import tensors_of

_BATCH = 512
_SEQUENCE_BATCH = 32  # outputs over a vocabulary are large


class Evaluator:
    """Measures the loss and the task's metrics.

    Args:
        task: What is learned.
        model: The task's model; its state is overwritten.
    """

    def __init__(self, task: Task, model: FlatModel) -> None:
        self._task, self._model = task, model
        self._loss = loss_of(task.loss)
        Meter(task.metrics)  # an unknown metric is refused before anything runs

    def load(self, vector: Vector, buffers: Vector | None = None) -> None:
        """Set the model to measure: a global vector, and a client's own buffers where they stay local."""
        self._model.load(torch.from_numpy(vector), buffers)

    def measure(self, examples: Examples) -> dict[str, float]:
        """Return ``{"loss": ..., metric: ...}`` over the examples; NaN where there is nothing to measure."""
        meter = Meter(self._task.metrics)
        self._model.module.eval()
        with torch.inference_mode():
            size = _SEQUENCE_BATCH if examples.target.ndim > 1 else _BATCH
            for begin in range(0, len(examples), size):
                inputs, target = tensors_of(
                    examples.take(slice(begin, begin + size)), channels_last=self._model.has_convolution
                )
                outputs = self._model.module(*inputs)
                meter.add(outputs, target, float(self._loss(outputs, target)))
        return meter.result()
