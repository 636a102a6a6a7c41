"""The plan: its figures against hand computation, and what it refuses."""

import numpy as np
import pytest
from torch import nn

from tacit.algorithms import FedAvg
from tacit.codec import ClipL2, Weigh
from tacit.core.cohort import All, Cohort, FixedSize, Poisson
from tacit.core.errors import PlanError
from tacit.core.layout import Layout
from tacit.core.local import LocalSGD
from tacit.job import Job, Plan, make_plan, model_seed
from tacit.training import Task
from tacit.training.flat import build

HEADER = 16


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Linear(32, 10))


def job(cohort: Cohort = All(), local: LocalSGD = LocalSGD(lr=0.1), **more: object) -> Job:
    task = more.pop("task", Task(model=model))
    return Job(name="x", task=task, algorithm=FedAvg(local=local), cohort=cohort, rounds=7, **more)  # type: ignore[arg-type]


def planned(made: Job, sizes: list[int], layout: Layout | None = None) -> Plan:
    return make_plan(made, layout or build(made.task, 0).layout, np.array(sizes))


def test_bytes_are_a_header_and_four_for_each_parameter_buffer_metric_and_weight() -> None:
    parameters = 64 * 32 + 32 + 32 + 32 + 32 * 10 + 10
    plan = planned(job(), [10] * 5)
    assert plan.parameters == parameters
    assert plan.bytes_up_per_client == HEADER + 4 * (parameters + 64 + 1 + 1)
    assert plan.bytes_down_per_client == HEADER + 4 * (parameters + 64)
    local = planned(job(task=Task(model=model, buffers="local")), [10] * 5)
    assert local.bytes_up_per_client == HEADER + 4 * (parameters + 1 + 1)
    assert local.bytes_down_per_client == HEADER + 4 * parameters


@pytest.mark.parametrize(
    ("cohort", "updates"),
    [(All(), 50), (FixedSize(8), 8), (FixedSize(8, over_selection=2), 8), (Poisson(rate=0.1), 50)],
)
def test_bytes_of_a_round_are_those_of_the_most_updates_it_may_hold(cohort: Cohort, updates: int) -> None:
    plan = planned(job(cohort), [10] * 50)
    assert plan.as_dict()["bytes_up_per_round"] == plan.bytes_up_per_client * updates


@pytest.mark.parametrize(
    ("local", "cohort", "steps"),
    [
        (LocalSGD(lr=0.1, batch_size=10, epochs=2), All(), 2 * (1 + 2 + 3)),
        (LocalSGD(lr=0.1, batch_size=10, epochs=2), FixedSize(2), 2 * (1 + 2 + 3) / 3 * 2),
        (LocalSGD(lr=0.1, batch_size=10, epochs=2), Poisson(rate=0.5), 2 * (1 + 2 + 3) / 2),
        (LocalSGD(lr=0.1, batch_size="all", epochs=3), All(), 9),
        (LocalSGD(lr=0.1, steps=5), All(), 15),
    ],
)
def test_steps_of_a_round_follow_from_the_clients_sizes(
    local: LocalSGD, cohort: Cohort, steps: float
) -> None:
    assert planned(job(cohort, local), [5, 20, 21]).steps_per_round == pytest.approx(steps)


def test_figures_count_clients_and_examples() -> None:
    figures = planned(job(FixedSize(2)), [5, 0, 20, 0]).as_dict()
    assert (figures["population"], figures["examples"], figures["clients_without_data"]) == (4, 25, 2)
    assert (figures["cohort"], figures["rounds"]) == (2, 7)
    assert "not private" in figures["privacy"]


@pytest.mark.parametrize(("parameters", "group"), [(100, 64), (2**20 - 2, 2), (2**21 - 2, 1), (2**25, 1)])
def test_a_groups_rows_take_eight_mebibytes_at_most(parameters: int, group: int) -> None:
    assert planned(job(), [1] * 3, Layout.of(parameters={"w": (parameters,)})).group == group


def test_memory_grows_with_workers_and_with_the_model() -> None:
    small, large = (
        planned(job(), [1] * 3, Layout.of(parameters={"w": (size,)})) for size in (1000, 100_000_000)
    )
    assert small.memory_mib(1) < small.memory_mib(2) < large.memory_mib(1)
    assert large.memory_mib(1) > 4 * 4 * 100_000_000 / 2**20


def test_blocks_compile_to_clip_then_weigh() -> None:
    stages = planned(job(clipping_bound=2.0, weighting=Weigh(cap=9)), [1] * 3).codec.chain.stages
    assert stages == (ClipL2(bound=2.0), Weigh(cap=9))


def test_the_grid_does_not_follow_from_anybodys_data() -> None:
    assert planned(job(), [3, 50]).codec == planned(job(), [7, 7]).codec
    assert planned(job(), [3, 50]).grid == planned(job(), [7, 7]).grid


def test_a_sum_that_would_be_too_coarse_is_refused() -> None:
    heavy = job(weighting=Weigh(cap=2**20))
    assert planned(heavy, [2**20] * 2**12).resolution == 2**-20
    with pytest.raises(PlanError, match="T151"):
        planned(heavy, [2**20] * 2**13)
    assert planned(job(weighting=Weigh(by="uniform")), [2**20] * 2**13).resolution < 2**-30


def test_the_grid_holds_as_many_clients_as_a_round_may() -> None:
    for cohort, clients in (
        (All(), 50),
        (FixedSize(8), 8),
        (FixedSize(8, over_selection=3), 8),
        (Poisson(rate=0.1), 50),
    ):
        assert planned(job(cohort), [1] * 50).grid.clients == clients


def test_run_settings_say_what_the_job_says() -> None:
    made = job(FixedSize(2), quorum=0.7, deadline_s=5.0, partial_work=False)
    plan = planned(made, [1] * 3)
    settings = plan.run_settings()
    assert (settings.job, settings.seed, settings.rounds) == ("x", 0, 7)
    assert (settings.policy.quorum, settings.policy.deadline_s, settings.policy.partial_work) == (
        0.7,
        5.0,
        False,
    )
    assert (settings.codec, settings.grid, settings.rule) == (plan.codec, plan.grid, plan.rule)
    assert (settings.optimizer, settings.cohort) == (made.algorithm.server, made.cohort)


def test_the_models_seed_follows_from_the_jobs() -> None:
    assert model_seed(job(seed=1)) == model_seed(job(seed=1)) != model_seed(job(seed=2))


# --- what is refused ---------------------------------------------------------------------------


def refusal(made: Job, sizes: list[int], layout: Layout | None = None) -> PlanError:
    with pytest.raises(PlanError) as caught:
        planned(made, sizes, layout)
    return caught.value


def test_a_cohort_larger_than_the_population_is_refused() -> None:
    error = refusal(job(FixedSize(4)), [1] * 3)
    assert (error.code, error.where) == ("T152", "$.cohort.count")


def test_a_model_beyond_two_to_the_31_is_refused() -> None:
    assert refusal(job(), [1] * 3, Layout.of(parameters={"w": (2**31,)})).code == "T154"
    planned(job(), [1] * 3, Layout.of(parameters={"w": (2**31 - 1,)}))  # the metric makes it full


@pytest.mark.parametrize("sizes", [[], [0, 0, 0]])
def test_a_population_without_examples_is_refused(sizes: list[int]) -> None:
    for cohort in (All(), FixedSize(2), Poisson(rate=0.5)):
        assert refusal(job(cohort), sizes).code == "T155"
