"""Privacy loss distributions of our events, by dp-accounting (Doroshenko et al. 2022, arXiv 2207.04380)."""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from tacit.core.errors import PlanError
from tacit.core.events import (
    GaussianEvent,
    LaplaceEvent,
    PoissonSampledEvent,
    PrivacyEvent,
    TruncatedPoissonSampledEvent,
)
from tacit.core.privacy import Adjacency
from tacit.privacy.accounting.grouping import Leaf, Spend

_ROUNDING = 1e-16
"""What the Fourier transform may lose of delta for every release: at most half of it was ever measured."""
_TAIL = 1e-14
"""What dp-accounting itself moves to infinity is well below, however many kinds of events are composed."""


def least_delta(spend: Spend) -> float:
    """Return the part of delta that arithmetic uses up: nothing can be said of a smaller one."""
    return _ROUNDING * sum(count for _, count in spend.others) + _TAIL * (len(spend.others) + 1)


def largest_loss(spend: Spend, adjacency: Adjacency) -> float:
    """Return roughly the largest privacy loss of one event: the grid has to reach that far."""
    losses = [_gaussian_loss(math.sqrt(spend.doubled_if(adjacency)))]
    for event, _ in spend.others:
        _check_relation(event, adjacency)
        laplace = 1 / _laplace_scale(event, adjacency)
        doubled = 2.0 if adjacency == "replace_one" else 1.0
        losses.append(laplace if _is_laplace(event) else _gaussian_loss(doubled / _noise(event)))
    return max(losses)


def laplace_loss(spend: Spend, adjacency: Adjacency) -> float:
    """Return the largest loss of the Laplace event that happened most often, 0 without any."""
    laplace = [(count, event) for event, count in spend.others if _is_laplace(event)]
    if not laplace:
        return 0.0
    _, event = max(laplace, key=lambda pair: pair[0])
    loss = 1 / _laplace_scale(event, adjacency)
    return math.log1p(event.rate * math.expm1(loss)) if isinstance(event, PoissonSampledEvent) else loss


def epsilon_on_grid(spend: Spend, delta: float, adjacency: Adjacency, interval: float) -> float:
    """Return epsilon by privacy loss distributions on a grid of that interval.

    Losses are rounded pessimistically ("connect the dots"), so a wider interval gives a larger epsilon.

    Raises:
        PlanError: Nothing is known of one of the events under that relation.
    """
    usable = delta - least_delta(spend)
    if usable <= 0:
        return math.inf
    with np.errstate(all="ignore"):  # a Chernoff bound of dp-accounting overflows where another one holds
        total = _gaussian(spend, adjacency, interval)
        for event, count in spend.others:
            repeated = _single(event, adjacency, interval).self_compose(count)
            total = repeated if total is None else total.compose(repeated)
        return 0.0 if total is None else float(total.get_epsilon_for_delta(usable))


def _gaussian(spend: Spend, adjacency: Adjacency, interval: float) -> Any:
    if not spend.squared_mu:
        return None
    return _single(GaussianEvent(noise_multiplier=1 / math.sqrt(spend.squared_mu)), adjacency, interval)


@lru_cache(maxsize=32)
def _single(event: GaussianEvent | Leaf, adjacency: Adjacency, interval: float) -> Any:
    """Return dp-accounting's distribution of one event; kept, as a search asks for it again and again."""
    from dp_accounting import NeighboringRelation  # slow to import
    from dp_accounting.pld import privacy_loss_distribution as pld

    _check_relation(event, adjacency)
    relation = {
        "add_remove": NeighboringRelation.ADD_OR_REMOVE_ONE,
        "zero_out": NeighboringRelation.REPLACE_SPECIAL,
        "replace_one": NeighboringRelation.REPLACE_ONE,
    }[adjacency]
    rate, noise = getattr(event, "rate", 1.0), _noise(event)
    if isinstance(event, TruncatedPoissonSampledEvent):
        return pld.from_truncated_subsampled_gaussian_mechanism(
            dataset_size=event.population,
            sampling_probability=rate,
            truncated_batch_size=event.cap,
            noise_multiplier=noise,
            value_discretization_interval=interval,
            neighboring_relation=relation,
        )
    if _is_laplace(event):
        scale = _laplace_scale(event, adjacency)
        return pld.from_laplace_mechanism(scale, value_discretization_interval=interval, sampling_prob=rate)
    return pld.from_gaussian_mechanism(
        noise, value_discretization_interval=interval, sampling_prob=rate, neighboring_relation=relation
    )


def _check_relation(event: PrivacyEvent, adjacency: Adjacency) -> None:
    """Refuse what nobody has shown: the gain of a secret sample holds under few relations."""
    is_sampled = isinstance(event, PoissonSampledEvent | TruncatedPoissonSampledEvent)
    if is_sampled and adjacency == "zero_out":
        raise PlanError(
            "T166",
            f"{type(event).__name__} is not accounted for under zero_out",
            fix='Take "add_remove" or "replace_one", or account for the event without sampling.',
        )
    if is_sampled and _is_laplace(event) and adjacency == "replace_one":
        raise PlanError(
            "T166",
            "sampled Laplace noise is not accounted for under replace_one",
            fix='Take "add_remove", or Gaussian noise.',
        )


def _noise(event: PrivacyEvent) -> float:
    match event:
        case GaussianEvent(noise_multiplier=noise) | LaplaceEvent(noise_multiplier=noise):
            return noise
        case PoissonSampledEvent(event=inner) | TruncatedPoissonSampledEvent(event=inner):
            return _noise(inner)
        case _:
            raise AssertionError(f"{event} is no leaf")


def _laplace_scale(event: PrivacyEvent, adjacency: Adjacency) -> float:
    # Replacing moves a sum twice as far: dp-accounting has no word for it, half the scale says the same.
    return _noise(event) / 2 if adjacency == "replace_one" else _noise(event)


def _is_laplace(event: PrivacyEvent) -> bool:
    inner = event.event if isinstance(event, PoissonSampledEvent) else event
    return isinstance(inner, LaplaceEvent)


def _gaussian_loss(mu: float) -> float:
    return mu * mu / 2 + 10 * mu  # dp-accounting follows the noise to about ten standard deviations
