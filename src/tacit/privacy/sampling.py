"""What a job says about who takes part, as far as privacy depends on it."""

import math
from dataclasses import dataclass
from typing import Literal

from tacit.core.events import (
    GaussianEvent,
    LaplaceEvent,
    PoissonSampledEvent,
    TruncatedPoissonSampledEvent,
)
from tacit.core.local import LocalSGD

SamplingKind = Literal["poisson", "truncated_poisson", "fixed", "all"]
"""Everybody by a coin of its own, so many at most, always the same number, or everybody."""
Sampled = GaussianEvent | LaplaceEvent | PoissonSampledEvent | TruncatedPoissonSampledEvent


@dataclass(frozen=True)
class SamplingFacts:
    """What the cohort and the rules of a round say about who takes part.

    Of clients in a population, step after step; or, for ``unit="record"``, of records in one site.

    Attributes:
        kind: How the cohort of a step is drawn.
        population: How many clients (records) there are.
        expected_cohort: Expected number of updates in a step's sum.
        largest_cohort: Largest number of them.
        rounds: How many steps are released at most.
        rate: Probability with which each client (record) is drawn; 1 where that is not how it is done.
        cap: Largest size of a truncated Poisson sample.
        over_selection: How many times as many clients are invited as are wanted.
        has_quorum: Whether a round with too few updates is abandoned.
        deadline_closes_at_count: Whether a round closes as soon as so many have answered.
        is_participation_public: Whether somebody besides the operator learns who was invited, or how many.
        weight_cap: Largest weight of one update, over the constant that the job divides by.
        least_sum: Fewest clients in a sum that the server sees; 0: it sees every update.
    """

    kind: SamplingKind
    population: int
    expected_cohort: float
    largest_cohort: int
    rounds: int
    rate: float = 1.0
    cap: int | None = None
    over_selection: float = 1.0
    has_quorum: bool = False
    deadline_closes_at_count: bool = False
    is_participation_public: bool = False
    weight_cap: float = 1.0
    least_sum: int = 0

    @classmethod
    def of_batches(cls, local: LocalSGD, examples: int, rounds: int) -> "SamplingFacts":
        """Return the facts of DP-SGD inside one site, which takes part in so many rounds.

        A batch is a Poisson sample of the site's records, of ``batch_size`` expected: each record has the
        rate ``batch_size / examples``, and a step of the optimizer is a step of the plan.

        >>> SamplingFacts.of_batches(LocalSGD(lr=0.1, epochs=2, batch_size=10), examples=200, rounds=5).rounds
        200
        """
        batch = min(local.batch(examples), max(examples, 1))
        return cls(
            kind="poisson",
            population=max(examples, 1),
            expected_cohort=batch,
            largest_cohort=max(examples, 1),
            rounds=max(rounds * local.total_steps(examples), 1),
            rate=batch / max(examples, 1),
        )

    def sampled(self, event: GaussianEvent | LaplaceEvent) -> Sampled:
        """Return the event of a release about a sample that stays secret."""
        if self.kind == "truncated_poisson" and isinstance(event, GaussianEvent) and self.cap is not None:
            return TruncatedPoissonSampledEvent(
                rate=self.rate, cap=self.cap, population=self.population, event=event
            )
        return PoissonSampledEvent(rate=self.rate, event=event)

    def words(self, one: str) -> str:
        """Say how a step's cohort is drawn; ``one`` is who is drawn: a user, a record."""
        match self.kind:
            case "poisson":
                return f"a Poisson sample: every {one} with probability {self.rate:g} in each step"
            case "truncated_poisson":
                return (
                    f"a Poisson sample: every {one} with probability {self.rate:g}, at most {self.cap} a step"
                )
            case "fixed":
                return f"about {self.expected_cohort:g} of {self.population} {one}s in each step"
            case "all":
                return f"every {one} in every step"

    def reveals(self) -> str:
        """Say what gives a sample away, or nothing where it stays a secret Poisson sample."""
        if self.kind == "fixed":
            return "in a cohort of a fixed size one client's absence changes who else is in it"
        if self.kind == "all":
            return "everybody is invited, so nothing is sampled"
        if self.over_selection > 1:
            return (
                f"{self.over_selection:g} times as many are invited as are wanted, so the fastest are chosen"
            )
        if self.deadline_closes_at_count:
            return "a round closes as soon as enough have answered, so the fastest are chosen"
        if self.has_quorum:
            return "a round with too few updates is abandoned, which shows how many there were"
        if self.is_participation_public:
            return "who takes part, or how many, is shown to others than the operator"
        return ""

    def least_separation_problem(self, min_separation: int) -> str:
        """Say why cohorts cannot be filled with nobody twice within so many steps, or nothing."""
        asked = math.ceil(self.expected_cohort * self.over_selection)
        left = self.population // min_separation
        if min_separation == 1 or asked <= left:
            return ""
        return (
            f"a separation of {min_separation} steps leaves {left} of {self.population} to ask, not {asked}"
        )
