"""What a job's secure aggregation makes of it: grid, ring, groups and terms, or why it cannot be."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tacit.codec import Chain, Codec, OnGrid
from tacit.core.layout import Vector
from tacit.core.part import encode
from tacit.core.rule import Grid, IntegerTotal, Rule
from tacit.core.spec import UpdateSpec
from tacit.job.job import Job, digest
from tacit.job.private import noise_in_updates
from tacit.job.secure_checks import (
    check_noise,
    check_rounding,
    refuse_cohort,
    refuse_no_room,
    refuse_rule,
    refuse_unbounded,
    typical,
    wanted,
    warnings,
)
from tacit.job.secure_lanes import Lanes
from tacit.privacy import PrivacyPlan
from tacit.secagg.groups import sizes as group_sizes
from tacit.secagg.parameters import GroupParameters, Threat, find_parameters
from tacit.secagg.ring import Ring
from tacit.secagg.settings import SecureAggregation
from tacit.secagg.terms import Terms

if TYPE_CHECKING:
    from tacit.job.secure_costs import Costs


@dataclass(frozen=True)
class SecurePlan:
    """How the sums of a job are taken so that nobody sees a single update.

    Attributes:
        job: The job's name.
        settings: What was asked for.
        sent: Declared facts about what leaves a client, rounded to the grid.
        stage: The stage that rounds it: the last of the job's chain.
        grid: The same grid, on which group sums are added up.
        ring: How its integers lie in words for one group's sum.
        clients: Most clients of a round.
        parameters: Neighbours and threshold of the largest group.
        settings_sha256: Digest of all that turns an update into lanes.
        rounding: Length of what rounding adds to the mean of a typical round, over the longest that the
            mean can be.
        warnings: What works less well than it could, and what to do about it.
    """

    job: str
    settings: SecureAggregation
    sent: UpdateSpec
    stage: OnGrid
    grid: Grid
    ring: Ring
    clients: int
    parameters: GroupParameters
    settings_sha256: bytes
    rounding: float
    warnings: tuple[str, ...] = ()

    @property
    def threat(self) -> Threat:
        """Who is feared."""
        return self.settings.threat

    @property
    def min_cohort(self) -> int:
        """Least survivors of every group whose sum is opened."""
        return self.settings.min_cohort

    @property
    def group(self) -> int:
        """Clients in the largest group."""
        return self.parameters.clients

    @property
    def groups(self) -> int:
        """How many groups the largest cohort is divided into."""
        return len(group_sizes(self.clients, self.settings.group))

    @cached_property
    def costs(self) -> "Costs":
        """Messages, bytes and seconds of one round, in the largest group."""
        from tacit.job.secure_costs import Costs  # late: it knows every message, and runs need none

        return Costs.of(
            self.parameters, self.threat, self.ring.words, post_quantum=self.settings.post_quantum
        )

    def integers(self, row: Vector) -> IntegerTotal:
        """Return what a client contributes to the sum: its row in steps of the grid, int64.

        Raises:
            RemoteProtocolError: The row has another length, or a coordinate beyond its bound.
        """
        total = np.zeros(self.grid.size, dtype=np.int64)
        self.grid.add_rows(row[None], total)
        return total

    def terms(
        self,
        round: int,
        model_sha256: bytes,
        group: int,
        groups: int,
        server_key: bytes,
        *,
        base_round: int | None = None,
        enrolment_root: bytes = b"",
        deadlines: tuple[float, ...] = (),
    ) -> Terms:
        """Return the terms of one group's sum.

        Args:
            round: The round whose updates are summed.
            model_sha256: Digest of the model that was sent out.
            group: The group, from 0.
            groups: How many groups the cohort was divided into.
            server_key: The server's X25519 key for this group's vectors.
            base_round: Round of the model that the updates are relative to; None: this one.
            enrolment_root: Who vouches for the members; empty where nobody does.
            deadlines: Seconds that each step may take.
        """
        return Terms(
            job=self.job,
            round=round,
            model_sha256=model_sha256,
            settings_sha256=self.settings_sha256,
            group=group,
            groups=groups,
            min_cohort=self.min_cohort,
            mode=self.threat.mode,
            corrupt=self.threat.corrupt,
            dropout=self.threat.dropout,
            lanes=tuple((lane.size, lane.bits) for lane in self.ring.lanes),
            enrolment_root=enrolment_root,
            server_key=server_key,
            post_quantum=self.settings.post_quantum,
            base_round=round if base_round is None else base_round,
            deadlines=deadlines,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return {
            "min_cohort": self.min_cohort,
            "mode": self.threat.mode,
            "corrupt": self.threat.corrupt,
            "dropout": self.threat.dropout,
            "group": self.group,
            "groups": self.groups,
            "neighbours": self.parameters.neighbours,
            "threshold": self.parameters.threshold,
            "lane_bits": self.settings.lane_bits,
            "words": self.ring.words,
            "step": self.grid.lanes[0].step,
            "rounding": self.rounding,
            "post_quantum": self.settings.post_quantum,
            **self.costs.as_dict(),
            "server_s_per_round": self.costs.server_s * self.groups,
            "warnings": list(self.warnings),
        }


def secure_plan(
    job: Job,
    entering: UpdateSpec,
    chain: Chain,
    rule: Rule,
    sizes: npt.NDArray[np.int64],
    private: PrivacyPlan | None,
) -> SecurePlan | None:
    """Return how a job's sums are taken; None if it does not ask for secure aggregation.

    Args:
        job: The job.
        entering: What enters the chain.
        chain: The stages before the one that rounds.
        rule: How updates become one.
        sizes: Training examples of every client.
        private: What the server adds noise for; None where it adds none.

    Raises:
        PlanError: It cannot be done, or would protect less than it says: T187 to T189, T191 to T194.
    """
    settings = job.secure_aggregation
    if settings is None:
        return None
    before, population = chain.plan(entering), len(sizes)
    refuse_rule(rule, private)
    refuse_unbounded(before)
    most = max(job.cohort.largest(population), math.ceil(job.cohort.expected(population)), 1)
    refuse_cohort(job, settings, population)
    parameters = _parameters(settings, most, typical(job, population))
    made = Lanes(before, parameters.clients, _for_sum(before, most, private))
    refuse_no_room(settings.lane_bits, parameters.clients)
    stage, grid, ring = made.with_bits(settings.lane_bits)
    codec = Codec(Chain((*chain.stages, stage)), entering)
    if private is not None:
        check_noise(private, codec, grid, made, settings)
    rounding = check_rounding(job, made, stage, sizes, private)
    return SecurePlan(
        job=job.name,
        settings=settings,
        sent=codec.sent,
        stage=stage,
        grid=grid,
        ring=ring,
        clients=most,
        parameters=parameters,
        settings_sha256=_settings_digest(codec),
        rounding=rounding,
        warnings=tuple(warnings(job, settings, population, codec, grid, private, rounding)),
    )


def least_quorum(job: Job, population: int) -> float:
    """Return the share of the wanted updates below which no sum is opened, whatever the quorum."""
    if job.secure_aggregation is None:
        return 0.0
    return min(1.0, job.secure_aggregation.min_cohort / max(1, wanted(job, population)))


def _for_sum(before: UpdateSpec, most: int, private: PrivacyPlan | None) -> Grid:
    """Return the grid of a sum of all that may be invited: a secure sum cannot leave one out again."""
    return Grid.for_sum(before, most if private is None else max(most, noise_in_updates(private, before)))


def _settings_digest(codec: Codec) -> bytes:
    """Return the digest of the whole chain; the grid is a part of it."""
    stages = [encode(stage) for stage in codec.chain.stages]
    segments = [
        [s.name, s.size, s.coordinate_bound, s.l2_bound, s.is_nonnegative] for s in codec.sent.segments
    ]
    return bytes.fromhex(digest({"chain": stages, "sent": segments}))


def _parameters(settings: SecureAggregation, most: int, usual: int) -> GroupParameters:
    """Return the parameters of the largest group there can be; the smallest of a usual round has some too."""
    find_parameters(min(group_sizes(usual, settings.group)), settings.threat)
    return find_parameters(min(most, settings.group), settings.threat)
