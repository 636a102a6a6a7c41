"""What a set of clients says together."""

import math

import numpy as np
import pytest

from tacit.core.errors import DataError
from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.metrics import higher_is_better, summarise, weighted_mean


def values(count: int) -> dict[str, float]:
    return {f"client-{i}": float(i) for i in range(count)}


def test_the_mean_over_clients_is_unweighted_and_the_spread_is_theirs() -> None:
    summary = summarise({"a": 1.0, "b": 3.0, "c": 8.0}, higher_is_better=True)
    assert summary is not None
    assert (summary.mean, summary.clients) == (4.0, 3)
    assert summary.spread == pytest.approx(np.std([1.0, 3.0, 8.0]))


def test_the_worst_tenth_lies_at_the_end_that_is_worse() -> None:
    high, low = (summarise(values(30), higher_is_better=better) for better in (True, False))
    assert high is not None
    assert low is not None
    assert high.worst_10 == np.mean([0, 1, 2])
    assert low.worst_10 == np.mean([29, 28, 27])


def test_the_worst_tenth_is_at_least_one_client() -> None:
    summary = summarise({"a": 0.5}, higher_is_better=False)
    assert summary is not None
    assert (summary.worst_10, summary.spread) == (0.5, 0.0)


def test_what_is_not_finite_is_left_out() -> None:
    summary = summarise({"a": 1.0, "b": math.nan, "c": math.inf}, higher_is_better=True)
    assert summary is not None
    assert (summary.mean, summary.clients) == (1.0, 1)
    assert summarise({"a": math.nan}, higher_is_better=True) is None
    assert summarise({}, higher_is_better=True) is None


def test_a_weighted_mean_is_weighted() -> None:
    assert weighted_mean({"a": 1.0, "b": 4.0}, {"a": 2.0, "b": 1.0}) == 2.0
    assert math.isnan(weighted_mean({"a": 1.0}, {"a": 0.0}))
    assert math.isnan(weighted_mean({}, {}))


@pytest.mark.parametrize(
    ("metric", "higher"),
    [("accuracy", True), ("auc", True), ("loss", False), ("my_Loss", False), ("mse", False), ("mae", False)],
)
def test_losses_and_errors_are_better_when_low(metric: str, higher: bool) -> None:
    assert higher_is_better(metric) is higher


def test_examples_are_taken_together() -> None:
    examples = Examples.of((np.arange(4), np.arange(8).reshape(4, 2)), np.arange(4) * 10)
    taken = examples.take(np.array([3, 1]))
    assert len(taken) == 2
    assert taken.inputs[1].tolist() == [[6, 7], [2, 3]]
    assert taken.target.tolist() == [30, 10]


def test_examples_of_different_lengths_are_refused() -> None:
    with pytest.raises(DataError, match=r"\[2, 3\]") as caught:
        Examples.of(np.zeros(3), np.zeros(2))
    assert caught.value.code == "T201"


@pytest.mark.parametrize(
    ("settings", "examples", "steps"),
    [
        ({"batch_size": 10}, 25, 3),
        ({"batch_size": 10, "epochs": 4}, 25, 12),
        ({"batch_size": "all", "epochs": 4}, 25, 4),
        ({"batch_size": 10, "steps": 7, "epochs": 4}, 25, 7),
        ({"batch_size": 100}, 25, 1),
        ({"batch_size": 10}, 0, 0),
        ({"batch_size": "all"}, 0, 0),
    ],
)
def test_steps_follow_from_size_batch_and_epochs(settings: dict[str, int], examples: int, steps: int) -> None:
    assert LocalSGD(lr=0.1, **settings).total_steps(examples) == steps
