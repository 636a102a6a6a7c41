"""Laws of cohorts, server optimizers, algorithms, partitioners, stop rules and the virtual world."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tacit.algorithms import Algorithm, ServerOptimizer
from tacit.core.cohort import Cohort
from tacit.core.errors import PlanError
from tacit.core.layout import Vector
from tacit.core.local import LocalSGD
from tacit.data import Partitioner, Table
from tacit.round import Dropout, Duration, EvaluationRecord, StopRule


class Cohorts:
    """Laws of how cohorts are drawn."""

    @staticmethod
    def law_a_cohort_is_a_sorted_set_of_clients(cohort: Cohort) -> None:
        """Check: positions are distinct, ascending, inside the population, and follow from the generator."""

        @given(population=st.integers(1, 300), seed=st.integers(0, 1000))
        def law(population: int, seed: int) -> None:
            try:
                drawn = cohort.sample(population, np.random.default_rng(seed))
            except PlanError:
                return  # it says that this population is too small for it
            assert np.array_equal(drawn, np.unique(drawn))
            assert not len(drawn) or (drawn[0] >= 0 and drawn[-1] < population)
            assert np.array_equal(drawn, cohort.sample(population, np.random.default_rng(seed)))
            assert cohort.wanted(len(drawn)) <= min(len(drawn), cohort.largest(population))

        law()


class ServerOptimizers:
    """Laws of how the server moves."""

    @staticmethod
    def law_a_step_is_pure(optimizer: ServerOptimizer) -> None:
        """Check: vector and state are left alone, and the same arguments give the same step."""
        vector, update = _vectors()
        before = vector.copy()
        first, state = optimizer.step(vector, update.copy(), {})
        again, _ = optimizer.step(vector, update.copy(), {})
        kept = {name: value.copy() for name, value in state.items()}
        optimizer.step(first, update.copy(), state)
        assert np.array_equal(vector, before)
        assert np.array_equal(first, again)
        assert all(np.array_equal(state[name], kept[name]) for name in kept)

    @staticmethod
    def law_it_moves_with_the_update_in_float32(optimizer: ServerOptimizer) -> None:
        """Check: a first step goes the way of the update, and an update of zero moves nothing."""
        vector, update = _vectors()
        moved, state = optimizer.step(vector, update.copy(), {})
        assert moved.dtype == np.float32
        assert all(value.dtype == np.float32 for value in state.values())
        assert np.array_equal(np.sign(moved - vector), np.sign(update))
        still, _ = optimizer.step(vector, np.zeros_like(update), {})
        assert np.array_equal(still, vector)


class Algorithms:
    """Laws of algorithms."""

    @staticmethod
    def law_it_says_what_is_done_locally_and_how_the_server_moves(algorithm: Algorithm) -> None:
        """Check: local settings and server side are two values, and the proximal factor is not negative."""
        assert isinstance(algorithm.local, LocalSGD)
        assert isinstance(algorithm.server, ServerOptimizer)
        assert algorithm.terms().proximal >= 0


class Partitioners:
    """Laws of who holds what."""

    @staticmethod
    def law_every_example_goes_to_at_most_one_client(partitioner: Partitioner) -> None:
        """Check: no example is dealt twice, none is invented, and the same seed deals the same."""

        @given(clients=st.integers(1, 12), seed=st.integers(0, 1000))
        def law(clients: int, seed: int) -> None:
            table = _table()
            dealt = partitioner.assign(table, clients, seed)
            assert len(np.unique(dealt.order)) == len(dealt.order)
            assert dealt.order.min() >= 0
            assert dealt.order.max() < len(table)
            assert len(dealt.ids) == len(dealt.offsets) - 1
            again = partitioner.assign(table, clients, seed)
            assert np.array_equal(dealt.order, again.order)
            assert np.array_equal(dealt.offsets, again.offsets)

        law()


class StopRules:
    """Laws of stop rules."""

    @staticmethod
    def law_nothing_measured_is_no_reason_to_stop(rule: StopRule) -> None:
        """Check: without a measurement of its metric a rule lets the run go on."""
        assert rule.stop(()) is None
        assert rule.stop((EvaluationRecord(round=0), EvaluationRecord(round=1000))) is None


class Durations:
    """Laws of durations."""

    @staticmethod
    def law_durations_are_finite_and_not_negative(duration: Duration) -> None:
        """Check: every client takes some finite time."""
        normal = np.linspace(-3, 3, 7)
        seconds = duration.seconds(normal, normal[::-1].copy(), np.arange(7, dtype=np.int64))
        assert seconds.shape == (7,)
        assert np.isfinite(seconds).all()
        assert (seconds >= 0).all()


class Dropouts:
    """Laws of dropouts."""

    @staticmethod
    def law_probabilities_are_probabilities(dropout: Dropout) -> None:
        """Check: they lie between zero and one."""
        found = dropout.probability(np.linspace(0, 1, 11))
        assert found.shape == (11,)
        assert ((found >= 0) & (found <= 1)).all()


def _vectors() -> tuple[Vector, Vector]:
    rng = np.random.default_rng(0)
    return rng.standard_normal(50).astype(np.float32), rng.standard_normal(50).astype(np.float32)


def _table() -> Table:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 12, 240)
    groups = {"site": rng.integers(0, 12, 240).astype(str)}
    return Table(inputs=(rng.standard_normal((240, 2)).astype(np.float32),), target=labels, groups=groups)
