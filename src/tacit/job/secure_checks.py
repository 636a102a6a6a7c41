"""What secure aggregation is refused for, and what it is warned of, before anything runs."""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tacit.codec import WITHIN, Chain, Codec, OnGrid
from tacit.core.errors import PlanError
from tacit.core.rule import Grid, Rule
from tacit.core.spec import UpdateSpec
from tacit.job.job import Job
from tacit.job.secure_lanes import Lanes
from tacit.privacy import PrivacyPlan
from tacit.privacy.noise.add import COARSEST_BITS
from tacit.round.release import Release, keys_of
from tacit.secagg.groups import sizes as group_sizes
from tacit.secagg.parameters import SECURITY, SMALLEST_GROUP, find_parameters, is_certain, most_among
from tacit.secagg.settings import SecureAggregation

_MOST_BITS = 63
# The length of the rounding of a mean over the longest that the mean can be.
_NOTICEABLE, _USELESS = 0.1, 1.0
_WHERE = "$.secure_aggregation"


def refuse_rule(rule: Rule, private: PrivacyPlan | None) -> None:
    """Refuse a rule that a sum does not serve, and noise that rounding undermines."""
    if rule.sees != "sum":
        raise PlanError(
            "T192",
            f"{type(rule).__name__} needs every single update, and nobody will see one",
            where=_WHERE,
            fix="Use a rule that needs the sum alone, or drop secure_aggregation.",
        )
    if private is not None and private.privacy.mechanism.distribution == "laplace":
        raise PlanError(
            "T194",
            "Laplace noise is measured against an L1 norm, which rounding to the ring makes longer",
            where="$.privacy.mechanism",
            fix="Use normal noise, or drop secure_aggregation.",
        )


def refuse_unbounded(before: UpdateSpec) -> None:
    """Refuse parameters of any length."""
    if before.segment("parameters").l2_bound is None:
        raise PlanError(
            "T188",
            "nothing bounds what a client adds to the sum, so the ring would have to be far too coarse",
            where=_WHERE,
            fix="Set clipping_bound, say to 10; privacy.clipping is no bound of it where it bounds records.",
        )


def refuse_cohort(job: Job, settings: SecureAggregation, population: int) -> None:
    """Refuse rounds, or quorums, that leave fewer in a sum than may be, and dropouts by design."""
    invited, needed = typical(job, population), wanted(job, population)
    smallest, least = min(group_sizes(invited, settings.group), default=0), settings.min_cohort
    if smallest < least:
        raise PlanError(
            "T191",
            f"groups of {smallest} clients, and no sum of fewer than {least} is opened",
            where=f"{_WHERE}.min_cohort",
            fix=f"Invite more clients, or lower min_cohort to at most {smallest}."
            if smallest >= SMALLEST_GROUP
            else f"Invite more clients: at least {SMALLEST_GROUP}, better {least}.",
        )
    if job.quorum is not None and job.policy.least(needed) < least:
        raise PlanError(
            "T191",
            f"a quorum of {job.quorum:g} lets {job.policy.least(needed)} of {needed} updates commit a round, "
            f"and no sum of fewer than {least} is opened",
            where="$.quorum",
            fix=f"Leave it out, or take at least {math.ceil(1000 * min(1, least / needed)) / 1000:g}.",
        )
    lost = 1 - needed / invited
    if lost > settings.dropout + 1e-9:
        raise PlanError(
            "T193",
            f"{invited} clients are invited and {needed} wanted, so {lost:.0%} are left behind on purpose; "
            f"groups are made for {settings.dropout:.0%}",
            where="$.cohort.over_selection",
            fix=f"Invite fewer, or set dropout to at least {math.ceil(100 * lost) / 100:g}.",
        )


def refuse_no_room(lane_bits: int, clients: int) -> None:
    """Refuse lanes in which not even one step of every client has room."""
    if 2 ** (lane_bits - 1) - 1 < clients:
        raise PlanError(
            "T189",
            f"a lane of {lane_bits} bits cannot even count a group of {clients}",
            where=f"{_WHERE}.lane_bits",
            fix=f"Take at least {clients.bit_length() + 1} bits, better 32, or smaller groups.",
        )


def check_noise(
    private: PrivacyPlan, codec: Codec, grid: Grid, made: Lanes, settings: SecureAggregation
) -> None:
    """Refuse lanes too narrow for the noise that goes on the same grid."""
    if _holds_noise(private, codec, grid):
        return
    wider = range(settings.lane_bits + 1, _MOST_BITS + 1)
    enough = next((bits for bits in wider if _holds_noise(private, *_codec_of(codec, made, bits))), None)
    other = "use FixedClipping" if private.privacy.clipping.is_adaptive else "make groups smaller"
    raise PlanError(
        "T189",
        f"with lanes of {settings.lane_bits} bits the sum's grid is too coarse for the noise",
        where=f"{_WHERE}.lane_bits",
        fix=f"Raise lane_bits to at least {enough}, or {other}."
        if enough
        else f"Take more noise, or {other}.",
    )


def _codec_of(codec: Codec, made: Lanes, lane_bits: int) -> tuple[Codec, Grid]:
    stage, grid, _ = made.with_bits(lane_bits)
    return Codec(Chain((*codec.chain.stages[:-1], stage)), codec.spec), grid


def _holds_noise(private: PrivacyPlan, codec: Codec, grid: Grid) -> bool:
    """Tell whether the noise suits the grid, by the very check that a run makes before it adds any."""
    if private.privacy.trust == "local":
        return True
    try:
        Release(private, codec, grid, keys_of(private, 0))
    except PlanError as error:
        if error.code != "T180":
            raise
        return False
    clipping = private.privacy.clipping
    return not clipping.is_adaptive or _added(codec) <= clipping.first_bound / 4


def _added(codec: Codec) -> float:
    """Return by how much rounding can lengthen an update's parameters."""
    stage = codec.chain.stages[-1]
    assert isinstance(stage, OnGrid)
    return stage.steps["parameters"] * math.sqrt(codec.sent.segment("parameters").size)


def check_rounding(
    job: Job, made: Lanes, stage: OnGrid, sizes: npt.NDArray[np.int64], private: PrivacyPlan | None
) -> float:
    """Return how long a mean's rounding is over the longest that the mean can be; refuse what is useless.

    A draw moves a coordinate of one client by the root of a sixth of a step on average. All of them together
    are divided by the sum of the weights.
    """
    segment = made.spec.segment("parameters")
    assert segment.l2_bound is not None
    invited = typical(job, len(sizes))
    largest, weight = _weights(job, sizes)
    bound = segment.l2_bound / largest if private is None else private.privacy.clipping.first_bound
    length = stage.steps["parameters"] * math.sqrt(segment.size * invited / 6) / (invited * weight)
    if length > _USELESS * bound:
        weighs = "" if largest == 1 else " Lower weighting.cap, which makes the grid finer by as much."
        raise PlanError(
            "T189",
            f"rounding to the ring would drown the mean: it is {length / bound:.1f} times as long as the "
            "longest that the mean can be",
            where=f"{_WHERE}.lane_bits",
            fix=f"Raise lane_bits.{weighs}",
        )
    return length / bound


def _weights(job: Job, sizes: npt.NDArray[np.int64]) -> tuple[int, float]:
    """Return the largest weight that a client can have, and what one has on average."""
    if job.privacy is not None and job.privacy.unit == "user":
        return 1, 1.0
    counted = np.minimum(sizes[sizes > 0], job.weighting.largest)
    return job.weighting.largest, float(counted.mean())


def warnings(
    job: Job,
    settings: SecureAggregation,
    population: int,
    codec: Codec,
    grid: Grid,
    private: PrivacyPlan | None,
    rounding: float,
) -> Iterator[str]:
    """Yield what works less well than it could, and what to do about it."""
    if rounding > _NOTICEABLE:
        yield (
            f"rounding to the ring is {rounding:.1g} times as long as the longest that the mean can be: "
            "raise lane_bits, or lower weighting.cap"
        )
    invited = typical(job, population)
    smallest = min(group_sizes(invited, settings.group))
    left = smallest - math.floor(smallest * settings.dropout)
    if left < settings.min_cohort:
        yield (
            f"a group of {smallest} that loses the {settings.dropout:.0%} it is made for has {left} left, "
            f"and no sum of fewer than {settings.min_cohort} is opened: such rounds are lost"
        )
    yield from _doubts(settings, invited)
    if private is not None and private.privacy.clipping.is_adaptive:
        least = _least_bound(private, codec, grid)
        if least > private.privacy.clipping.first_bound / 256:
            yield (
                f"the clipping bound cannot fall below {least:.3g}, where the noise would be too small for "
                "the grid; raise lane_bits to let it"
            )


def _doubts(settings: SecureAggregation, invited: int) -> Iterator[str]:
    """Yield where the promise rests on chance that somebody may try to bend."""
    groups, threat = group_sizes(invited, settings.group), settings.threat
    largest = groups[0]
    if threat.mode == "malicious" and not is_certain(find_parameters(largest, threat), threat):
        yield (
            f"in groups of {largest} privacy holds for all but a few draws of the graph, and a server that "
            "lies could try draw after draw; in smaller groups, or with fewer corrupt, it holds for all"
        )
    if len(groups) > 1:
        corrupt = math.floor(settings.corrupt * invited)
        drawn = most_among(invited, corrupt, largest, SECURITY + 1)
        if drawn > threat.corrupt_members(largest):
            yield (
                f"if {settings.corrupt:.0%} of all {invited} clients are corrupt, one group of {largest} may "
                f"by chance have {drawn} of them: corrupt={math.ceil(100 * drawn / largest) / 100:g} allows "
                "for that"
            )


def _least_bound(private: PrivacyPlan, codec: Codec, grid: Grid) -> float:
    """Return the smallest clipping bound whose noise the grid still holds."""
    named = zip(codec.sent.names, grid.lanes, strict=True)
    coarsest = max(lane.step for name, lane in named if name != WITHIN)
    return coarsest * 2.0**COARSEST_BITS / private.noise_std(1.0)


def typical(job: Job, population: int) -> int:
    """Return how many clients a typical round invites, rounded down."""
    return max(1, math.floor(job.cohort.expected(population) + 1e-9))


def wanted(job: Job, population: int) -> int:
    """Return how many updates a typical round waits for."""
    return job.cohort.wanted(typical(job, population))
