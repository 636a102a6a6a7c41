"""Independent noise at every step."""

from typing import ClassVar

import numpy as np

from tacit.core.part import Part
from tacit.privacy.mechanisms.mechanism import Coefficients, Distribution
from tacit.privacy.mechanisms.toeplitz import check_run


class _Independent(Part, frozen=True):
    """Shared facts: a step's noise is its own draw, and each step is an event of its own."""

    is_correlated: ClassVar[bool] = False

    def sensitivity(self, steps: int, min_separation: int) -> float:
        check_run(steps, min_separation)
        return 1.0

    def weights(self, step: int, min_separation: int) -> Coefficients:
        return np.ones(1)

    def kept_keys(self, min_separation: int) -> int:
        return 1

    def kept_vectors(self, min_separation: int) -> int:
        return 0


class Gaussian(_Independent, frozen=True, tag="gaussian"):
    """Normal noise, independent at every step; the bound of an update is its L2 norm.

    The right choice for a few sites that take part in every round, and where Poisson sampling is enforced.

    >>> Gaussian().sensitivity(steps=100, min_separation=1)
    1.0
    """

    name: ClassVar[str] = "gaussian"
    distribution: ClassVar[Distribution] = "normal"


class Laplace(_Independent, frozen=True, tag="laplace"):
    """Laplace noise, independent at every step; the bound of an update is its L1 norm.

    For a handful of numbers: in many dimensions an L1 bound asks for far more noise than an L2 bound.

    >>> Laplace().distribution
    'laplace'
    """

    name: ClassVar[str] = "laplace"
    distribution: ClassVar[Distribution] = "laplace"
