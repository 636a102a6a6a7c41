"""Membership inference finds what a model has memorised, and nothing else."""

import numpy as np
import pytest
from torch import nn

from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.privacy.audit import roc
from tacit.training import ClientWork, Task
from tacit.training.flat import FlatModel, build
from tacit.training.membership import membership_scores, record_losses
from tacit.training.torch_executor import TorchExecutor


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 3))


def records(count: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    return Examples.of(rng.standard_normal((count, 20)).astype(np.float32), rng.integers(0, 3, count))


def trained(task: Task, flat: FlatModel, examples: Examples, epochs: int) -> np.ndarray:
    """Train on labels without any rule: what the model knows then, it knows by heart."""
    start = flat.vector()
    executor = TorchExecutor(task, flat, LocalSGD(lr=0.2, epochs=epochs, batch_size=10), LocalTerms(), 0)
    update = executor.train(start, [ClientWork("ann", examples, 1)]).rows[0]
    return start + update[: len(start)]


def test_what_a_model_has_learned_by_heart_is_found() -> None:
    task, everybody = Task(model=model), records(200, seed=0)
    included = np.random.default_rng(1).random(200) < 0.5
    flat = build(task, 0)
    initial = flat.vector()
    vector = trained(task, flat, everybody.take(included), epochs=40)
    learned = roc(membership_scores(task, flat, vector, everybody), included)
    fresh = roc(membership_scores(task, flat, initial, everybody), included)
    assert learned is not None
    assert learned.auc > 0.95
    assert learned.advantage > 0.8
    assert fresh is not None
    assert fresh.auc == pytest.approx(0.5, abs=0.12)  # five standard errors


def test_a_reference_makes_up_for_records_that_are_easy_for_everybody() -> None:
    task = Task(model=model)
    flat = build(task, 0)
    rng = np.random.default_rng(2)
    public, everybody = records(300, seed=3), records(300, seed=4)
    teacher = rng.standard_normal((20, 3))  # a rule to be learned, so that some records are easy
    public = Examples(public.inputs, (public.inputs[0] @ teacher).argmax(axis=1))
    noisy = np.where(
        rng.random(300) < 0.3, rng.integers(0, 3, 300), (everybody.inputs[0] @ teacher).argmax(axis=1)
    )
    everybody, included = Examples(everybody.inputs, noisy), rng.random(300) < 0.5
    start = flat.vector()
    reference = trained(task, flat, public, epochs=30)
    flat.load_vector(start)
    both = Examples.of(
        np.concatenate([public.inputs[0], everybody.inputs[0][included]]),
        np.concatenate([public.target, everybody.target[included]]),
    )
    vector = trained(task, flat, both, epochs=30)
    plain = roc(membership_scores(task, flat, vector, everybody), included)
    compared = roc(membership_scores(task, flat, vector, everybody, reference), included)
    assert plain is not None
    assert compared is not None
    # Not more are found on the whole, but far more of those who can be named without a false alarm.
    assert compared.found[1] > plain.found[1] + 0.04


def test_the_losses_of_single_records_are_those_of_the_task() -> None:
    task = Task(model=model)
    flat, examples = build(task, 0), records(300, seed=5)
    losses = record_losses(task, flat, flat.vector(), examples)
    from tacit.training.evaluate import Evaluator

    assert losses.mean() == pytest.approx(Evaluator(task, flat).measure(examples)["loss"], rel=1e-5)


def test_losses_that_overflow_neither_win_nor_spoil_the_others() -> None:
    task = Task(model=model)
    flat = build(task, 0)
    broken = np.full_like(flat.vector(), np.inf)
    scores = membership_scores(task, flat, flat.vector(), records(5, seed=6), broken)
    assert np.isfinite(scores).all()


def test_a_curve_counts_equal_scores_as_one() -> None:
    included = np.arange(10) % 2 == 0
    found = roc(np.zeros(10), included)
    assert found is not None
    assert found.auc == 0.5
    assert found.found == (0.0, 0.0)
    assert found.points == ((0.0, 0.0), (1.0, 1.0))


def test_a_curve_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(7)
    scores, included = rng.integers(0, 20, 500).astype(float), rng.random(500) < 0.3
    found = roc(scores, included)
    assert found is not None
    assert found.auc == pytest.approx(roc_auc_score(included, scores))
    assert (found.members, found.others) == (included.sum(), (~included).sum())


def test_without_members_there_is_no_curve() -> None:
    assert roc(np.ones(3), np.zeros(3, bool)) is None
