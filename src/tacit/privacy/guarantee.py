"""What a run promises, in words that a report can print."""

import math

from tacit.core.part import Record
from tacit.core.privacy import Adjacency, Randomness, Trust, Unit

_RELATIONS: dict[Adjacency, str] = {
    "add_remove": "with or without any one {unit}'s data",
    "zero_out": "with any one {unit}'s contribution as it is or as zero (taking part is not hidden)",
    "replace_one": "with any one {unit}'s data as they are or replaced by any other's",
}
_TRUSTED: dict[Trust, str] = {
    "central": "the server is trusted to add the noise",
    "distributed": "the clients together add the noise",
    "local": "nobody is trusted: every client adds the noise to what it sends",
}


class Guarantee(Record, frozen=True):
    """What is promised about a run, or about the part of it that is done.

    Attributes:
        unit: Whose data are hidden.
        trust: Who adds the noise.
        adjacency: Which two worlds look alike.
        epsilon: How much shows at most, rounded up; infinity if nothing is promised.
        delta: The probability with which more may show.
        steps: After how many released steps.
        noise_multiplier: Noise over sensitivity.
        mechanism: Name of the noise.
        is_amplified: Whether the account relies on a secret sample.
        sampling: How cohorts are drawn, and why nothing is gained by it where nothing is.
        covered: What the promise is about.
        not_covered: What it is not about.
        randomness: Where the noise comes from.
        zcdp: Rho of zero-concentrated differential privacy, where exact.
        mu_gdp: Mu of Gaussian differential privacy, where exact.
        least_sum: Fewest clients in a sum that the server sees; 0: it sees every update.
    """

    unit: Unit
    trust: Trust
    adjacency: Adjacency
    epsilon: float
    delta: float
    steps: int
    noise_multiplier: float
    mechanism: str
    is_amplified: bool
    sampling: str
    covered: tuple[str, ...]
    not_covered: tuple[str, ...]
    randomness: Randomness
    zcdp: float | None = None
    mu_gdp: float | None = None
    least_sum: int = 0

    @property
    def relation(self) -> str:
        """The relation in words: which two worlds look alike."""
        return relation(self.unit, self.adjacency)

    @property
    def is_private(self) -> bool:
        """Whether anybody is protected: a finite epsilon, and noise that nobody can draw again."""
        return math.isfinite(self.epsilon) and self.randomness == "system"

    def __str__(self) -> str:
        lines = [
            f"epsilon {rounded_up(self.epsilon)} at delta {self.delta:g}, {self.relation} ({self.adjacency})",
            f"unit: {self.unit}; {_trusted(self)}",
            f"noise: {self.mechanism}, multiplier {self.noise_multiplier:.4g}, after {self.steps} steps",
            f"sampling: {self.sampling}",
        ]
        if self.zcdp is not None and self.mu_gdp is not None:
            lines.append(f"zCDP: rho {self.zcdp:.4g}; Gaussian DP: mu {self.mu_gdp:.4g}")
        if self.randomness == "seeded":
            lines.insert(0, "seeded, not private: whoever knows the seed can take the noise away")
        lines += [f"covered: {what}" for what in self.covered]
        lines += [f"not covered: {what}" for what in self.not_covered]
        return "\n".join(lines)


def relation(unit: Unit, adjacency: Adjacency) -> str:
    """Say which two worlds look alike.

    >>> relation("user", "add_remove")
    "with or without any one user's data"
    """
    return _RELATIONS[adjacency].format(unit=unit)


def rounded_up(epsilon: float) -> str:
    """Write epsilon with three decimals, never less than it is.

    >>> rounded_up(1.9991), rounded_up(math.inf)
    ('2.000', 'unbounded')
    """
    return f"{math.ceil(round(epsilon * 1000, 6)) / 1000:.3f}" if math.isfinite(epsilon) else "unbounded"


def _trusted(guarantee: Guarantee) -> str:
    if guarantee.unit == "record":
        return "each site is trusted with its own records and adds the noise"
    if guarantee.trust == "central" and guarantee.least_sum:
        return (
            f"the server is trusted with sums of at least {guarantee.least_sum} clients, and to add the noise"
        )
    return _TRUSTED[guarantee.trust]
