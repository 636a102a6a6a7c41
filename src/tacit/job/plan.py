"""Check and price a job before it runs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tacit.aggregate import FixedMean, WeightedMean
from tacit.codec import Chain, ClipL2, Codec
from tacit.core.errors import PlanError
from tacit.core.layout import Layout
from tacit.core.part import nearest
from tacit.core.randomness import seed64
from tacit.core.rule import Grid, Rule
from tacit.core.stage import Stage
from tacit.job.job import Job
from tacit.job.private import headline, noise_in_updates, privacy_plan, private_stages, sites_of
from tacit.job.secure import SecurePlan, least_quorum, secure_plan
from tacit.job.sites import Sites
from tacit.privacy import Guarantee, PrivacyPlan
from tacit.round import RoundPolicy, RunSettings
from tacit.training.executor import update_spec
from tacit.wire import HEADER_BYTES

NOT_PRIVATE = "not private: no differential privacy, no secure aggregation"
"""What is said of a job that promises nothing."""
SUMS_ONLY = "not private: no differential privacy; the server sees sums of at least {least} clients only"
"""What is said of a job with secure aggregation alone."""
_MIB = 1024 * 1024
_COARSEST = 2.0**-20  # of the order of float32's own rounding of an update
_INTERPRETER_MIB = 320  # a Python process that has imported PyTorch


@dataclass(frozen=True)
class Plan:
    """A job with everything that follows from it before any data is touched.

    Attributes:
        job: The job.
        layout: Names and shapes of the model's vector.
        population: Number of clients.
        sizes: Their training examples, shape (population,).
        codec: How updates travel.
        rule: How they become one.
        grid: On which grid they are summed.
        private: What is promised about the clients' data, and by what means; None for nothing. With
            record-level privacy it is the plan of the site that spends most.
        sites: What each site does for its records, where these are what the promise is about: noise is then
            added there, and nowhere else.
        secure: How the sums are taken so that the server sees no single update; None: it sees them all.
    """

    job: Job
    layout: Layout
    population: int
    sizes: npt.NDArray[np.int64]
    codec: Codec
    rule: Rule
    grid: Grid
    private: PrivacyPlan | None = None
    sites: Sites | None = None
    secure: SecurePlan | None = None

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return self.layout.segment("parameters").size

    @property
    def bytes_up_per_client(self) -> int:
        """Bytes one client sends in a round."""
        if self.secure is not None:
            return self.secure.costs.bytes_up
        return HEADER_BYTES + self.codec.sent.wire_bytes

    @property
    def bytes_down_per_client(self) -> int:
        """Bytes one client receives in a round."""
        secure = 0 if self.secure is None else self.secure.costs.bytes_down
        return HEADER_BYTES + 4 * self.layout.size + secure

    @property
    def resolution(self) -> float:
        """Step of the grid on which updates are summed, for a client of weight 1."""
        return self.grid.lanes[0].step

    @property
    def group(self) -> int:
        """Clients trained and encoded together; follows from the model's size alone."""
        return int(np.clip(8 * _MIB // (4 * self.codec.sent.size), 1, 64))

    @cached_property
    def steps_per_round(self) -> float:
        """Expected local steps of a whole cohort."""
        local = self.job.algorithm.local
        sample = self.sizes[self.sizes > 0][:1000]
        mean = float(np.mean([local.total_steps(int(size)) for size in sample])) if len(sample) else 0.0
        return mean * self.job.cohort.expected(self.population)

    def memory_mib(self, workers: int = 1) -> float:
        """Estimate the peak memory of a simulation, data left out, MiB."""
        vectors = 4 * self.layout.size / _MIB
        worker = _INTERPRETER_MIB + vectors * (
            4 + 3 * self.group
        )  # model, gradients, rows and their encoding
        return worker * workers + vectors * 8 + (_INTERPRETER_MIB if workers > 1 else 0)

    @property
    def privacy(self) -> str:
        """Which guarantee holds, in a few words."""
        if self.guarantee is not None:
            return headline(self.guarantee)
        return NOT_PRIVATE if self.secure is None else SUMS_ONLY.format(least=self.secure.min_cohort)

    @cached_property
    def guarantee(self) -> Guarantee | None:
        """What is promised once all rounds are done; None for nothing."""
        if self.sites is not None:
            return self.sites.statement()
        return None if self.private is None else self.private.statement()

    @property
    def policy(self) -> RoundPolicy:
        """When a round closes, and whether it counts: with fewer than a sum may hold it does not."""
        policy, least = self.job.policy, least_quorum(self.job, self.population)
        return policy if policy.quorum >= least else msgspec.structs.replace(policy, quorum=least)

    def run_settings(self) -> RunSettings:
        """Return what the run machine is made of."""
        job = self.job
        return RunSettings(
            job=job.name,
            seed=job.seed,
            rounds=job.rounds,
            cohort=job.cohort,
            policy=self.policy,
            rule=self.rule,
            codec=self.codec,
            grid=self.grid,
            layout=self.layout,
            optimizer=job.algorithm.server,
            stop=job.stop,
            evaluation=job.evaluation,
            privacy=self.private if self.sites is None else None,  # sites have added all noise there is
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the plan's figures as plain data."""
        figures = {
            "job": self.job.name,
            "parameters": self.parameters,
            "population": self.population,
            "examples": int(self.sizes.sum()),
            "clients_without_data": int((self.sizes == 0).sum()),
            "cohort": self.job.cohort.expected(self.population),
            "rounds": self.job.rounds,
            "steps_per_round": self.steps_per_round,
            "bytes_up_per_client": self.bytes_up_per_client,
            "bytes_down_per_client": self.bytes_down_per_client,
            "bytes_up_per_round": self.bytes_up_per_client * self.job.cohort.largest(self.population),
            "memory_mib": {"workers=1": self.memory_mib(1), "workers=2": self.memory_mib(2)},
            "resolution": self.resolution,
            "privacy": self.privacy,
        }
        if self.secure is not None:
            figures["secure_aggregation"] = self.secure.as_dict()
        return figures if self.sites is None else {**figures, "sites": self.sites.as_dict()}


def make_plan(job: Job, layout: Layout, sizes: npt.NDArray[np.int64]) -> Plan:
    """Compile a job to its chain, rule and grid, and refuse what is unsound.

    Args:
        job: The job.
        layout: The layout of its model.
        sizes: Training examples of every client, shape (population,).

    Raises:
        PlanError: Settings do not go together, or do not fit the population.
    """
    population = len(sizes)
    _refuse_empty(sizes)
    sites = sites_of(job, layout, sizes)
    # What sites send has its noise already: from there on their job is like any other.
    private = privacy_plan(job, layout, population) if sites is None else None
    chain, entering = Chain(_stages(job, private)), update_spec(layout, metrics=sites is None)
    rule: Rule = WeightedMean() if private is None else FixedMean(denominator=private.denominator)
    secure = secure_plan(job, entering, chain, rule, sizes, private)
    codec, grid = _summed(job, Codec(chain, entering), population, private, secure)
    promised = private if sites is None else sites.worst
    plan = Plan(job, layout, population, sizes, codec, rule, grid, promised, sites, secure)
    _refuse(plan)
    return plan


def model_seed(job: Job) -> int:
    """Return the seed under which the initial model is built."""
    return seed64(job.seed, "model")


def _stages(job: Job, private: PrivacyPlan | None) -> tuple[Stage, ...]:
    """Compile the job's blocks to stages in the only sound order: clip, then weigh."""
    if private is not None:
        return private_stages(job, private)
    clip: tuple[Stage, ...] = () if job.clipping_bound is None else (ClipL2(bound=job.clipping_bound),)
    return (*clip, job.weighting)


def _summed(
    job: Job, codec: Codec, population: int, private: PrivacyPlan | None, secure: SecurePlan | None
) -> tuple[Codec, Grid]:
    """Return how updates travel and on which grid they are summed."""
    if secure is not None:
        return Codec(Chain((*codec.chain.stages, secure.stage)), codec.spec), secure.grid
    largest = max(1, job.cohort.largest(population))
    if private is not None:
        largest = max(largest, noise_in_updates(private, codec.sent))
    return codec, Grid.for_sum(codec.sent, largest)


def _refuse_empty(sizes: npt.NDArray[np.int64]) -> None:
    if not (sizes > 0).any():
        raise PlanError(
            "T155", "no client has any training example", where="$.population", fix="Check the data."
        )


def _refuse(plan: Plan) -> None:
    if plan.codec.spec.size > 2**31:
        raise PlanError("T154", f"the model has {plan.parameters} parameters", fix="At most 2^31 travel.")
    if plan.secure is None and plan.resolution > _COARSEST:  # a ring is coarser, and has had its own check
        raise PlanError(
            "T151",
            f"the exact sum of {plan.grid.clients} updates would round each to {plan.resolution:.1g}",
            where="$.weighting.cap",
            fix="Lower the cap, weigh uniformly, invite fewer clients, or set a clipping bound.",
        )
    _refuse_unknown_metrics(plan.job)
    expected = plan.job.cohort.expected(plan.population)
    if expected < 1:
        raise PlanError(
            "T156",
            f"the expected cohort is {expected:.2g} clients: most rounds would have nobody",
            where="$.cohort",
            fix="Raise the rate until at least one client is expected.",
        )
    # The cohort's own check, before anything is started.
    plan.job.cohort.sample(plan.population, np.random.default_rng(0))


def _refuse_unknown_metrics(job: Job) -> None:
    from tacit.training.metrics import metric_name  # late: it imports torch

    known = ["loss", *map(metric_name, job.task.metrics)]
    for index, rule in enumerate(job.stop):
        if rule.metric not in known:
            raise PlanError(
                "T157",
                f"the task measures no `{rule.metric}`{nearest(rule.metric, known)}",
                where=f"$.stop[{index}].metric",
                fix=f"One of: {', '.join(known)}.",
            )
