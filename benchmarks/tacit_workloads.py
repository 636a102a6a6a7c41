"""The workloads W1 to W4 as jobs and populations of tacit; importing them does not import torch."""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

import tacit
from benchmarks.reference.workloads import WORKLOADS, UserData, Workload, cohort, load
from tacit.core.bounds import Count, Positive
from tacit.core.cohort import Indices
from tacit.core.layout import Rows
from tacit.core.part import Part
from tacit.core.randomness import generator
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Memory, Stage, StageContext, Total
from tacit.data.ids import Numbered

SEED, MOST_ROUNDS = 0, 1000


class WorkloadCohort(Part, frozen=True, tag="benchmark_workload_cohort"):
    """Invite whom the workload invites: round 1 has its cohort 0, and so on."""

    name: str

    def sample(self, population: int, rng: np.random.Generator) -> Indices:
        # A cohort is told no round number, but every round's generator begins with a number of its own.
        # The plan's trial draw has none of them and gets the first cohort.
        number = _rounds_by_first_draw().get(_first_draw(rng), 1)
        return np.sort(cohort(self.name, number - 1)).astype(np.int64)

    def wanted(self, invited: int) -> int:
        return invited

    def largest(self, population: int) -> int:
        return WORKLOADS[self.name].cohort

    def expected(self, population: int) -> float:
        return WORKLOADS[self.name].cohort


@cache
def _rounds_by_first_draw() -> dict[int, int]:
    return {_first_draw(generator(SEED, number, "cohort")): number for number in range(1, MOST_ROUNDS + 1)}


def _first_draw(rng: np.random.Generator) -> int:
    return int(rng.integers(2**63))


@dataclass(frozen=True)
class MappedHoldings:
    """Users whose examples lie one after another in memory-mapped files; only positions are held here."""

    data: UserData

    @cached_property
    def ids(self) -> Numbered:
        return Numbered(len(self.data.offsets) - 1)

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        return self.data.sizes().astype(np.int64)

    @property
    def has_holdout(self) -> bool:
        return False

    def train(self, index: int) -> tacit.Examples:
        x, y, offsets = map(np.asarray, self.data)  # slices of plain arrays are made in a tenth of the time
        part = slice(int(offsets[index]), int(offsets[index + 1]))
        return tacit.Examples((x[part],), y[part])

    def holdout(self, index: int) -> None:
        return None

    def target(self, index: int) -> npt.NDArray[np.int64]:
        return self.data.user(index)[1]

    def test(self) -> None:
        return None

    @property
    def is_steady(self) -> bool:
        return True


class SeededNoise(Part, frozen=True, tag="benchmark_seeded_noise"):
    """Add Gaussian noise to the cohort's sum: what W4 costs, but no protection, as all can draw it again.

    Attributes:
        deviation: Standard deviation of the noise on every coordinate of the parameters' segment.
        first_round: Number of the first round that gets noise; those before it can be compared.
    """

    deviation: Positive
    first_round: Count = 1

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        return spec

    def encode(self, rows: Rows, memory: Memory, ctx: StageContext) -> tuple[Rows, Memory]:
        return rows, memory

    def decode(self, total: Total, sent: UpdateSpec, ctx: StageContext) -> Total:
        if ctx.round >= self.first_round:
            part = total[sent.slice("parameters")]
            noise = generator(ctx.seed, ctx.round, "noise").standard_normal(len(part), dtype=np.float32)
            part += np.multiply(noise, np.float32(self.deviation), out=noise)
        return total


def make_job(name: str) -> tacit.Job:
    """Return the workload as a job: the same model, first weights, cohorts, local steps, clip and weights."""
    from benchmarks.reference.models import make_model  # late: a process that only runs a program needs none

    workload = WORKLOADS[name]
    return tacit.Job(
        name=name,
        task=tacit.Task(model=make_model, arguments={"name": name}, loss="cross_entropy"),
        algorithm=tacit.FedAvg(local=_local(workload)),
        cohort=WorkloadCohort(name=name),
        rounds=MOST_ROUNDS,
        seed=SEED,
        weighting=tacit.Weigh(by="examples" if workload.clip is None else "uniform"),
        clipping_bound=workload.clip,
        evaluation=tacit.Evaluation(every=MOST_ROUNDS, clients=0),
    )


def make_population(name: str) -> tacit.Population:
    """Return the workload's users."""
    return tacit.Population(MappedHoldings(load(name)))


def _local(workload: Workload) -> tacit.LocalSGD:
    return tacit.LocalSGD(lr=workload.lr, batch_size=workload.batch_size, epochs=1, shuffle=False)


def stages_of(workload: Workload) -> tuple[Stage, ...]:
    """Return the stages that a workload has and no job can have; its first round is played without noise."""
    if workload.clip is None:
        return ()
    return (SeededNoise(deviation=workload.clip * workload.noise_multiplier, first_round=2),)
