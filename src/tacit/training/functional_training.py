"""All steps of a stack of clients on a device; their updates come back at the end."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tacit.core.examples import Array, Examples
from tacit.core.layout import Rows
from tacit.core.local import LocalSGD
from tacit.core.randomness import generator
from tacit.core.terms import LocalTerms
from tacit.training.executor import METRIC_BOUND, ClientWork
from tacit.training.flat import FlatModel
from tacit.training.functional_data import DeviceData
from tacit.training.functional_device import CPU, Device
from tacit.training.functional_loss import StackBatch, StackLoss
from tacit.training.functional_nature import KEPT, Nature, examine
from tacit.training.packing import Batch, Packed, Signature, batches, pack, signature_of
from tacit.training.rules.step import StackStepper, is_plain
from tacit.training.task import Task


class StackTraining:
    """Trains stacks of clients whose examples have one shape.

    The clients are in packed order, so that those that still have a step to do are the first ones. What goes
    to the device in a step is which examples are used, and what comes back in the end is one row a client.

    Args:
        task: What is learned.
        model: The task's model; its state is left alone.
        local: Settings of local training.
        terms: What the algorithm adds to the local step.
        seed: The job's seed.
        device: Where to compute.

    Raises:
        UnsupportedError: The model has buffers that training changes.
    """

    def __init__(
        self, task: Task, model: FlatModel, local: LocalSGD, terms: LocalTerms, seed: int, device: Device
    ) -> None:
        self._model, self._local, self._seed, self._device = model, local, seed, device.name
        self._loss = StackLoss(task, model, device.name)
        self._loss_here = self._loss if device.is_cpu else StackLoss(task, model, CPU)
        self._data = DeviceData(device.name, device.kept_bytes)
        self._shapes = [p.shape for p in model.parameters]
        self._has_extras = not is_plain(local, terms)
        with torch.device(device.name):  # where the stepper puts a correction
            self._stepper = StackStepper(local, terms, self._shapes)
        self._natures: dict[Signature, Nature] = {}

    def train(self, start: Tensor, works: Sequence[ClientWork]) -> Rows:
        """Return the clients' rows: local minus global, then the mean training loss; in the clients' order.

        Args:
            start: The global model on the device, shape (size,).
            works: Clients with examples of one shape, each at least one.

        Raises:
            MisfitError: An array holds no numbers.
        """
        nature = self._nature(signature_of(works[0].examples))
        packed = self._packed(works)
        ordered = [works[place] for place in packed.order.tolist()]
        steps = _Steps(self._data.joined(ordered), self._draws_of(ordered, nature), nature, self._device)
        own = self._clones(start, len(works))
        self._stepper.begin(start)
        totals = torch.zeros(len(works), dtype=torch.float64, device=self._device)
        seen = np.zeros(len(works))
        weights = own
        for batch in batches(packed, self._local, self._seed):
            weights = [weight[: batch.clients] for weight in weights]
            losses, gradients = self._gradients(weights, steps.batch(batch), batch, nature)
            self._stepper.step(weights, _separate(gradients) if self._has_extras else gradients)
            totals[: batch.clients] += losses.double() * torch.from_numpy(batch.examples).to(self._device)
            seen[: batch.clients] += batch.examples
        return self._rows(own, start, totals, seen)[np.argsort(packed.order)]

    def _nature(self, signature: Signature) -> Nature:
        """Return what the model does with examples of this shape."""
        if signature not in self._natures:
            self._natures[signature] = examine(self._model, self._loss_here, signature)
        return self._natures[signature]

    def _packed(self, works: Sequence[ClientWork]) -> Packed:
        """Pack the clients with the numbers of their examples in place of these, which stay on the device."""
        numbered = [replace(w, examples=Examples((), np.arange(len(w.examples)))) for w in works]
        packed = pack(numbered, self._local)
        return replace(packed, target=np.arange(len(packed.target)))

    def _draws_of(self, works: Sequence[ClientWork], nature: Nature) -> list[np.random.Generator]:
        # The address and the order of a program's draws: the two can be compared.
        used = works if nature.draws else ()
        return [generator(self._seed, work.round, "client", work.client, "draw") for work in used]

    def _clones(self, start: Tensor, clients: int) -> list[Tensor]:
        """Return each parameter of the global model once for every client."""
        parts = torch.split(start, [shape.numel() for shape in self._shapes])
        pairs = zip(parts, self._shapes, strict=True)
        return [part.view(shape).repeat(clients, *[1] * len(shape)) for part, shape in pairs]

    def _gradients(
        self, weights: list[Tensor], stack: StackBatch, batch: Batch, nature: Nature
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the clients' losses and gradients, without padding where the model minds it."""
        if nature.is_padded or batch.is_full:
            return self._loss.gradients(weights, stack)
        losses = torch.empty(batch.clients, device=self._device)
        gradients = [torch.empty_like(weight) for weight in weights]
        for width in np.unique(batch.examples).tolist():
            some = torch.from_numpy(np.flatnonzero(batch.examples == width)).to(self._device)
            found, parts = self._loss.gradients([w[some] for w in weights], stack.cut(some, width))
            losses[some] = found
            for gradient, part in zip(gradients, parts, strict=True):
                gradient[some] = part
        return losses, gradients

    def _rows(self, own: list[Tensor], start: Tensor, totals: Tensor, seen: Array) -> Rows:
        trained = torch.cat([w.reshape(len(w), w[0].numel()) for w in own], 1)
        rows = np.empty((len(trained), len(start) + 1), dtype=np.float32)
        rows[:, :-1] = trained.sub_(start).cpu().numpy()
        rows[:, -1] = np.clip(totals.cpu().numpy() / np.maximum(seen, 1), -METRIC_BOUND, METRIC_BOUND)
        return rows


class _Steps:
    """Brings what each step needs to the device."""

    def __init__(
        self,
        data: tuple[tuple[Tensor, ...], Tensor],
        draws: Sequence[np.random.Generator],
        nature: Nature,
        device: str,
    ) -> None:
        (self._inputs, self._target), self._draws = data, draws
        self._nature, self._device = nature, device

    def batch(self, batch: Batch) -> StackBatch:
        """Return the step's examples; ``batch`` says which ones, by their numbers."""
        rows = self._sent(batch.target)
        inputs = tuple(x[rows] for x in self._inputs)
        draws = tuple(self._sent(numbers) for numbers in self._numbers(batch))
        return StackBatch(inputs, self._target[rows], self._sent(batch.weight), draws, self._nature.axes)

    def _numbers(self, batch: Batch) -> list[Array]:
        found = []
        for shape in self._nature.draws:
            numbers = np.full((*batch.weight.shape, *shape), KEPT, dtype=np.float32)
            for client, examples in enumerate(batch.examples.tolist()):
                # For real examples only: how many padding adds depends on the neighbours.
                self._draws[client].random(dtype=np.float32, out=numbers[client, :examples])
            found.append(numbers)
        return found

    def _sent(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def _separate(gradients: list[Tensor]) -> list[Tensor]:
    """Return gradients that can be changed in place: two may be one tensor, or one number for all clients."""
    found, seen = [], set()
    for gradient in gradients:
        place = gradient.data_ptr()
        is_own = gradient.is_contiguous() and place not in seen
        found.append(gradient if is_own else gradient.clone(memory_format=torch.contiguous_format))
        seen.add(place)
    return found
