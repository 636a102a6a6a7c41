"""Correlated noise by the banded square root."""

from typing import ClassVar

from tacit.core.bounds import Count
from tacit.core.part import Part
from tacit.privacy.mechanisms import toeplitz
from tacit.privacy.mechanisms.mechanism import Coefficients, Distribution


class BandedSquareRoot(Part, frozen=True, tag="banded_square_root"):
    """Normal noise from which past noise is taken back, by a band of ``C`` itself.

    ``C`` is ``A^(1/2)``, the square root of the prefix sums, cut after ``bands`` diagonals (Kalinin & Lampert
    2024, arXiv 2405.13763; bands as wide as the separation: Choquette-Choo et al. 2023, arXiv 2306.08153). A
    little less noise than ``BandedInverse``, but noise of the past cannot be re-drawn: a step's noise is
    ``z_t - sum_(0 < j < bands) r_j noise_(t-j)``, so the last ``bands - 1`` vectors of noise are state, to be
    protected like a key: who reads them subtracts the noise of what was released.

    Attributes:
        bands: How many diagonals are kept; None for as many as the separation, the best by far.

    >>> BandedSquareRoot().coefficients(min_separation=3).tolist()
    [1.0, 0.5, 0.375]
    >>> round(BandedSquareRoot().sensitivity(steps=200, min_separation=20), 4)
    4.4899
    """

    name: ClassVar[str] = "banded_square_root"
    is_correlated: ClassVar[bool] = True
    distribution: ClassVar[Distribution] = "normal"

    bands: Count | None = None

    def coefficients(self, min_separation: int) -> Coefficients:
        """Return the first column of ``C``, as long as its band: ``r_0 = 1, r_1, ...``."""
        return toeplitz.square_root(self.bands or min_separation)

    def sensitivity(self, steps: int, min_separation: int) -> float:
        toeplitz.check_run(steps, min_separation)
        return toeplitz.sensitivity(self.coefficients(min_separation), steps, min_separation)

    def weights(self, step: int, min_separation: int) -> Coefficients:
        column = self.coefficients(min_separation)
        return toeplitz.inverse(column, step + 1 if len(column) > 1 else 1)

    def kept_keys(self, min_separation: int) -> int:
        return 1

    def kept_vectors(self, min_separation: int) -> int:
        return len(self.coefficients(min_separation)) - 1
