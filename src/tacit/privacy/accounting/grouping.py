"""Many events as few: what composes exactly is merged before anything is computed."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tacit.core.errors import PlanError
from tacit.core.events import (
    ComposedEvent,
    CorrelatedEvent,
    GaussianEvent,
    LaplaceEvent,
    NonPrivateEvent,
    PoissonSampledEvent,
    PrivacyEvent,
    RepeatedEvent,
    TruncatedPoissonSampledEvent,
)
from tacit.core.privacy import Adjacency

Spent = Mapping[PrivacyEvent, int]
"""Events and how often each happened."""
Leaf = LaplaceEvent | PoissonSampledEvent | TruncatedPoissonSampledEvent
"""What is left once Gaussian releases are merged and nested events are taken apart."""


@dataclass(frozen=True)
class Spend:
    """What was spent, with equal events grouped and Gaussian ones merged.

    Gaussian releases compose to one Gaussian release: their squared ``mu = 1 / noise_multiplier`` add up
    (Dong, Roth & Su 2022, corollary 3.3), adaptively chosen or not.

    Attributes:
        squared_mu: The sum of ``1 / noise_multiplier^2`` over all releases that are Gaussian and not sampled.
        others: All other events and their counts, in an order that does not depend on how they arrived.
        is_private: False as soon as one release had no guarantee.
    """

    squared_mu: float
    others: tuple[tuple[Leaf, int], ...]
    is_private: bool

    @classmethod
    def of(cls, spent: Spent) -> "Spend":
        """Group events."""
        squared_mu, others, is_private = 0.0, dict[Leaf, int](), True
        for event, count in _leaves(spent):
            match event:
                case NonPrivateEvent():
                    is_private = False
                case GaussianEvent(noise_multiplier=noise) | CorrelatedEvent(noise_multiplier=noise):
                    squared_mu += count / noise**2
                case _:
                    others[event] = others.get(event, 0) + count
        return cls(squared_mu, tuple(sorted(others.items(), key=repr)), is_private)

    def doubled_if(self, adjacency: Adjacency) -> float:
        """Return ``squared_mu`` under a relation: replacing moves a sum twice as far as removing."""
        return 4 * self.squared_mu if adjacency == "replace_one" else self.squared_mu


def zcdp(spent: Spent, adjacency: Adjacency = "zero_out") -> float | None:
    """Return rho of zero-concentrated differential privacy, or None where it would not be exact.

    That is for Gaussian releases without sampling: ``rho = mu^2 / 2`` (Bun & Steinke 2016, proposition 1.6).

    >>> zcdp({GaussianEvent(noise_multiplier=2.0): 8})
    1.0
    """
    spend = Spend.of(spent)
    return spend.doubled_if(adjacency) / 2 if _is_gaussian(spend) else None


def mu_gdp(spent: Spent, adjacency: Adjacency = "zero_out") -> float | None:
    """Return mu of Gaussian differential privacy (Dong et al. 2022), or None where it would not be exact.

    >>> mu_gdp({GaussianEvent(noise_multiplier=2.0): 16})
    2.0
    """
    spend = Spend.of(spent)
    return math.sqrt(spend.doubled_if(adjacency)) if _is_gaussian(spend) else None


def joint(parts: Iterable[tuple[Spent, Adjacency]]) -> tuple[Spent, Adjacency]:
    """Return what several jobs spent together, and the relation that all of it can be accounted under.

    Jobs of one relation keep it. Otherwise the account is under zero-out and gains nothing by sampling:
    the only relation that is true for a fixed cohort, and an upper bound for every other job.

    Args:
        parts: What each job spent, and the relation it was planned under.
    """
    parts = tuple(parts)
    relations = {adjacency for _, adjacency in parts}
    common: Adjacency = relations.pop() if len(relations) == 1 else "zero_out"
    total: dict[PrivacyEvent, int] = {}
    for spent, _ in parts:
        for event, count in spent.items():
            known = unamplified(event) if common == "zero_out" else event
            total[known] = total.get(known, 0) + count
    return total, common


def unamplified(event: PrivacyEvent) -> PrivacyEvent:
    """Return the event without what sampling gains: an upper bound, whoever knows the sample.

    It holds under zero-out and replace-one, where nobody's data decide who else is sampled.

    >>> unamplified(PoissonSampledEvent(rate=0.1, event=GaussianEvent(noise_multiplier=2.0)))
    GaussianEvent(noise_multiplier=2.0)
    """
    match event:
        case PoissonSampledEvent(event=inner) | TruncatedPoissonSampledEvent(event=inner):
            return unamplified(inner)
        case RepeatedEvent(event=inner, count=count):
            return RepeatedEvent(event=unamplified(inner), count=count)
        case ComposedEvent(events=events):
            return ComposedEvent(events=tuple(unamplified(inner) for inner in events))
        case _:
            return event


def _is_gaussian(spend: Spend) -> bool:
    return spend.is_private and not spend.others


def _leaves(spent: Spent) -> Iterator[tuple[NonPrivateEvent | GaussianEvent | CorrelatedEvent | Leaf, int]]:
    for event, count in spent.items():
        if count > 0:
            yield from _take_apart(event, count)


def _take_apart(
    event: PrivacyEvent, count: int
) -> Iterator[tuple[NonPrivateEvent | GaussianEvent | CorrelatedEvent | Leaf, int]]:
    match event:
        case RepeatedEvent(event=inner, count=times):
            yield from _take_apart(inner, count * times)
        case ComposedEvent(events=events):
            for inner in events:
                yield from _take_apart(inner, count)
        case PoissonSampledEvent(rate=rate, event=inner):
            yield from _sampled(event, inner, count, is_everybody=rate == 1.0)
        case TruncatedPoissonSampledEvent(rate=rate, cap=cap, population=population, event=inner):
            yield from _sampled(event, inner, count, is_everybody=rate == 1.0 and cap >= population)
        case _:
            yield event, count


def _sampled(
    event: PoissonSampledEvent | TruncatedPoissonSampledEvent,
    inner: PrivacyEvent,
    count: int,
    *,
    is_everybody: bool,
) -> Iterator[tuple[NonPrivateEvent | GaussianEvent | CorrelatedEvent | Leaf, int]]:
    if isinstance(inner, NonPrivateEvent):
        yield inner, count
    elif is_everybody:
        yield from _take_apart(inner, count)
    elif isinstance(inner, GaussianEvent) or (
        isinstance(inner, LaplaceEvent) and isinstance(event, PoissonSampledEvent)
    ):
        yield event, count
    else:
        what = f"nothing is known of {type(inner).__name__} under {type(event).__name__}"
        raise PlanError("T166", what, fix="Sample one Gaussian release, or account for it without sampling.")
