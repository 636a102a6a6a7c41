"""Who is asked to take part in a round: the only place where sampling is stated."""

import math
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from tacit.core.bounds import Count, Share
from tacit.core.errors import PlanError
from tacit.core.part import Part

Indices = npt.NDArray[np.int64]
"""Positions of clients in their population, shape (clients,)."""


@runtime_checkable
class Cohort(Protocol):
    """How a round's cohort is drawn from a population of known size."""

    def sample(self, population: int, rng: np.random.Generator) -> Indices:
        """Draw the positions of the clients to invite, sorted ascending."""
        ...

    def wanted(self, invited: int) -> int:
        """Return how many updates close the round early."""
        ...

    def largest(self, population: int) -> int:
        """Return the largest number of updates one round may hold."""
        ...

    def expected(self, population: int) -> float:
        """Return the expected number of invited clients."""
        ...


class FixedSize(Part, frozen=True, kw_only=False, tag="fixed_size"):
    """Invite the same number of clients every round, uniformly without replacement.

    With ``over_selection`` above 1 more clients are invited than wanted, and the round closes as soon
    as ``count`` have answered (Bonawitz et al. 2019, section 3.3).

    Attributes:
        count: How many updates a round wants.
        over_selection: How many times as many clients are invited.

    >>> FixedSize(20, over_selection=1.3).invited(population=1000)
    26
    """

    count: Count
    over_selection: Annotated[float, Meta(ge=1, le=100)] = 1.0

    def invited(self, population: int) -> int:
        """Return how many clients are invited from a population of that size."""
        return min(population, math.ceil(round(self.count * self.over_selection, 9)))

    def sample(self, population: int, rng: np.random.Generator) -> Indices:
        if self.count > population:
            raise PlanError(
                "T152",
                f"the cohort wants {self.count} clients, but the population has {population}",
                where="$.cohort.count",
                fix=f"Choose a cohort of at most {population}, or All().",
            )
        return np.sort(rng.choice(population, self.invited(population), replace=False, shuffle=False)).astype(
            np.int64
        )

    def wanted(self, invited: int) -> int:
        return min(self.count, invited)

    def largest(self, population: int) -> int:
        return min(self.count, population)

    def expected(self, population: int) -> float:
        return self.invited(population)


class Poisson(Part, frozen=True, tag="poisson"):
    """Invite every client independently with the same probability; the cohort's size varies.

    Attributes:
        rate: That probability.

    >>> len(Poisson(rate=1.0).sample(5, np.random.default_rng(0)))
    5
    """

    rate: Share

    def sample(self, population: int, rng: np.random.Generator) -> Indices:
        # A binomial size and a uniform subset: the same law as one coin a client, without a million coins.
        size = min(int(rng.binomial(population, self.rate)), self.largest(population))
        return np.sort(rng.choice(population, size, replace=False, shuffle=False)).astype(np.int64)

    def wanted(self, invited: int) -> int:
        return invited

    def largest(self, population: int) -> int:
        # Ten standard deviations and thirty above the mean: a larger draw (probability below 1e-20, by
        # Bernstein's inequality) is cut, so that the grid of the sum stays fine for large populations.
        mean = self.rate * population
        return min(population, math.ceil(mean + 10 * math.sqrt(mean) + 30))

    def expected(self, population: int) -> float:
        return self.rate * population


class TruncatedPoisson(Part, frozen=True, tag="truncated_poisson"):
    """Invite every client independently with the same probability, and never more than ``cap`` of them.

    Of a larger sample ``cap`` clients are kept, chosen uniformly: rounds cannot grow beyond what the server
    can take, and the account knows of it (Chua et al. 2024, arXiv 2411.04205).

    Attributes:
        rate: That probability.
        cap: The largest number of clients.

    >>> len(TruncatedPoisson(rate=1.0, cap=3).sample(5, np.random.default_rng(0)))
    3
    """

    rate: Share
    cap: Count

    def sample(self, population: int, rng: np.random.Generator) -> Indices:
        size = min(int(rng.binomial(population, self.rate)), self.cap)
        return np.sort(rng.choice(population, size, replace=False, shuffle=False)).astype(np.int64)

    def wanted(self, invited: int) -> int:
        return invited

    def largest(self, population: int) -> int:
        return min(self.cap, Poisson(rate=self.rate).largest(population))

    def expected(self, population: int) -> float:
        return min(self.rate * population, float(self.cap))


class All(Part, frozen=True, tag="all"):
    """Invite every client in every round: the usual choice for a few hospitals or banks."""

    def sample(self, population: int, rng: np.random.Generator) -> Indices:
        return np.arange(population, dtype=np.int64)

    def wanted(self, invited: int) -> int:
        return invited

    def largest(self, population: int) -> int:
        return population

    def expected(self, population: int) -> float:
        return population
