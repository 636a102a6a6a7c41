"""Correlated noise by the banded inverse square root."""

from typing import ClassVar

from tacit.core.bounds import Count
from tacit.core.part import Part
from tacit.privacy.mechanisms import toeplitz
from tacit.privacy.mechanisms.mechanism import Coefficients, Distribution


class BandedInverse(Part, frozen=True, tag="banded_inverse"):
    """Normal noise that takes back part of the noise of the last ``bands - 1`` steps.

    ``C^-1`` is ``A^(-1/2)``, the inverse square root of the prefix sums, cut after ``bands`` diagonals
    (BISR: Kalinin, McKenna, Upadhyay & Lampert 2025, arXiv 2505.12128): what adds up over the steps is much
    less than with independent noise. Noise of the past is re-drawn from the keys of its steps, of which only
    the last ``bands`` are ever kept.

    The first column of ``C`` is not negative and decreases, as ``c_t = sum_j |w_j| c_(t-j)`` over
    ``1 <= j < bands``, with ``|w_j|`` that add up to less than 1: by induction each ``c_t`` is at most
    ``c_(t-1)``. So the worst case is a client at steps 0, b, 2b, ....

    Attributes:
        bands: How many diagonals are kept. 16 is within 2 % of the best for separations of 20 to 50 in a few
            hundred steps; ``best_bands`` finds it for others. A step costs that many draws.

    >>> BandedInverse(bands=3).weights(step=5, min_separation=20).tolist()
    [1.0, -0.5, -0.125]
    >>> round(BandedInverse(bands=4).sensitivity(steps=200, min_separation=20), 4)
    4.043
    """

    name: ClassVar[str] = "banded_inverse"
    is_correlated: ClassVar[bool] = True
    distribution: ClassVar[Distribution] = "normal"

    bands: Count = 16

    def sensitivity(self, steps: int, min_separation: int) -> float:
        toeplitz.check_run(steps, min_separation)
        band = toeplitz.inverse_square_root(min(self.bands, steps))
        return toeplitz.sensitivity(toeplitz.inverse(band, steps), steps, min_separation)

    def weights(self, step: int, min_separation: int) -> Coefficients:
        return toeplitz.inverse_square_root(min(self.bands, step + 1))

    def kept_keys(self, min_separation: int) -> int:
        return self.bands

    def kept_vectors(self, min_separation: int) -> int:
        return 0
