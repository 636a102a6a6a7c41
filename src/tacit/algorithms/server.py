"""Server optimizers: how the mean update moves the global model.

The mean update plays the role of a negative gradient (Reddi et al. 2021, "Adaptive Federated
Optimization", algorithm 2). Vectors are float32, shape (size,).
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from tacit.core.bounds import OpenShare, Positive
from tacit.core.layout import Vector
from tacit.core.part import Part

State = Mapping[str, Vector]
"""What an optimizer remembers between rounds: vectors by name; empty before the first."""


@runtime_checkable
class ServerOptimizer(Protocol):
    """Turns the mean update into the next global parameters."""

    def step(self, vector: Vector, update: Vector, state: State) -> tuple[Vector, State]:
        """Return the next vector and state; ``update`` may be overwritten, nothing else is changed."""
        ...


class ServerSGD(Part, frozen=True, tag="server_sgd"):
    """Move by ``lr`` times the (heavy-ball) mean update; the defaults are plain federated averaging.

    With momentum this is FedAvgM (Hsu et al. 2019): ``m = momentum * m + update; w = w + lr * m``.

    Attributes:
        lr: Server learning rate; 1 adds the mean update as it is.
        momentum: How much of the last step is kept.

    >>> vector, _ = ServerSGD(lr=0.5).step(np.zeros(2, np.float32), np.ones(2, np.float32), {})
    >>> vector.tolist()
    [0.5, 0.5]
    """

    lr: Positive = 1.0
    momentum: OpenShare = 0.0

    def step(self, vector: Vector, update: Vector, state: State) -> tuple[Vector, State]:
        if self.momentum:
            before = state.get("momentum")
            update = update if before is None else np.float32(self.momentum) * before + update
            return vector + np.float32(self.lr) * update, {"momentum": update}
        if self.lr != 1.0:
            np.multiply(update, np.float32(self.lr), out=update)
        # In the update's own memory: fresh pages would cost more than the addition.
        return np.add(vector, update, out=update), state


class _Adaptive(Part, frozen=True):
    """Shared arithmetic of the adaptive optimizers; they differ in their second moment."""

    lr: Positive = 0.01
    beta1: OpenShare = 0.9
    tau: Positive = 1e-3

    def step(self, vector: Vector, update: Vector, state: State) -> tuple[Vector, State]:
        first = state.get("first", np.zeros_like(update))
        # Algorithm 2 starts the second moment at tau^2, not at zero.
        second = state.get("second", np.full_like(update, self.tau**2))
        first = np.float32(self.beta1) * first + np.float32(1 - self.beta1) * update
        second = self.second_moment(second, update * update)
        step = first / (np.sqrt(second) + np.float32(self.tau))
        return vector + np.float32(self.lr) * step.astype(np.float32, copy=False), {
            "first": first,
            "second": second,
        }

    def second_moment(self, second: Vector, squared: Vector) -> Vector:
        """Return the next second moment from the last one and the squared update."""
        raise TypeError(f"{type(self).__name__} is not an optimizer")


class ServerAdam(_Adaptive, frozen=True, tag="server_adam"):
    """FedAdam: the second moment is an exponential mean (Reddi et al. 2021).

    Attributes:
        lr: Server learning rate, eta in the paper.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        tau: Degree of adaptivity; larger is closer to plain momentum.
    """

    beta2: OpenShare = 0.99

    def second_moment(self, second: Vector, squared: Vector) -> Vector:
        return np.float32(self.beta2) * second + np.float32(1 - self.beta2) * squared


class ServerYogi(_Adaptive, frozen=True, tag="server_yogi"):
    """FedYogi: the second moment moves by a bounded step toward the squared update (Reddi et al. 2021).

    Attributes:
        lr: Server learning rate, eta in the paper.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        tau: Degree of adaptivity; larger is closer to plain momentum.
    """

    beta2: OpenShare = 0.99

    def second_moment(self, second: Vector, squared: Vector) -> Vector:
        moved: Vector = second - np.float32(1 - self.beta2) * squared * np.sign(second - squared)
        return moved


class ServerAdagrad(_Adaptive, frozen=True, tag="server_adagrad"):
    """FedAdagrad: the second moment is the sum of all squared updates (Reddi et al. 2021).

    Attributes:
        lr: Server learning rate, eta in the paper.
        beta1: Decay of the first moment; 0 by default, as in the paper.
        tau: Degree of adaptivity; larger is closer to plain momentum.
    """

    beta1: OpenShare = 0.0

    def second_moment(self, second: Vector, squared: Vector) -> Vector:
        return second + squared
