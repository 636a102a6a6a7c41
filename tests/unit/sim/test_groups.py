"""How a cohort is cut into groups: by cost, the same whoever asks, and the same after it was sent."""

import pickle
import random

import numpy as np
import pytest

import tacit
from tacit.job import Plan, make_plan, model_seed
from tacit.sim.engine import Call
from tacit.sim.groups import Cut, costs_of, groups_of
from tacit.training.flat import build
from tests.rounds import worlds

SIZES = np.array([7, 50, 3, 0, 50, 2**60, 12, 21, 8, 33])


def plan(**local: object) -> Plan:
    job = worlds.job(local=tacit.LocalSGD(lr=0.1, batch_size=10, **local))  # type: ignore[arg-type]
    return make_plan(job, build(job.task, model_seed(job)).layout, SIZES)


def calls(limits: dict[int, int] | None = None) -> list[Call]:
    return [Call(position, (limits or {}).get(position)) for position in range(len(SIZES))]


@pytest.mark.parametrize("size", [1, 3, 4, 10, 100])
def test_groups_hold_every_client_once_the_costliest_first(size: int) -> None:
    groups = groups_of(calls(), plan(), size)
    flat = [call for group in groups for call in group]
    assert sorted(flat) == calls()
    assert len(groups) == -(-len(SIZES) // size)
    assert all(1 <= len(group) <= 2 * size for group in groups)
    costs = costs_of(flat, plan())
    assert costs == sorted(costs, reverse=True)
    assert flat[0].position == 5


def test_all_groups_have_about_as_much_to_do() -> None:
    sizes = np.random.default_rng(0).lognormal(3.0, 0.8, 500).astype(np.int64)
    job = worlds.job(local=tacit.LocalSGD(lr=0.1, batch_size=10))
    many = make_plan(job, build(job.task, model_seed(job)).layout, sizes)
    groups = groups_of([Call(position) for position in range(len(sizes))], many, 100)
    work = [sum(costs_of(group, many)) + 2 * len(group) for group in groups]
    assert max(work) < 1.05 * min(work)
    assert len(groups[0]) < len(groups[-1])


@pytest.mark.parametrize("clients", [1, 2, 7, 12, 13])
def test_clients_of_one_size_make_groups_of_one_size(clients: int) -> None:
    job = worlds.job(cohort=tacit.All())
    alike = make_plan(job, build(job.task, model_seed(job)).layout, np.full(clients, 20))
    lengths = [len(g) for g in groups_of([Call(position) for position in range(clients)], alike, 4)]
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) <= 4


def test_the_partition_does_not_depend_on_the_order_of_arrival() -> None:
    shuffled = calls()
    random.Random(1).shuffle(shuffled)
    assert groups_of(shuffled, plan(), 3) == groups_of(calls(), plan(), 3)


def test_costs_are_steps_and_a_straggler_costs_what_it_will_do() -> None:
    found = costs_of(calls({1: 2, 4: 99, 5: 2**70}), plan(epochs=3))
    assert found[:5] == [3, 2, 3, 3, 15]
    assert found[5] == 2**53  # more than anybody will ever do, however much it claims
    assert costs_of(calls(), plan(steps=4)) == [4] * len(SIZES)


def test_no_calls_make_no_groups() -> None:
    assert groups_of([], plan(), 5) == []
    assert costs_of([], plan()) == []


def test_what_is_sent_to_workers_gives_the_same_calls_again() -> None:
    buffers = np.arange(3, dtype=np.float32)
    some = [
        call._replace(buffers=buffers if call.position % 4 == 1 else None) for call in calls({2: 1, 7: 2})
    ]
    groups = groups_of(some, plan(), 4)
    sent = pickle.loads(pickle.dumps(Cut.of(groups), protocol=5))
    for number, group in enumerate(groups):
        for call, again in zip(group, sent.calls(number), strict=True):
            assert again[:2] == call[:2]
            assert (again.buffers is None) == (call.buffers is None)
    assert sum(call.buffers is not None for n in range(len(groups)) for call in sent.calls(n)) == 3
    steps = [cost for group in groups for cost in costs_of(group, plan())]
    assert sent.steps(plan()).tolist() == steps
