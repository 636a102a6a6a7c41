"""Metrics and evaluation: right values, right weights, whatever the batches."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from tacit.core.errors import ConfigError
from tacit.core.examples import Examples
from tacit.training import Task
from tacit.training.evaluate import Evaluator
from tacit.training.flat import build
from tacit.training.metrics import Meter


class Identity(nn.Module):
    """Says what it is given; its one parameter plays no part."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.0 * self.unused


def measured(
    outputs: object, targets: object, *metrics: object, loss: object = "cross_entropy"
) -> dict[str, float]:
    task = Task(model=Identity, loss=loss, metrics=metrics)  # type: ignore[arg-type]
    evaluator = Evaluator(task, build(task, 0))
    evaluator.load(np.zeros(1, dtype=np.float32))
    return evaluator.measure(Examples.of(np.asarray(outputs, dtype=np.float32), np.asarray(targets)))


def largest_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.reshape(targets.shape) - targets).abs().max()


def bias(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.reshape(targets.shape) - targets).mean()


@pytest.mark.parametrize("count", [1, 511, 512, 513, 1030])
def test_a_ragged_last_batch_weighs_by_its_examples(count: int) -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((count, 6)) * 2, rng.integers(0, 6, count)
    logits[-1] *= 20  # the short batch is unlike the others
    found = measured(logits, labels, "accuracy", "top3_accuracy", "top5_accuracy")
    ranks = (logits.astype(np.float32) > logits.astype(np.float32)[np.arange(count), labels][:, None]).sum(
        axis=1
    )
    assert found["accuracy"] == pytest.approx(np.mean(ranks < 1))
    assert found["top3_accuracy"] == pytest.approx(np.mean(ranks < 3))
    assert found["top5_accuracy"] == pytest.approx(np.mean(ranks < 5))
    wanted = nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels)).item()
    assert found["loss"] == pytest.approx(wanted, rel=1e-5)
    assert list(found) == ["loss", "accuracy", "top3_accuracy", "top5_accuracy"]


@pytest.mark.parametrize("count", [5, 40])
def test_padding_counts_in_no_metric_and_tokens_weigh_alike_over_batches(count: int) -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.standard_normal((count, 7, 4)) * 3, rng.integers(0, 4, (count, 7))
    labels[rng.random((count, 7)) < 0.5] = -100
    labels[-1] = -100
    labels[-1, 0] = 2
    found = measured(logits, labels, "accuracy")
    kept = labels != -100
    assert found["accuracy"] == pytest.approx(np.mean(logits.argmax(-1)[kept] == labels[kept]))
    wanted = nn.functional.cross_entropy(torch.tensor(logits[kept]), torch.tensor(labels[kept])).item()
    assert found["loss"] == pytest.approx(wanted, rel=1e-5)


def test_a_batch_of_nothing_but_padding_spoils_no_mean() -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.standard_normal((64, 3, 4)), rng.integers(0, 4, (64, 3))
    labels[32:] = -100  # the whole second batch of sequences
    found = measured(logits, labels, "accuracy")
    assert found == pytest.approx(measured(logits[:32], labels[:32], "accuracy"))


def test_torchs_own_shape_of_sequences_gives_the_same_metrics() -> None:
    rng = np.random.default_rng(2)
    logits, labels = rng.standard_normal((9, 7, 5)), rng.integers(0, 5, (9, 7))
    labels[:, 5:] = -100
    last = measured(logits, labels, "accuracy", "top3_accuracy")
    assert measured(np.moveaxis(logits, -1, 1), labels, "accuracy", "top3_accuracy") == pytest.approx(last)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.bool_, np.uint8])
def test_one_logit_says_class_one_if_it_is_positive(shape: tuple[int, ...], dtype: type) -> None:
    logits, labels = np.array([-1.0, 2.0, 0.5, -3.0, 1.0]), np.array([0, 1, 0, 1, 1]).astype(dtype)
    found = measured(logits.reshape(shape), labels, "accuracy", loss="binary_cross_entropy")
    assert found["accuracy"] == pytest.approx(3 / 5)


@pytest.mark.parametrize("columns", [1, 2])
def test_auc_and_average_precision_are_scikit_learns_over_all_examples(columns: int) -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 700)
    scores = (rng.standard_normal(700) + labels).round(1)  # with ties
    outputs = scores[:, None] if columns == 1 else np.stack([-0.5 * scores, 0.5 * scores], axis=1)
    loss = "binary_cross_entropy" if columns == 1 else "cross_entropy"
    found = measured(outputs, labels, "auc", "average_precision", loss=loss)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert found["average_precision"] == pytest.approx(average_precision_score(labels, scores), abs=1e-6)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_one_class_alone_has_no_auc(labels: list[int]) -> None:
    found = measured(np.ones((3, 1)), labels, "auc", "average_precision", loss="binary_cross_entropy")
    assert math.isnan(found["auc"])
    assert math.isnan(found["average_precision"])


def test_scores_that_are_not_finite_have_no_auc() -> None:
    found = measured(np.array([[np.nan], [1.0]]), [0, 1], "auc", loss="binary_cross_entropy")
    assert math.isnan(found["auc"])


def test_regression_metrics_are_their_formulas_over_ragged_batches() -> None:
    rng = np.random.default_rng(4)
    outputs, targets = rng.standard_normal((600, 1)), rng.standard_normal(600).astype(np.float32)
    error = outputs[:, 0] - targets
    found = measured(outputs, targets, "mse", "mae", bias, loss="mse")
    assert found["mse"] == pytest.approx(np.mean(error**2), rel=1e-5)
    assert found["loss"] == pytest.approx(found["mse"], rel=1e-5)
    assert found["mae"] == pytest.approx(np.mean(np.abs(error)), rel=1e-5)
    assert found["bias"] == pytest.approx(np.mean(error), abs=1e-6)


def test_a_metric_of_ones_own_is_recorded_under_its_name() -> None:
    targets = np.array([[1.0], [-2.0], [0.5]])
    found = measured(np.zeros((3, 1)), targets, largest_error, "torch.nn.functional:l1_loss", loss="mse")
    assert (found["largest_error"], found["l1_loss"]) == (2.0, pytest.approx(3.5 / 3))


def test_nothing_to_measure_gives_nan_for_everything() -> None:
    found = measured(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), "accuracy", "auc", largest_error)
    assert list(found) == ["loss", "accuracy", "auc", "largest_error"]
    assert all(math.isnan(value) for value in found.values())


def test_metrics_of_one_name_are_refused_and_so_is_one_called_loss() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.mean()

    for metrics in (["accuracy", "accuracy"], [loss], [lambda o, t: o.sum(), lambda o, t: o.mean()]):
        with pytest.raises(ConfigError, match="must differ") as caught:
            Meter(metrics)
        assert caught.value.where == "$.task.metrics"


def test_an_unknown_metric_is_refused_before_anything_runs() -> None:
    task = Task(model=Identity, metrics=["acuracy"])
    with pytest.raises(ConfigError, match="acuracy") as caught:
        Evaluator(task, build(task, 0))
    assert (caught.value.code, caught.value.where) == ("T106", "$.task.metrics")


def test_measuring_changes_nothing_in_the_model_and_draws_nothing() -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))

    task = Task(model=model)
    built = build(task, 0)
    evaluator, vector = Evaluator(task, built), built.vector()
    examples = Examples.of(np.random.default_rng(0).standard_normal((20, 4)), np.arange(20) % 3)
    evaluator.load(vector)
    before = torch.get_rng_state()
    first = evaluator.measure(examples)
    assert evaluator.measure(examples) == first
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(built.vector(), vector)
