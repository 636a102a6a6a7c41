"""What a server remembers of the noise of past steps, as pure values."""

from dataclasses import dataclass, field

import numpy as np

from tacit.core.errors import PlanError
from tacit.privacy.mechanisms.banded_square_root import BandedSquareRoot
from tacit.privacy.mechanisms.mechanism import Mechanism
from tacit.privacy.noise.draws import BLOCK, Draws
from tacit.privacy.noise.sources import FreshNoise, StoredNoise


@dataclass(frozen=True)
class StepKey:
    """The key from which one step's standard draws come.

    Attributes:
        step: The step.
        key: Its key; never shown.
    """

    step: int
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class PastKeys:
    """The keys of the last steps, newest first: all that a step's noise follows from.

    Older keys are dropped as a new one comes: nobody who copies the state can draw again, and subtract, what
    protects steps further back. The new state is to be durable, wrapped by the server's master key, before
    the step is released; after a crash it gives the same noise again, block for block.

    A step's key serves one sum: two sums released with the same noise would show their difference, bare.
    ``renewed`` is for a step that was abandoned before its release and is tried again with other inputs.

    Attributes:
        keys: The keys of consecutive steps, newest first.
    """

    keys: tuple[StepKey, ...] = ()

    @property
    def step(self) -> int:
        """The newest step, -1 before the first."""
        return self.keys[0].step if self.keys else -1

    def advance(self, key: bytes, kept: int) -> "PastKeys":
        """Return the state of the next step.

        Args:
            key: The next step's fresh key.
            kept: How many keys stay (``Mechanism.kept_keys``), the new one included.
        """
        return PastKeys((StepKey(self.step + 1, key), *self.keys)[:kept])

    def renewed(self, key: bytes) -> "PastKeys":
        """Return the state with another key for the newest step, which must not have been released."""
        assert self.keys
        return PastKeys((StepKey(self.step, key), *self.keys[1:]))

    def noise_for_step(self, mechanism: Mechanism, min_separation: int) -> FreshNoise:
        """Return the newest step's noise, as a function of the keys that are kept.

        Raises:
            PlanError: A key that it needs is not there: noise that is short of a part of itself
                protects nobody as it was accounted.
        """
        weights = mechanism.weights(max(self.step, 0), min_separation)
        wanted = list(range(self.step, self.step - len(weights), -1))
        if (
            not self.keys
            or mechanism.kept_vectors(min_separation)
            or [k.step for k in self.keys[: len(weights)]] != wanted
        ):
            raise PlanError(
                "T184",
                f"noise of step {self.step} does not follow from the keys of {len(self.keys)} steps",
                fix="Restore the state that was saved before the step was released.",
            )
        keys = tuple(k.key for k in self.keys[: len(weights)])
        return FreshNoise(keys, tuple(weights.tolist()), mechanism.distribution)


@dataclass(frozen=True)
class PastVectors:
    """The last vectors of noise of the banded square root, newest first, in standard units.

    They are secrets like keys, and too long to be wrapped together: each is sealed for itself (``seal``).

    Attributes:
        vectors: Noise of consecutive steps, newest first, each of shape (size,); never shown.
        step: The newest step, -1 before the first.
    """

    vectors: tuple[Draws, ...] = field(default=(), repr=False)
    step: int = -1

    def advance(
        self, key: bytes, size: int, mechanism: BandedSquareRoot, min_separation: int
    ) -> "PastVectors":
        """Draw the next step's noise: ``z - sum_(0 < j < bands) r_j noise_(t-j)``, the row of ``C^-1 z``.

        Args:
            key: The step's fresh key.
            size: Number of coordinates.
            mechanism: The mechanism, the same at every step.
            min_separation: Least distance of two steps of one client.
        """
        taken_back = mechanism.coefficients(min_separation)[1:].tolist()
        vector, room = np.empty(size), np.empty(min(size, BLOCK))
        stop = 0
        for block in FreshNoise((key,)).blocks(size):
            start, stop = stop, stop + len(block)
            out = vector[start:stop]
            np.copyto(out, block)
            for share, past in zip(taken_back, self.vectors, strict=False):  # fewer at the start of a run
                np.multiply(past[start:stop], share, out=room[: len(out)])
                np.subtract(out, room[: len(out)], out=out)
        # The newest is this step's own noise, so one stays also where the next step needs none.
        return PastVectors((vector, *self.vectors)[: max(1, len(taken_back))], self.step + 1)

    @property
    def noise(self) -> StoredNoise:
        """The newest step's noise."""
        return StoredNoise(self.vectors[0])
