"""The executor of layer rules: a whole group of clients in one pass, the update fused into it."""

import traceback
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tacit.core.layout import ROOM, Vector
from tacit.core.local import LocalSGD
from tacit.core.randomness import seed64
from tacit.core.spec import UpdateSpec
from tacit.core.terms import LocalTerms
from tacit.training.executor import (
    METRIC_BOUND,
    ClientWork,
    Failure,
    Trained,
    UnsupportedError,
    update_spec,
)
from tacit.training.flat import PARAMETERS, FlatModel
from tacit.training.losses import loss_of
from tacit.training.packing import Batch, Signature, batches, pack, signature_of
from tacit.training.rules.independence import Nature, examine
from tacit.training.rules.interception import LayerRules, mapped
from tacit.training.rules.losses import client_losses
from tacit.training.rules.rewrite import rewritten
from tacit.training.rules.stack import NotStackable, Stack
from tacit.training.rules.step import StackStepper, is_plain
from tacit.training.task import Task
from tacit.training.tensors import tensor_of
from tacit.training.torch_executor import TorchExecutor


class RulesExecutor:
    """Trains a group of clients as one stack, by rules for the layers it meets.

    Torch's functions are intercepted where they meet a trainable parameter: dense, convolutional, embedding,
    recurrent and normalising layers get a rule that knows of many clients, everything else is the model's own
    code under autograd. A model that mixes its batch's examples, or draws at random, is trained one client
    after the other, by the same rules; one that reaches its parameters past the rules is trained by torch.

    Args:
        task: What is learned.
        model: The task's model.
        local: Settings of local training.
        terms: What the algorithm adds to the local step.
        seed: The job's seed.
        dtype: In what is computed; float64 serves to tell rounding from error.

    Raises:
        UnsupportedError: The model has buffers that training changes.
    """

    def __init__(
        self,
        task: Task,
        model: FlatModel,
        local: LocalSGD,
        terms: LocalTerms,
        seed: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if model.local is not None or [s.name for s in model.layout.segments] != [PARAMETERS]:
            raise UnsupportedError("buffers such as batch-norm statistics")
        self._model, self._local, self._seed, self._dtype = model, local, seed, dtype
        self._loss = loss_of(task.loss)
        self._spec = update_spec(model.layout)
        self._rules = LayerRules(model.parameters)
        self._module = rewritten(model.module.train())
        shapes = [p.shape for p in model.parameters]
        self._stack = Stack(shapes, local.lr, fused=is_plain(local, terms))
        self._stepper = StackStepper(local, terms, shapes)
        self._natures: dict[Signature, Nature] = {}
        self._torch = TorchExecutor(task, model, local, terms, seed)
        self._buffer = torch.empty((0, self._spec.size + ROOM), dtype=dtype)

    @property
    def spec(self) -> UpdateSpec:
        return self._spec

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        """Train every client of the group; the rows are good until the next call."""
        failures = {work.client: Failure("no data") for work in group if not len(work.examples)}
        works = [work for work in group if len(work.examples)]
        rows, start = self._rows(len(works)), torch.from_numpy(vector).to(self._dtype)
        self._module.train()
        done = self._train_together(start, works, rows) or self._train_apart(start, works, rows, failures)
        clients = tuple(work.client for work in done)
        sizes = tuple(len(work.examples) for work in done)
        return Trained(clients, rows[: len(done)].numpy(), sizes, failures, room=ROOM)

    def _rows(self, clients: int) -> Tensor:
        if len(self._buffer) < clients:
            self._buffer = torch.empty((clients, self._spec.size + ROOM), dtype=self._dtype)
        return self._buffer[:clients, : self._spec.size]

    def _train_together(
        self, start: Tensor, works: list[ClientWork], rows: Tensor
    ) -> list[ClientWork] | None:
        """Train all clients as one stack; return them in their rows' order, or None if that cannot be."""
        if len(works) < 2:
            return None
        state = torch.default_generator.get_state()
        try:
            nature = self._nature(works[0])
            if not nature.is_stackable:
                return None
            done = self._train_stack(start, works, rows, nature.rows)
        except MemoryError:
            raise
        except (Exception, SystemExit):  # noqa: BLE001 - who it was shows when each trains apart
            return None
        # Whoever draws numbers after all draws those of its own address, and so apart.
        return done if torch.equal(state, torch.default_generator.get_state()) else None

    def _train_apart(
        self, start: Tensor, works: list[ClientWork], rows: Tensor, failures: dict[str, Failure]
    ) -> list[ClientWork]:
        done: list[ClientWork] = []
        for work in works:
            try:
                failure = self._train_alone(start, work, rows[len(done) : len(done) + 1])
            except MemoryError:
                raise  # this machine's trouble, not the client's
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a client's code may raise anything, and fails alone
                failure = Failure(f"raised {type(error).__name__}", traceback.format_exc())
            if failure is None:
                done.append(work)
            else:
                failures[work.client] = failure
        return done

    def _train_alone(self, start: Tensor, work: ClientWork, row: Tensor) -> Failure | None:
        """Train one client and write its update into ``row``; return why that failed, if torch knows."""
        seed = seed64(self._seed, work.round, "client", work.client, "torch")
        for rows in (self._nature(work).rows, {}):
            torch.default_generator.manual_seed(seed)
            try:
                self._train_stack(start, [work], row, rows)
                return None
            except NotStackable:
                continue  # the model does more with a layer here than with what was made up
            except UnsupportedError:
                break
        return self._train_by_torch(start, work, row)

    def _train_by_torch(self, start: Tensor, work: ClientWork, row: Tensor) -> Failure | None:
        """Train one client without rules: its model reaches its parameters past them."""
        trained = self._torch.train(start.float().numpy(), [work])
        if not trained.failures:
            row[:] = torch.from_numpy(trained.rows)
        return trained.failures.get(work.client)

    def _nature(self, work: ClientWork) -> Nature:
        """Return what the model does with examples of this shape."""
        signature = signature_of(work.examples)
        if signature not in self._natures:
            self._natures[signature] = examine(
                self._module,
                self._model.parameters,
                signature,
                self._loss,
                self._dtype,
                channels_last=self._model.has_convolution,
            )
        return self._natures[signature]

    def _train_stack(
        self, start: Tensor, works: list[ClientWork], rows: Tensor, dense: Mapping[int, int]
    ) -> list[ClientWork]:
        """Train clients in step, and write their updates into ``rows``; return them in the rows' order.

        Args:
            start: The global parameters, shape (size,).
            works: The clients.
            rows: Where the updates go, shape (clients, spec.size).
            dense: Parameters that are but the weight of one dense layer: how many rows it sees of an example.
        """
        packed = pack(works, self._local)
        most = int(packed.steps[0]) * self._local.batch(int(packed.sizes.max()))
        self._stack.open(start, len(works), {index: each * most for index, each in dense.items()})
        self._stepper.begin(start)
        for parameter in self._model.parameters:
            parameter.grad = None
        totals, examples = np.zeros(len(works)), np.zeros(len(works), dtype=np.int64)
        for batch in batches(packed, self._local, self._seed):
            losses = self._step(batch)
            totals[: batch.clients] += losses * batch.examples
            examples[: batch.clients] += batch.examples
        if any(parameter.grad is not None for parameter in self._model.parameters):
            raise UnsupportedError("a gradient that reaches a parameter past the rules")
        self._stack.write(rows[:, :-1])
        means = np.clip(totals / np.maximum(examples, 1), -METRIC_BOUND, METRIC_BOUND)
        rows[:, -1] = torch.from_numpy(means)
        return list(packed.works)

    def _step(self, batch: Batch) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Do one step of every client that still has one to do; return their losses."""
        stack = self._stack
        if batch.clients < stack.clients:
            stack.narrow(batch.clients)
        losses = self._forward(batch)
        stack.begin_backward()
        torch.autograd.backward(losses.sum())
        stack.end_step()
        if stack.gradients:
            self._stepper.step(stack.weights, stack.gradients)
        return losses.detach().double().numpy()

    def _forward(self, batch: Batch) -> Tensor:
        self._stack.begin_step()
        self._rules.stack = self._stack
        inputs = [self._tensor(array).flatten(0, 1) for array in batch.inputs]
        if self._model.has_convolution:
            inputs = [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs]
        target, weight = self._tensor(batch.target).flatten(0, 1), self._tensor(batch.weight)
        with self._rules:
            outputs = self._module(*inputs)
        outputs = mapped(self._rules.leaf, outputs)
        return client_losses(self._loss, outputs, target, weight)

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = tensor_of(array)
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor
