"""What executors are tried out on: clients of the first cohort, the initial model, this machine's clock."""

import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache, cached_property

import numpy as np

from tacit.data import Population
from tacit.job import Plan
from tacit.round.server import drawn
from tacit.sim.client_data import guarded
from tacit.sim.engine import Call, recipe_of
from tacit.sim.groups import costs_of, groups_of
from tacit.training.calibrate import Calibration, draws_random_numbers
from tacit.training.executor import ClientWork, Executor
from tacit.training.executors import Recipe, build_executor
from tacit.training.flat import FlatModel
from tacit.training.functional_device import Device

Builder = Callable[[str, Recipe], Executor]
"""Builds the executor of that name; raises ``UnsupportedError`` if it cannot train the task."""

PROGRAM_EXECUTORS = ("stacked", "onnx")
"""The executors that run an exported program."""
_GIVEN_DRAWS = (*PROGRAM_EXECUTORS, "functional")  # their dropout is given its numbers

_GROUP_BYTES = 128 * 1024 * 1024  # for the rows of a group and what is computed beside them
_GROUP_BYTES_BESIDE_A_GPU = 2 * 1024**3  # likewise; it is fast only if it has much to do at once
_VECTORS = 4  # of the model's size for each client of a group
_LARGEST_GROUP = 256
_UNTIMED_GROUP = 64
_FEWEST_GROUPS = 8  # of a cohort where torch trains, which gains nothing from large ones
_COMPARED = 8  # clients
_CPU = Device()


def torch_group(plan: Plan) -> int:
    """Return the group of the torch executor: it follows from the model's size and the cohort's."""
    return min(plan.group, max(1, math.ceil(plan.job.cohort.largest(plan.population) / _FEWEST_GROUPS)))


class Trial:
    """The first cohort of a run, to try executors on before it begins.

    Args:
        plan: The job and what follows from it.
        population: All clients.
        model: The job's model; its state is overwritten by training, and restored by ``close``.
        build: Builds an executor by its name.
        device: Where an executor computes that can do so elsewhere than on the processor.
    """

    def __init__(
        self,
        plan: Plan,
        population: Population,
        model: FlatModel,
        build: Builder = build_executor,
        device: Device = _CPU,
    ) -> None:
        self._plan, self._population, self._model, self._build = plan, population, model, build
        self._device = device
        self._processes = (os.cpu_count() or 1) if device.is_cpu else 1  # that may train, at most
        self.vector = model.vector()
        self._calls = _first_cohort(plan)

    @cached_property
    def sample(self) -> list[ClientWork]:
        """Clients of the first cohort, costliest first: its ends, and its middle.

        Those whose data cannot be loaded are left out; there may be none.
        """
        size = len(self._calls)
        start = max(0, size - self._largest_group) // 2
        places = sorted({0, *range(start, min(size, start + self._largest_group)), size - 1}) if size else []
        works = []
        for place in places:
            position = self._calls[place].position
            with suppress(Exception, SystemExit):  # a client's own code may do anything
                examples = guarded(self._population.train(position))
                works.append(ClientWork(self._population.ids[position], examples, round=1))
        return works

    @cached_property
    def draws(self) -> bool:
        """Whether the model draws random numbers while it trains."""
        work = self.sample[len(self.sample) // 2]
        return draws_random_numbers(self.build("torch", {}), self.vector, work, self._plan.job.seed)

    def build(self, name: str, programs: dict[str, bytes]) -> Executor:
        """Build an executor.

        Raises:
            UnsupportedError: It cannot train this task.
        """
        example = self.sample[0].examples if self.sample else None
        return self._build(name, replace(self.recipe(programs), examples=example))

    def reference(self, name: str) -> Executor:
        """Return the plain torch executor that an executor is to be compared with.

        Raises:
            UnsupportedError: There is none: the model draws random numbers that a program cannot be given.
        """
        if name not in _GIVEN_DRAWS or not self.draws:
            return self.build("torch", {})
        from tacit.training.drawn_torch import DrawnTorchExecutor  # late: it imports what exports need

        return DrawnTorchExecutor(self.recipe({}), self.sample[0].examples)

    def recipe(self, programs: dict[str, bytes]) -> Recipe:
        """Return what executors are built from."""
        return recipe_of(self._plan, lambda: self._model, programs, self._device)

    def calibration(self) -> Calibration:
        """Return the means to time executors and to compare them with torch."""
        return Calibration(
            self.build("torch", {}),
            self.vector,
            self.sample,
            self._plan.job.algorithm.local,
            torch_group(self._plan),
            cache(self.stretch),
            # Of this process alone: what others do on this machine must not choose. But it waits for a GPU.
            time.process_time if self._device.is_cpu else time.perf_counter,
            checked=min(_COMPARED, self._plan.group),
        )

    def groups(self, name: str) -> tuple[int, ...]:
        """Return the sizes of groups to try: about powers of two, up to what memory and the cohort allow.

        Near each of them, the size that is easier to spread over the cores. For an executor that trains
        client by client there is one.
        """
        if name == "onnx":
            return (torch_group(self._plan),)
        powers = [2**power for power in range(self._largest_group.bit_length())]
        return tuple(sorted({min((power, self._even(power)), key=self.stretch) for power in powers}))

    @property
    def untimed_group(self) -> int:
        """The size of groups where none is timed: from the model, and beside a GPU from the cohort, too."""
        return self._plan.group if self._device.is_cpu else min(_UNTIMED_GROUP, self._largest_group)

    def _even(self, group: int) -> int:
        """Return a size of about that many clients that gives each core as many groups as the others."""
        rounds = max(1, round(len(self._calls) / group / self._processes))
        return min(self._largest_group, math.ceil(len(self._calls) / (rounds * self._processes)))

    def stretch(self, group: int) -> float:
        """Return how long a round takes if it is cut into groups of that size, in steps.

        It is the geometric mean over one process and one for each core: how many there will be is not asked,
        so that the model does not depend on it.
        """
        costs = [sum(costs_of(calls, self._plan)) for calls in groups_of(self._calls, self._plan, group)]
        spread = _longest(costs, self._processes)
        return math.sqrt(max(1, sum(costs)) * max(1, spread))

    def close(self) -> None:
        """Give the model its initial state back."""
        self._model.load_vector(self.vector)

    @property
    def _largest_group(self) -> int:
        most = _GROUP_BYTES if self._device.is_cpu else _GROUP_BYTES_BESIDE_A_GPU
        by_memory = most // (_VECTORS * 4 * self._plan.codec.spec.size)
        return max(1, min(_LARGEST_GROUP, by_memory, len(self._calls)))


def _first_cohort(plan: Plan) -> list[Call]:
    """Return the clients of the first cohort that have data, in the order of groups."""
    invited = np.array(drawn(plan.job.cohort, plan.population, plan.job.seed, 1), dtype=np.int64)
    positions = invited[plan.sizes[invited] > 0]
    if not len(positions):  # a Poisson cohort may be empty
        positions = np.flatnonzero(plan.sizes > 0)[: max(1, round(plan.job.cohort.expected(plan.population)))]
    calls = [Call(position) for position in positions.tolist()]
    return [call for group in groups_of(calls, plan, len(calls) or 1) for call in group]


def _longest(costs: list[int], processes: int) -> int:
    """Return the work of the busiest process when each group goes to the one that has least so far."""
    loads = [0] * processes
    for cost in costs:
        loads[loads.index(min(loads))] += cost
    return max(loads)
