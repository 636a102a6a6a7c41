"""Which noise protects a run: how it is correlated over its steps, and the sensitivity that follows."""

from tacit.privacy.mechanisms.banded_inverse import BandedInverse
from tacit.privacy.mechanisms.banded_square_root import BandedSquareRoot
from tacit.privacy.mechanisms.error import best_bands, prefix_deviations, prefix_error, step_deviations
from tacit.privacy.mechanisms.independent import Gaussian, Laplace
from tacit.privacy.mechanisms.mechanism import Distribution, Mechanism
from tacit.privacy.mechanisms.separation import Separation

__all__ = [
    "BandedInverse",
    "BandedSquareRoot",
    "Distribution",
    "Gaussian",
    "Laplace",
    "Mechanism",
    "Separation",
    "best_bands",
    "prefix_deviations",
    "prefix_error",
    "step_deviations",
]
