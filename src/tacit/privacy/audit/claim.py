"""What a job claims, as an auditor sees it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from tacit.core.errors import PlanError
from tacit.core.events import (
    CorrelatedEvent,
    GaussianEvent,
    PoissonSampledEvent,
    PrivacyEvent,
    TruncatedPoissonSampledEvent,
)
from tacit.core.privacy import Adjacency, Trust, Unit
from tacit.privacy.accounting import epsilon
from tacit.privacy.audit.canaries import strategy_of
from tacit.privacy.audit.guesses import Floats
from tacit.privacy.plan import PrivacyPlan

_LEAST_NOISE = 0.1  # below it epsilon is in the hundreds, takes long to compute, and is only larger


def _nothing(noise_multiplier: float) -> float:
    """Claim nothing, however much noise there is."""
    return math.inf


@dataclass(frozen=True)
class Claim:
    """The guarantee that a run states, and how it follows from its noise.

    Attributes:
        epsilon: What is claimed for the audited steps; infinite for a job without privacy.
        delta: The delta it is claimed at.
        unit: Whose presence is hidden; None: nobody's.
        trust: Who adds the noise.
        adjacency: What being left out means.
        noise_multiplier: Standard deviation of the noise on what canaries are seen in, over its sensitivity;
            None where the noise is not Gaussian, or there is none.
        epsilon_at: What would be claimed for the same steps with another noise multiplier, everything else
            being as stated. It turns noise that was seen into an epsilon.
        record_epsilon: What follows from the whole job for one record that takes the place of another.
        hides_participation: Whether the claim rests on keeping secret who took part in which step
            (amplification by sampling).
        strategy: What correlates the noise over steps, see ``strategy_of``; None: it is independent.
    """

    epsilon: float
    delta: float
    unit: Unit | None = None
    trust: Trust = "central"
    adjacency: Adjacency = "zero_out"
    noise_multiplier: float | None = None
    epsilon_at: Callable[[float], float] = _nothing
    record_epsilon: float = math.inf
    hides_participation: bool = False
    strategy: Floats | None = None

    @property
    def is_private(self) -> bool:
        """Whether anything is claimed at all."""
        return math.isfinite(self.epsilon)


def no_claim(delta: float) -> Claim:
    """Return what a job without privacy claims: nothing."""
    return Claim(epsilon=math.inf, delta=delta)


def claim_of(plan: PrivacyPlan, steps: int) -> Claim:
    """Return what a plan claims about its first steps.

    Args:
        plan: The plan.
        steps: How many steps are audited.
    """
    privacy, mechanism = plan.privacy, plan.privacy.mechanism
    claimed, strategy = plan.epsilon_of(steps), None
    if plan.whole_run_event is not None:
        strategy = strategy_of(mechanism, steps, plan.min_separation, plan.sampling.rounds)
    return Claim(
        epsilon=claimed,
        delta=privacy.delta,
        unit=privacy.unit,
        trust=privacy.trust,
        adjacency=plan.adjacency,
        noise_multiplier=_seen(plan) if mechanism.distribution == "normal" else None,
        epsilon_at=lambda noise: _epsilon_at(plan, steps, noise),
        record_epsilon=record_epsilon(plan),
        hides_participation=plan.is_amplified,
        strategy=strategy,
    )


def record_epsilon(plan: PrivacyPlan) -> float:
    """Return what a whole job's plan says of a record that takes another's place; infinite if nothing."""
    try:
        return epsilon(plan.spent(plan.sampling.rounds), plan.privacy.delta, "replace_one")
    except PlanError:
        return math.inf


def _seen(plan: PrivacyPlan) -> float:
    """Return the noise multiplier of the update alone: an adaptive clip's bit is released beside it."""
    return plan.noise_multiplier if plan.bit_noise is None else plan.update_noise_multiplier


def _epsilon_at(plan: PrivacyPlan, steps: int, noise: float) -> float:
    """Return epsilon of the plan's first steps, had its update another noise multiplier."""
    event = plan.whole_run_event or plan.event
    if event is None:
        return math.inf
    noise = max(noise, _LEAST_NOISE)
    whole = noise if plan.bit_noise is None else (noise**-2 + (2 * plan.bit_noise) ** -2) ** -0.5
    changed = _with_noise(event, whole)
    return epsilon({changed: plan.charges(steps)}, plan.privacy.delta, plan.adjacency)


def _with_noise(event: PrivacyEvent, noise: float) -> PrivacyEvent:
    match event:
        case GaussianEvent() | CorrelatedEvent():
            return msgspec.structs.replace(event, noise_multiplier=noise)
        case PoissonSampledEvent() | TruncatedPoissonSampledEvent():
            return msgspec.structs.replace(event, event=_with_noise(event.event, noise))
    return event
