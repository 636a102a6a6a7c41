"""Settings of local training: what one client does with the model it is given."""

import math
from typing import Literal

from tacit.core.bounds import Count, NonNegative, OpenShare, Positive
from tacit.core.part import Part


class LocalSGD(Part, frozen=True, tag="local_sgd"):
    """Local stochastic gradient descent; every client starts it afresh in every round.

    Attributes:
        lr: Learning rate.
        epochs: Passes over the client's data; ignored where ``steps`` is given.
        steps: Optimizer updates, whatever the client's size; its data is passed over as often as needed.
        batch_size: Examples per step; an epoch's last batch may be smaller. ``"all"``: every step sees all.
        momentum: Heavy-ball momentum, as in ``torch.optim.SGD``.
        weight_decay: L2 penalty, added to the gradient.
        max_grad_norm: Scale each step's gradient down to this L2 norm.
        shuffle: Draw a new order of the examples for every epoch.

    >>> LocalSGD(lr=0.1, epochs=2, batch_size=10).total_steps(examples=25)
    6
    """

    lr: Positive
    epochs: Count = 1
    steps: Count | None = None
    batch_size: Count | Literal["all"] = 32
    momentum: OpenShare = 0.0
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive | None = None
    shuffle: bool = True

    def batch(self, examples: int) -> int:
        """Return how many examples a full step of a client of that size sees; at least 1."""
        return max(examples, 1) if self.batch_size == "all" else self.batch_size

    def steps_per_epoch(self, examples: int) -> int:
        """Return how many steps one pass over that many examples takes."""
        return math.ceil(examples / self.batch(examples))

    def total_steps(self, examples: int) -> int:
        """Return how many steps a client of that size takes in one round."""
        return self.steps if self.steps is not None else self.epochs * self.steps_per_epoch(examples)
