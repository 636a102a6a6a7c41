"""The protocol of a mechanism: which noise the released sums get, and what it is measured against."""

from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Coefficients = npt.NDArray[np.float64]
"""A Toeplitz matrix by its first column, or a start of it: float64, shape (rows,)."""
Distribution = Literal["normal", "laplace"]
"""What a standard draw is distributed as: a normal of deviation 1, or Laplace of scale 1."""


@runtime_checkable
class Mechanism(Protocol):
    """How the noise of a run's steps is made from independent standard draws, one vector for each step.

    A mechanism releases ``S_t + scale * sum_j w_j z_{t-j}``, with ``S_t`` the cohort's sum of step ``t`` and
    ``z`` the draws. In matrix terms it releases ``C S + scale * z`` and takes ``C^-1`` of that, which costs
    no privacy: ``w`` is the first column of ``C^-1`` (lower triangular, Toeplitz), and the sensitivity is
    that of ``C S`` over the whole run. Steps count from 0, and only released ones count.

    ``scale`` = noise multiplier x ``sensitivity`` x the bound that is declared for what one client sends:
    the standard deviation of a normal draw, the scale of a Laplace draw. A mechanism that is not correlated
    is an event of its own at every step; one that is correlated is one event for the whole run.
    """

    name: ClassVar[str]
    is_correlated: ClassVar[bool]
    distribution: ClassVar[Distribution]

    def sensitivity(self, steps: int, min_separation: int) -> float:
        """Return what one client moves ``C S`` by at most, in units of the bound of one update.

        Measured in L2 (``"normal"``) or L1 (``"laplace"``): over one step if the mechanism is not
        correlated, else over ``steps`` steps, in which a client takes part at steps at least
        ``min_separation`` apart, thus at most ``ceil(steps / min_separation)`` times.
        """
        ...

    def weights(self, step: int, min_separation: int) -> Coefficients:
        """Return ``w_0, w_1, ...``: what the draws of this step, the last, ... enter its noise with.

        Shape (at most ``step + 1``,): the draws that are left out enter with 0.
        """
        ...

    def kept_keys(self, min_separation: int) -> int:
        """Return of how many steps, this one included, the keys are needed to re-draw a step's noise."""
        ...

    def kept_vectors(self, min_separation: int) -> int:
        """Return how many past vectors of noise are needed, because they cannot be re-drawn."""
        ...
