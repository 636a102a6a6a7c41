"""The executor that always works: plain PyTorch, one client after the other."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from tacit.core.layout import ROOM, Vector, empty_rows
from tacit.core.local import LocalSGD
from tacit.core.randomness import seed64
from tacit.core.spec import UpdateSpec
from tacit.core.terms import LocalTerms
from tacit.training.executor import METRIC_BOUND, ClientWork, Failure, Trained, update_spec
from tacit.training.flat import FlatModel
from tacit.training.losses import loss_of
from tacit.training.memory_format import ChannelsLastGradients
from tacit.training.order import epoch_order
from tacit.training.step import Stepper
from tacit.training.task import Task
from tacit.training.tensors import tensors_of


class TorchExecutor:
    """Trains clients one by one in one thread, on one module whose state is set anew for each.

    Args:
        task: What is learned.
        model: The task's model; its state is overwritten.
        local: Settings of local training.
        terms: What the algorithm adds to the local step.
        seed: The job's seed.
    """

    def __init__(self, task: Task, model: FlatModel, local: LocalSGD, terms: LocalTerms, seed: int) -> None:
        self._model, self._local, self._seed = model, local, seed
        self._loss = loss_of(task.loss)
        self._stepper = Stepper(model.parameters, local, terms)
        self._spec = update_spec(model.layout)

    @property
    def spec(self) -> UpdateSpec:
        return self._spec

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        rows = empty_rows(len(group), self._spec.size)
        start = torch.from_numpy(vector)
        done: list[ClientWork] = []
        failures: dict[str, Failure] = {}
        buffers: dict[str, Vector] = {}
        self._model.module.train()
        for work in group:
            failure = self._train_one(start, work, rows[len(done)])
            if failure is not None:
                failures[work.client] = failure
                continue
            if self._model.local is not None and bool(torch.isfinite(self._model.local).all()):
                buffers[work.client] = self._model.local.numpy().copy()
            done.append(work)
        clients = tuple(work.client for work in done)
        sizes = tuple(len(work.examples) for work in done)
        return Trained(clients, rows[: len(done)], sizes, failures, buffers, room=ROOM)

    def _train_one(self, start: Tensor, work: ClientWork, row: Vector) -> Failure | None:
        """Train one client and write its update into ``row``; return why that failed, if it did."""
        if not len(work.examples):
            return Failure("no data")
        try:
            self._model.load(start, work.buffers)
            loss = self._run_steps(start, work)
            self._model.settle()
        except MemoryError:
            raise  # this machine's trouble, not the client's: it must not drop the largest ones quietly
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a client's code may raise anything, and fails alone
            return Failure(f"raised {type(error).__name__}", traceback.format_exc())
        size = start.numel()
        torch.sub(self._model.flat, start, out=torch.from_numpy(row[:size]))
        row[size:] = np.clip(loss, -METRIC_BOUND, METRIC_BOUND)
        return None

    def _run_steps(self, start: Tensor, work: ClientWork) -> float:
        """Do the client's steps and return its mean training loss."""
        # Dropout and other draws inside the model get an address of their own, too.
        torch.default_generator.manual_seed(seed64(self._seed, work.round, "client", work.client, "torch"))
        self._stepper.begin(start)
        total, examples = 0.0, 0
        with ChannelsLastGradients() if self._model.has_convolution else nullcontext():
            for inputs, target in self._batches(work):
                loss = self._loss(self._model.module(*inputs), target)
                self._stepper.step(self._gradients(loss))
                total += loss.item() * target.shape[0]
                examples += target.shape[0]
        return total / max(examples, 1)

    def _gradients(self, loss: Tensor) -> Sequence[Tensor]:
        # torch's types leave out that an unused parameter has no gradient.
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            loss, self._model.parameters, allow_unused=True
        )
        pairs = zip(gradients, self._model.parameters, strict=True)
        return [torch.zeros_like(p) if g is None else g for g, p in pairs]

    def _batches(self, work: ClientWork) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        """Yield the batches of all the client's steps, in their order."""
        inputs, target = tensors_of(work.examples, channels_last=self._model.has_convolution)
        size = self._local.batch(len(target))
        left = self._local.total_steps(len(target))
        if work.max_steps is not None:
            left = min(left, work.max_steps)
        epoch = 0
        while left > 0:
            epoch_inputs, epoch_target = self._ordered(work, epoch, inputs, target)
            for begin in range(0, min(len(target), left * size), size):
                yield tuple(x[begin : begin + size] for x in epoch_inputs), epoch_target[begin : begin + size]
                left -= 1
            epoch += 1

    def _ordered(
        self, work: ClientWork, epoch: int, inputs: tuple[Tensor, ...], target: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        if not self._local.shuffle:
            return inputs, target
        order = torch.from_numpy(epoch_order(self._seed, work.round, work.client, epoch, len(target)))
        return tuple(x.index_select(0, order) for x in inputs), target.index_select(0, order)
