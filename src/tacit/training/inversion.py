"""Gradient inversion: what one client's update says about the example behind it.

Two attacks. A linear layer that sees the input gives it away exactly. Any other model is inverted by
optimisation: an input is sought whose gradient points the way the update does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tacit.core.errors import RunError
from tacit.core.examples import Array, Examples
from tacit.core.layout import Vector
from tacit.training.flat import PARAMETERS, FlatModel
from tacit.training.losses import loss_of
from tacit.training.task import Task
from tacit.training.tensors import tensors_of

Inputs = npt.NDArray[np.float32]
"""Inputs of a model, images or not, shape (guesses, ...)."""
_GUESSES = 256
_SMOOTH = 1e-4  # weight of the total variation; images are smooth, other inputs need not be
_RATE = 0.1  # of the range of values a step, as Geiping et al. have it,
_DROPS = (3 / 8, 5 / 8, 7 / 8)  # and where it falls to a tenth


class Range(NamedTuple):
    """What values inputs can have: public knowledge, such as that a pixel lies between 0 and 1."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """How far apart the ends are."""
        return self.high - self.low


@dataclass(frozen=True)
class Reconstruction:
    """What an attacker makes of an update.

    Attributes:
        inputs: Guesses at the input, the best first, shape (guesses, ...).
        method: Read off a linear layer, or found by optimisation.
    """

    inputs: Inputs
    method: Literal["linear", "gradient"]


class Inversion:
    """Attacks updates that were computed from a global model the attacker knows.

    Args:
        task: What is learned.
        model: The task's model; its state is overwritten.
        vector: The global model that the client was given, shape (layout.size,).
        example: Of the kind to be found; only shapes and dtypes count.
        values: What values an input can have.

    Raises:
        RunError: The model takes several inputs, or others than numbers.
    """

    def __init__(
        self, task: Task, model: FlatModel, vector: Vector, example: Examples, values: Range
    ) -> None:
        if len(example.inputs) != 1 or example.inputs[0].dtype.kind not in "fb":
            what = "gradient inversion needs a model with one input that holds numbers, not words or places"
            raise RunError("T350", what, fix="Audit this job without pictures: --pictures 0")
        self._loss, self._model, self._values = loss_of(task.loss), model, values
        self._shape = example.inputs[0].shape[1:]
        model.load_vector(vector)

    def invert(self, update: Vector, target: Array, *, steps: int = 300, seed: int = 0) -> Reconstruction:
        """Return what the update of a client with one example says about it, by the best attack at hand.

        Args:
            update: The parameters' part, as it was sent or released; its scale does not matter.
            target: The example's target, shape (1, ...), which the attacker is granted.
            steps: How long to optimise, where that is the best.
            seed: Where optimisation begins.
        """
        return self.read(update) or self.optimise(update, target, steps=steps, seed=seed)

    def read(self, update: Vector) -> Reconstruction | None:
        """Read the input off the first linear layer, if it sees the input itself; None otherwise.

        The gradient of ``W x + b`` is ``d x^T`` in W and ``d`` in b, so every row of both together is a
        multiple of ``(x, 1)`` (Phong et al. 2017). The first guess is their first singular vector, the best
        estimate under noise; the others are the strongest rows one by one, some of which belong to a single
        example where a client has several.
        """
        names = self._first_linear()
        if names is None:
            return None
        tensors = self._model.layout.views(update, PARAMETERS)
        rows = np.column_stack([np.asarray(tensors[name], dtype=np.float64) for name in names])
        strongest = np.argsort(-np.abs(rows[:, -1]))[:_GUESSES]
        rows = np.concatenate([np.linalg.svd(rows, full_matrices=False)[2][:1], rows[strongest]])
        rows = rows[rows[:, -1] != 0]
        if not len(rows):  # the update says nothing
            rows = np.append(np.full(rows.shape[1] - 1, sum(self._values) / 2), 1.0)[None]
        return Reconstruction(self._possible(rows[:, :-1] / rows[:, -1:]), "linear")

    def optimise(self, update: Vector, target: Array, *, steps: int = 300, seed: int = 0) -> Reconstruction:
        """Seek an input whose gradient is parallel to the update (Geiping et al. 2020, equation 4).

        Args:
            update: The parameters' part of an update.
            target: The example's target, shape (1, ...).
            steps: Steps of Adam on the signs of the gradient.
            seed: Where to begin.

        Raises:
            RunError: The model or its loss has no second derivative.
        """
        wanted = -torch.from_numpy(np.array(update, dtype=np.float32))  # an update goes against the gradient
        guess = self._beginning(seed)
        optimizer = torch.optim.Adam([guess], lr=_RATE * self._values.width)
        drops = torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(steps * drop) for drop in _DROPS])
        known = tensors_of(Examples((), np.asarray(target)))[1]
        best, least = guess.detach().clone(), float("inf")
        self._model.module.train()  # as the client had it
        for _ in range(steps):
            objective = self._objective(guess, known, wanted)
            if objective.item() < least:
                best, least = guess.detach().clone(), objective.item()
            guess.grad = self._gradient(objective, guess).sign()
            optimizer.step()
            drops.step()
            with torch.no_grad():
                guess.clamp_(self._values.low, self._values.high)
        return Reconstruction(best.numpy(), "gradient")

    def _objective(self, guess: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
        """Return one minus the cosine of the guess's gradient and the wanted one; rough images cost more."""
        loss = self._loss(self._model.module(guess), target)
        found = torch.autograd.grad(loss, self._model.parameters, create_graph=True, materialize_grads=True)
        gradient = torch.cat([piece.reshape(-1) for piece in found])
        cosine = torch.nn.functional.cosine_similarity(gradient, wanted, dim=0, eps=1e-12)
        return 1 - cosine + _SMOOTH * _total_variation(guess) / self._values.width

    def _gradient(self, objective: Tensor, guess: Tensor) -> Tensor:
        try:
            return torch.autograd.grad(objective, guess)[0]
        except RuntimeError as error:
            what = "gradient inversion needs a gradient that can be differentiated again"
            fix = "Audit this job without pictures: --pictures 0"
            raise RunError("T351", what, fix=fix) from error

    def _beginning(self, seed: int) -> Tensor:
        draws = torch.randn((1, *self._shape), generator=torch.Generator().manual_seed(seed))
        middle = sum(self._values) / 2
        return (middle + draws * self._values.width / 8).requires_grad_()

    def _possible(self, rows: npt.NDArray[np.float64]) -> Inputs:
        clipped = np.clip(rows, self._values.low, self._values.high)
        return clipped.reshape(-1, *self._shape).astype(np.float32)

    def _first_linear(self) -> tuple[str, str] | None:
        """Return weight and bias of the linear layer that sees the whole input; None if there is none."""
        probe = self._beginning(seed=0).detach()
        seen: list[nn.Module] = []

        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs and torch.equal(inputs[0].reshape(-1), probe.reshape(-1)):
                seen.append(module)

        names = dict(self._linear_layers())
        handles = [module.register_forward_pre_hook(note) for module in names]
        try:
            self._model.module.eval()
            with torch.inference_mode():
                self._model.module(probe)
        finally:
            for handle in handles:
                handle.remove()
        return names[seen[0]] if seen else None

    def _linear_layers(self) -> Iterator[tuple[nn.Module, tuple[str, str]]]:
        trained = {tensor.name for tensor in self._model.layout.segment(PARAMETERS).tensors}
        for name, module in self._model.module.named_modules():
            below = f"{name}." if name else ""
            names = (f"{below}weight", f"{below}bias")
            if isinstance(module, nn.Linear) and trained.issuperset(names):
                yield module, names


def _total_variation(guess: Tensor) -> Tensor:
    """Return the mean difference of neighbouring pixels; nothing for inputs that are no images."""
    if guess.ndim != 4:
        return guess.new_zeros(())
    across, down = guess.diff(dim=-1).abs(), guess.diff(dim=-2).abs()
    return across.mean() + down.mean()
