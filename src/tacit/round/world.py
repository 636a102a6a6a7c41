"""The simulated world in virtual time: how long clients take, and which of them vanish."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from tacit.core.bounds import NonNegative, OpenShare, Share
from tacit.core.cohort import Indices
from tacit.core.part import Part, Settings
from tacit.core.randomness import generator, seed64

Floats = npt.NDArray[np.float64]
Sigma = Annotated[float, Meta(ge=0, le=10)]  # at 10 one client in a hundred takes 10^10 times the median


@runtime_checkable
class Duration(Protocol):
    """How many seconds of virtual time clients need for their work."""

    def seconds(self, client_normal: Floats, round_normal: Floats, examples: npt.NDArray[np.int64]) -> Floats:
        """Return each client's seconds from two standard normal draws, one that stays with the client."""
        ...


class LogNormalDuration(Part, frozen=True, tag="lognormal_duration"):
    """Durations spread log-normally: some clients are always slow, and everybody is slow sometimes.

    Attributes:
        median_s: Median seconds for a round's work.
        per_example_s: Seconds for each training example on top.
        client_sigma: Standard deviation, between clients, of the logarithm.
        round_sigma: The same between one client's rounds.
    """

    median_s: NonNegative = 10.0
    per_example_s: NonNegative = 0.0
    client_sigma: Sigma = 0.5
    round_sigma: Sigma = 0.1

    def seconds(self, client_normal: Floats, round_normal: Floats, examples: npt.NDArray[np.int64]) -> Floats:
        base = self.median_s + self.per_example_s * examples
        spread = self.client_sigma * client_normal + self.round_sigma * round_normal
        return np.asarray(base * np.exp(spread), dtype=np.float64)


@runtime_checkable
class Dropout(Protocol):
    """How likely clients are to vanish in a round."""

    def probability(self, client_uniform: Floats) -> Floats:
        """Return each client's probability, from a uniform draw that stays with the client."""
        ...


class RandomDropout(Part, frozen=True, kw_only=False, tag="random_dropout"):
    """Every invited client vanishes with the same probability.

    Attributes:
        rate: That probability.
    """

    rate: OpenShare

    def probability(self, client_uniform: Floats) -> Floats:
        return np.full_like(client_uniform, self.rate)


class UnreliableClients(Part, frozen=True, tag="unreliable_clients"):
    """A share of the clients is unreliable and vanishes often; the others never do.

    Attributes:
        share: Share of the clients that is unreliable.
        rate: Probability with which such a client vanishes in a round.
    """

    share: OpenShare = 0.2
    rate: Share = 0.5

    def probability(self, client_uniform: Floats) -> Floats:
        return np.where(client_uniform < self.share, self.rate, 0.0)


class World(Settings, frozen=True):
    """What a simulation assumes about its clients; without it everybody answers at once.

    Attributes:
        duration: How long clients take.
        dropout: Which of them vanish.
    """

    duration: Duration | None = None
    dropout: Dropout | None = None


@dataclass(frozen=True)
class Arrivals:
    """When the clients of a cohort would answer.

    Attributes:
        seconds: Seconds after the round opened at which each has done all its work, shape (cohort,).
        dropped: Whether each vanishes instead, shape (cohort,).
    """

    seconds: Floats
    dropped: npt.NDArray[np.bool_]


class VirtualWorld:
    """Draws what happens to each client in each round; the same for any number of workers.

    Args:
        world: What is assumed.
        sizes: Training examples of every client, shape (population,).
        seed: The job's seed.
    """

    def __init__(self, world: World, sizes: npt.NDArray[np.int64], seed: int) -> None:
        self._world, self._sizes, self._seed = world, sizes, seed

    @cached_property
    def _speeds(self) -> Floats:
        return generator(self._seed, "world", "speed").standard_normal(len(self._sizes))

    @cached_property
    def _reliability(self) -> Floats:
        return generator(self._seed, "world", "reliability").random(len(self._sizes))

    @property
    def is_instant(self) -> bool:
        """Whether everybody answers at once."""
        return self._world == World()

    def last_words(self, round_number: int, positions: Indices, most: int) -> list[int]:
        """Return how many messages of at most ``most`` each client sends that vanishes in this round.

        Args:
            round_number: The round.
            positions: Positions of clients in the population.
            most: How many messages a round would have had of each; it vanishes before the last at the latest.
        """
        address = (round_number, "world", "words")
        return [seed64(self._seed, *address, position) % most for position in positions.tolist()]

    def arrivals(self, round_number: int, positions: Indices) -> Arrivals:
        """Return when the clients at these positions of the population would answer in this round."""
        seconds = np.zeros(len(positions))
        dropped = np.zeros(len(positions), dtype=np.bool_)
        if self.is_instant:
            return Arrivals(seconds, dropped)
        rng = generator(self._seed, round_number, "world")
        if self._world.duration is not None:
            normal = rng.standard_normal(len(positions))
            seconds = self._world.duration.seconds(self._speeds[positions], normal, self._sizes[positions])
        if self._world.dropout is not None:
            dropped = rng.random(len(positions)) < self._world.dropout.probability(
                self._reliability[positions]
            )
        return Arrivals(seconds, dropped)
