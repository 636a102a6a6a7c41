"""What a job's privacy makes of it: its plan, and the stages that carry it out."""

import math

import numpy as np
import numpy.typing as npt

from tacit.codec import REACH, WITHIN, AdaptiveClip, ClipL1, ClipL2, Withhold
from tacit.core.cohort import All, FixedSize, Poisson, TruncatedPoisson
from tacit.core.errors import PlanError
from tacit.core.layout import Layout
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Stage
from tacit.data import Split
from tacit.job.job import Job
from tacit.job.sites import Sites
from tacit.privacy import (
    AdaptiveClipping,
    FixedClipping,
    Guarantee,
    LocalNoise,
    PrivacyPlan,
    SamplingFacts,
    SegmentClipping,
    plan_privacy,
)
from tacit.privacy.guarantee import rounded_up
from tacit.privacy.noise import FreshNoise
from tacit.privacy.sampling import SamplingKind


def privacy_plan(job: Job, layout: Layout, population: int) -> PrivacyPlan | None:
    """Return the plan of a job's privacy; None if it promises nothing.

    Raises:
        PlanError: The job's settings do not go together with it.
    """
    if job.privacy is None:
        return None
    _refuse(job, layout)
    return plan_privacy(job.privacy, sampling_facts(job, population))


def sites_of(job: Job, layout: Layout, sizes: npt.NDArray[np.int64]) -> Sites | None:
    """Return what every site does for its records; None unless a record is what the job's privacy hides.

    Raises:
        PlanError: The job's settings do not go together with it.
    """
    if job.privacy is None or job.privacy.unit != "record":
        return None
    _refuse(job, layout)
    return Sites.of(job.privacy, job.algorithm.local, sizes.tolist(), job.rounds, _least_sum(job))


def refuse_scaling(job: Job, population: object) -> None:
    """Refuse to protect those by whose own mean and spread the features are scaled.

    One record, or one user, then moves the features of all others, and their updates with them: by far more
    than the clip of its own allows for. A user's features may be scaled by that user's own.

    Raises:
        PlanError: They are.
    """
    if job.privacy is None or not isinstance(population, Split):
        return
    if population.scaling == "global" or (population.scaling == "client" and job.privacy.unit == "record"):
        what = f"features are scaled by the very {job.privacy.unit}s that are to be protected"
        fix = 'Use scaling="none", and scale by public constants in the first layer of the model.'
        raise PlanError("T172", what, where="$.population.scaling", fix=fix)


def sampling_facts(job: Job, population: int) -> SamplingFacts:
    """Return what a job's cohort and rules say about who takes part.

    Raises:
        PlanError: Nobody knows what the cohort reveals.
    """
    cohort = job.cohort
    kind, rate, cap, over = _kind_of(job)
    return SamplingFacts(
        kind=kind,
        population=population,
        expected_cohort=cohort.wanted(math.ceil(cohort.expected(population)))
        if kind == "fixed"
        else cohort.expected(population),
        largest_cohort=cohort.largest(population),
        rounds=job.rounds,
        rate=rate,
        cap=cap,
        over_selection=over,
        has_quorum=job.policy.quorum > 0,
        deadline_closes_at_count=kind == "fixed" and over > 1,
        # Clients see their neighbours, and a round with too few of them is given up: no sample is secret.
        is_participation_public=job.secure_aggregation is not None,
        least_sum=_least_sum(job),
    )


def _least_sum(job: Job) -> int:
    return 0 if job.secure_aggregation is None else job.secure_aggregation.min_cohort


def _kind_of(job: Job) -> tuple[SamplingKind, float, int | None, float]:
    match job.cohort:
        case Poisson(rate=rate):
            return "poisson", rate, None, 1.0
        case TruncatedPoisson(rate=rate, cap=cap):
            return "truncated_poisson", rate, cap, 1.0
        case FixedSize(over_selection=over):
            return "fixed", 1.0, None, over
        case All():
            return "all", 1.0, None, 1.0
    raise PlanError(
        "T171",
        f"nobody knows what a cohort of {type(job.cohort).__name__} reveals",
        where="$.cohort",
        fix="With privacy use Poisson, TruncatedPoisson, FixedSize or All.",
    )


def private_stages(job: Job, plan: PrivacyPlan) -> tuple[Stage, ...]:
    """Return the stages of a private job: nothing but clipped parameters leaves a client."""
    clip: tuple[Stage, ...]
    match plan.privacy.clipping:
        case AdaptiveClipping(initial=initial):
            clip = (AdaptiveClip(initial=initial),)
        case SegmentClipping(bounds=bounds):
            clip = tuple(ClipL2(bound=bound, segment=name) for name, bound in bounds.items())
        case FixedClipping(bound=bound) if plan.privacy.mechanism.distribution == "laplace":
            clip = (ClipL1(bound=bound),)
        case FixedClipping(bound=bound):
            clip = (ClipL2(bound=bound),)
        case other:
            raise PlanError("T169", f"nothing is known of {type(other).__name__}", where="$.privacy.clipping")
    noise: tuple[Stage, ...] = ()
    if plan.privacy.trust == "local":
        noise = (
            LocalNoise(
                scale=plan.noise_std(plan.privacy.clipping.first_bound),
                distribution=plan.privacy.mechanism.distribution,
                randomness=plan.privacy.randomness,
            ),
        )
    return (Withhold(), *clip, *noise)


def noise_in_updates(plan: PrivacyPlan, sent: UpdateSpec) -> int:
    """Return how many updates, all at their bound, are as large as the noise can be: the grid holds both."""
    mechanism, clipping = plan.privacy.mechanism, plan.privacy.clipping
    weights = mechanism.weights(plan.sampling.rounds - 1, plan.min_separation)
    draws = FreshNoise((b"",), distribution=mechanism.distribution).largest * float(np.abs(weights).sum())
    scale = plan.noise_std(clipping.first_bound * (REACH if clipping.is_adaptive else 1.0))
    scales = [plan.bit_noise or 0.0 if s.name == WITHIN else scale for s in sent.segments]
    bounds = [segment.coordinate_bound for segment in sent.segments]
    return math.ceil(draws * max(each / bound for each, bound in zip(scales, bounds, strict=True)))


def headline(guarantee: Guarantee) -> str:
    """Say in one line what is promised."""
    epsilon = f"epsilon {rounded_up(guarantee.epsilon)} at delta {guarantee.delta:g}"
    seeded = "seeded, not private: " if guarantee.randomness == "seeded" else ""
    summed = f"; the server sees sums of at least {guarantee.least_sum}" if guarantee.least_sum else ""
    return f"{seeded}{epsilon} for each {guarantee.unit} ({guarantee.adjacency}, {guarantee.trust}){summed}"


def _refuse(job: Job, layout: Layout) -> None:
    assert job.privacy is not None
    if job.privacy.trust == "distributed" and job.secure_aggregation is not None:
        raise PlanError(
            "T163",
            "secure_aggregation takes sums without noise: noise that clients add together, as much as the "
            "least number of survivors needs, is not available yet",
            where="$.privacy.trust",
            fix='Use trust="central": the server sees sums of groups alone, and adds the noise.',
        )
    # Of a site's update the records have had their noise; a ring needs a bound of its own.
    if job.clipping_bound is not None and (job.privacy.unit == "user" or job.secure_aggregation is None):
        raise PlanError(
            "T176",
            "the job has a clipping_bound beside that of its privacy",
            where="$.clipping_bound",
            fix="Leave it out, and set privacy.clipping.",
        )
    for index, rule in enumerate(job.stop):
        if getattr(rule, "on", "clients") == "clients":  # what other packages' rules look at nobody knows
            raise PlanError(
                "T179",
                "the run's length would follow from clients' data, which no noise protects",
                where=f"$.stop[{index}]",
                fix='Look at the central test set: on="central".',
            )
    if [segment.name for segment in layout.segments] != ["parameters"]:
        raise PlanError(
            "T177",
            "the model has buffers, such as batch-norm statistics, that no clip and no noise protects",
            where="$.task.model",
            fix="Use GroupNorm or LayerNorm instead of batch norm.",
        )
    if isinstance(job.privacy.clipping, SegmentClipping):
        missing = {"parameters"} ^ set(job.privacy.clipping.bounds)
        if missing:
            raise PlanError(
                "T178",
                f"privacy.clipping.bounds and the update's segments differ: {', '.join(sorted(missing))}",
                where="$.privacy.clipping.bounds",
                fix="Give every segment of the update a bound: parameters.",
            )
