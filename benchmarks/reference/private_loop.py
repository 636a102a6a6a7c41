"""DP-FedAvg of a softmax regression as one would write it by hand in NumPy; private runs are held against it.

One user after another trains, its update is scaled down to the clip, noise is added to the sum, and the sum
is divided by the expected cohort (McMahan et al. 2018, arXiv:1710.06963). The clip is a constant. Which is
the best is known in hindsight only: no honest run can choose it that way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Data = tuple[Matrix, Labels]
"""Images as rows, and what they show."""

CLASSES = 10


@dataclass(frozen=True)
class PlainPrivateLoop:
    """A plain private run; ``run`` plays it.

    Attributes:
        rate: Probability of each user to be in a round.
        rounds: How many rounds there are.
        noise_multiplier: Standard deviation of the noise on the sum, over the clip.
        clip: Largest norm of an update; None for neither clip nor noise.
        lr: Learning rate of the users.
        epochs: Their passes over their images.
        batch_size: Images a step; the last step of an epoch may have fewer.
        seed: Seed of cohorts, orders and noise.
    """

    rate: float
    rounds: int
    noise_multiplier: float = 0.0
    clip: float | None = None
    lr: float = 0.5
    epochs: int = 5
    batch_size: int = 10
    seed: int = 0

    def run(self, users: Sequence[Data]) -> Matrix:
        """Train from zero and return the weights, the biases as their last column."""
        draw = np.random.default_rng([self.seed, self.rounds])
        users = [(with_ones(images), labels) for images, labels in users]
        weights = np.zeros((CLASSES, users[0][0].shape[1]))
        for _ in range(self.rounds):
            total = np.zeros_like(weights)
            for user in np.flatnonzero(draw.random(len(users)) < self.rate):
                total += self._clipped(self._update(weights, users[user], draw))
            if self.clip is not None:
                total += draw.normal(0.0, self.noise_multiplier * self.clip, weights.shape)
            weights = weights + total / (self.rate * len(users))
        return weights

    def _update(self, weights: Matrix, user: Data, draw: np.random.Generator) -> Matrix:
        images, labels = user
        trained = weights.copy()
        for _ in range(self.epochs):
            order = draw.permutation(len(labels))
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                trained -= self.lr * gradient(trained, images[batch], labels[batch])
        return trained - weights

    def _clipped(self, update: Matrix) -> Matrix:
        if self.clip is None:
            return update
        return update * min(1.0, self.clip / max(float(np.linalg.norm(update)), 1e-30))


def gradient(weights: Matrix, images: Matrix, labels: Labels) -> Matrix:
    """Return the gradient of the mean cross-entropy."""
    scores = images @ weights.T
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    errors = odds / odds.sum(axis=1, keepdims=True)
    errors[np.arange(len(labels)), labels] -= 1.0
    found: Matrix = errors.T @ images / len(labels)
    return found


def accuracy(weights: Matrix, test: Data) -> float:
    """Return the share of the images that the weights get right."""
    images, labels = test
    return float(((with_ones(images) @ weights.T).argmax(axis=1) == labels).mean())


def with_ones(images: Matrix) -> Matrix:
    """Return the images with a feature that is always 1, whose weights are the biases."""
    return np.concatenate([images, np.ones((len(images), 1))], axis=1)


def normalised(images: Matrix) -> Matrix:
    """Bring every image by itself to mean 0 and spread 1, as ``torch.nn.LayerNorm`` does."""
    centred = images - images.mean(axis=1, keepdims=True)
    found: Matrix = centred / np.sqrt(centred.var(axis=1, keepdims=True) + 1e-5)
    return found
