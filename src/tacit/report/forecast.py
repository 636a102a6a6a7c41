"""What the privacy of a job will cost, before it runs: epsilon along the run, and noise against signal."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from tacit.core.part import encode
from tacit.job import Plan
from tacit.privacy import PrivacyPlan
from tacit.privacy.accounting import Curve
from tacit.privacy.mechanisms import prefix_deviations, step_deviations
from tacit.report.drawing import thin

_POINTS = 20  # of the curve of epsilon
_LONG_STEP = 3.0
"""Lengths of the bound from which on the noise of one step hides whatever the clients agree upon ..."""
_LONG_RUN = 0.5
"""... and from which on averaging over the run does not bring the signal back: clients seldom agree so well
that their mean is longer than half the bound. On handwritten digits (100 and 500 clients, 650 and 9610
parameters, 20 and 60 rounds, fifteen settings of epsilon) five of the seven runs beyond both limits lost a
third to three quarters of the accuracy without noise, two lost less than a fifteenth; of the eight others,
the worst lost 27 %."""


@dataclass(frozen=True)
class NoiseForecast:
    """How large the noise will be on what the server learns, and against the most it could learn.

    Lengths are L2 norms of the whole update. They are rough: a server optimizer with momentum or
    step sizes of its own weighs steps in other ways, and the clients' agreement is nobody's to know.

    Attributes:
        clipping_bound: The bound at the first step.
        std: Standard deviation of the noise on one coordinate of a step's sum.
        denominator: What the sum is divided by: a public constant.
        coordinates: How many coordinates are released.
        per_step: Length of the noise on the mean of a step, over the clipping bound: the longest that the
            mean could be, if all clients agreed.
        over_run: The same for the mean over all steps.
    """

    clipping_bound: float
    std: float
    denominator: float
    coordinates: int
    per_step: float
    over_run: float

    @classmethod
    def of(cls, private: PrivacyPlan, coordinates: int, *, sites: float = 1.0) -> "NoiseForecast":
        """Return what follows from a privacy plan.

        Args:
            private: The plan.
            coordinates: How many coordinates an update has.
            sites: How many sites do this each with noise of its own, before their updates are averaged.
        """
        mechanism, steps = private.privacy.mechanism, private.sampling.rounds
        bound, separation = private.privacy.clipping.first_bound, private.min_separation
        draw = private.noise_std(bound)
        if mechanism.distribution == "laplace":
            draw *= math.sqrt(2)  # from the scale to the standard deviation
        if private.privacy.trust == "local":
            draw *= math.sqrt(private.sampling.expected_cohort)  # every client adds its own
        # Correlated noise is longer in a later step than in the first, and takes itself back over the run.
        step = float(step_deviations(mechanism, steps, separation)[-1])
        run = float(prefix_deviations(mechanism, steps, separation)[-1]) / steps / math.sqrt(sites)
        length = draw * math.sqrt(coordinates) / private.denominator / bound
        return cls(
            clipping_bound=bound,
            std=draw * step,
            denominator=private.denominator,
            coordinates=coordinates,
            per_step=length * step,
            over_run=length * run,
        )

    @property
    def mean_std(self) -> float:
        """Standard deviation of the noise on one coordinate of a step's mean."""
        return self.std / self.denominator

    @property
    def drowns(self) -> bool:
        """Whether the noise is likely to drown what the clients agree upon."""
        return self.per_step > _LONG_STEP and self.over_run > _LONG_RUN


def forecast(plan: Plan) -> NoiseForecast | None:
    """Return the noise of a job; None where nothing is promised.

    Of a job that protects records it is the noise inside the site that spends most; over the run the noise of
    all sites of a cohort averages out, too.
    """
    if plan.private is None:
        return None
    cohort = 1.0 if plan.sites is None else max(1.0, plan.job.cohort.expected(plan.population))
    return NoiseForecast.of(plan.private, plan.parameters, sites=cohort)


def epsilon_by_round(plan: Plan) -> Curve:
    """Return what a job will have spent after about twenty of its rounds, never less than it is."""
    private, rounds, sites = plan.private, plan.job.rounds, plan.sites
    if private is None:
        return ()
    if sites is not None:
        chosen = [position + 1 for position in thin(rounds, _POINTS)]
        return tuple((one, sites.epsilon_along(dict.fromkeys(sites.plans, one))) for one in chosen)
    if private.whole_run_event is not None:  # charged at its first step
        return tuple((one, private.epsilon) for one in sorted({1, rounds}))
    return private.curve(_POINTS)


def forecast_dict(plan: Plan) -> dict[str, Any]:
    """Return what ``tacit plan --json`` says of a job's privacy; each is None where nothing is promised."""
    private, noise = plan.private, forecast(plan)
    if private is None or noise is None:
        return {"guarantee": None, "epsilon_by_round": None, "noise": None}
    known = {field.name: getattr(noise, field.name) for field in fields(noise)}
    known |= {"mean_std": noise.mean_std, "drowns": noise.drowns}
    return {
        "guarantee": encode(plan.guarantee),
        "epsilon_by_round": [list(point) for point in epsilon_by_round(plan)],
        "noise": {"noise_multiplier": private.noise_multiplier, **known},
    }


def few(curve: Sequence[Any], most: int = 8) -> list[Any]:
    """Return at most so many points of a curve, its ends among them.

    >>> few(range(20), 4)
    [0, 6, 13, 19]
    """
    return [curve[position] for position in thin(len(curve), most)]
