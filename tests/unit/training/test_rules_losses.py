"""The loss of every client of a stack, padding left out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.training import losses
from tacit.training.losses import IGNORED, WIDE
from tests.unit.training.rules_cases import (
    CLASSES,
    LOCAL,
    RAGGED,
    Factory,
    as_a_stack,
    by_rules,
    by_torch,
    executor,
    group,
    in_float64,
    in_order_of,
    is_stackable,
    linear,
    made,
    work,
)


def scores(out: int = CLASSES) -> Factory:
    return lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, out))


def over_time(classes: int, *, classes_last: bool = True) -> Factory:
    """Return a model of series whose logits have shape (N, 5, classes) or (N, classes, 5)."""

    def run(m: Any, x: Tensor) -> Tensor:
        logits = m.last(m.a(x).tanh())
        return logits if classes_last else logits.mT  # type: ignore[no-any-return]

    return made(run, a=linear(4, 5), last=linear(5, classes))


def works(draw: Callable[[np.random.Generator, int], np.ndarray], *, series: bool = False) -> list[Any]:
    """Return clients whose targets are drawn by a function of a generator and their number."""
    found = []
    for number, size in enumerate(RAGGED):
        rng = np.random.default_rng(number)
        x = rng.standard_normal((size, 5, 4) if series else (size, 6)).astype(np.float32)
        found.append(work(f"c{number}", Examples.of(x, draw(rng, size))))
    return found


def check(model: Factory, clients: list[Any], loss: Any, local: LocalSGD = LOCAL) -> None:
    """Compare a stack with torch, and with the plain loop in float64."""
    runner, vector, _ = executor(model, local, loss=loss)
    found, right = as_a_stack(runner, vector, clients), by_torch(model, clients, local, loss=loss)
    np.testing.assert_allclose(in_order_of(found, right.clients), right.rows, atol=1e-5, rtol=1e-5)
    assert is_stackable(runner)
    exact = by_rules(model, clients, local, loss=loss, dtype=torch.float64)
    exactly = in_float64(model, clients, local, loss=loss)
    np.testing.assert_allclose(in_order_of(exact, right.clients), exactly, atol=1e-10, rtol=0)
    assert len(right.clients) == len(clients)
    assert np.abs(exactly[:, :-1]).max() > 1e-3


@pytest.mark.parametrize("name", ["mse", "l1", "huber"])
@pytest.mark.parametrize("out", [1, 3])
@pytest.mark.parametrize("by_name", [True, False])
def test_losses_of_numbers(name: str, out: int, by_name: bool) -> None:
    clients = works(lambda rng, size: rng.standard_normal((size, out)).astype(np.float32) * 2)
    check(scores(out), clients, name if by_name else losses.LOSSES[name])


@pytest.mark.parametrize("flat", [True, False])
def test_one_number_for_each_example(flat: bool) -> None:
    model = made(lambda m, x: m.last(x).squeeze(-1), last=linear(6, 1)) if flat else scores(1)
    check(model, works(lambda rng, size: rng.standard_normal(size)), "mse")
    check(model, works(lambda rng, size: rng.integers(0, 2, size)), "binary_cross_entropy")


def test_squeezed_outputs_of_a_batch_of_one() -> None:
    check(
        made(lambda m, x: m.last(x).squeeze(), last=linear(6, 1)),
        works(lambda rng, size: rng.random(size)),
        "mse",
    )


def test_many_labels_at_once() -> None:
    clients = works(lambda rng, size: rng.integers(0, 2, (size, 3)))
    check(scores(3), clients, "binary_cross_entropy")
    check(scores(3), clients, losses.binary_cross_entropy)


@pytest.mark.parametrize("loss", ["cross_entropy", losses.cross_entropy, functional.cross_entropy])
def test_cross_entropy_of_classes(loss: Any) -> None:
    check(scores(), works(lambda rng, size: rng.integers(0, CLASSES, size)), loss)


def _some_ignored(rng: np.random.Generator, size: int) -> np.ndarray:
    labels = rng.integers(0, CLASSES, (size, 5))
    labels[rng.random((size, 5)) < 0.4] = IGNORED
    return labels


@pytest.mark.parametrize("classes_last", [True, False])
def test_cross_entropy_of_sequences_with_padding(classes_last: bool) -> None:
    check(over_time(CLASSES, classes_last=classes_last), works(_some_ignored, series=True), "cross_entropy")


def test_flattened_sequences_under_a_loss_of_ones_own() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets.flatten())

    model = made(lambda m, x: m.last(m.a(x).tanh()).flatten(0, 1), a=linear(4, 5), last=linear(5))
    check(model, works(lambda rng, size: rng.integers(0, CLASSES, (size, 5)), series=True), loss)


@pytest.mark.parametrize("classes", [CLASSES, WIDE])
def test_sequences_of_nothing_but_padding_teach_nothing(classes: int) -> None:
    clients = works(lambda rng, size: np.full((size, 5), IGNORED), series=True)
    clients[1] = works(_some_ignored, series=True)[1]
    found = by_rules(over_time(classes), clients)
    right = by_torch(over_time(classes), clients)
    rows = in_order_of(found, right.clients)
    np.testing.assert_allclose(rows, right.rows, atol=1e-5, rtol=1e-5)
    assert rows[1].any()
    assert not rows[[0, 2, 3]].any()


def test_a_batch_of_nothing_but_ignored_classes_is_refused_as_by_torch() -> None:
    clients = works(lambda rng, size: rng.integers(0, CLASSES, size))
    clients[2].examples.target[:] = IGNORED
    found, right = by_rules(scores(), clients), by_torch(scores(), clients)
    rows = in_order_of(found, right.clients)
    np.testing.assert_allclose(rows[[0, 1, 3]], right.rows[[0, 1, 3]], atol=1e-5, rtol=0)
    assert np.isnan(rows[2]).any()
    assert np.isnan(right.rows[2]).any()


def _wide_labels(rng: np.random.Generator, size: int) -> np.ndarray:
    labels = rng.integers(0, WIDE + 6, size)
    labels[rng.random(size) < 0.3] = IGNORED
    return labels


@pytest.mark.parametrize("wrap", [nn.Identity, lambda: nn.Flatten(1), nn.Tanh])
def test_many_classes(wrap: Factory) -> None:
    """The softmax takes the place of logits that a dense layer wrote, and of no others."""
    model = made(
        lambda m, x: m.wrap(m.last(m.a(x).tanh())), a=linear(6, 5), last=linear(5, WIDE + 6), wrap=wrap
    )
    check(model, works(_wide_labels), "cross_entropy")


def test_many_classes_over_time() -> None:
    check(
        over_time(WIDE),
        works(lambda rng, size: rng.integers(0, WIDE, (size, 5)), series=True),
        "cross_entropy",
    )


def test_logits_that_the_model_reads_itself_are_as_it_wrote_them() -> None:
    """A penalty on the logits, and the logits again: the softmax must not take their place."""

    def run(m: Any, x: Tensor) -> Tensor:
        logits = m.last(x)
        return logits + logits.square().mean(-1, keepdim=True)  # type: ignore[no-any-return]

    check(
        made(run, last=linear(6, WIDE)), works(lambda rng, size: rng.integers(0, WIDE, size)), "cross_entropy"
    )


@pytest.mark.parametrize("classes", [CLASSES, WIDE])
def test_very_sure_and_very_wrong(classes: int) -> None:
    """Probabilities too small for a float: the gradient is right; so is the loss, up to where it is cut."""
    model = made(lambda m, x: m.last(x), last=linear(6, classes))
    clients = works(lambda rng, size: rng.integers(0, classes, size))
    for each in clients:
        each.examples.inputs[0][:] *= 60
    local = LocalSGD(lr=1e-4, batch_size=3)
    found = in_order_of(by_rules(model, clients, local), [w.client for w in clients])
    right = by_torch(model, clients, local).rows
    np.testing.assert_allclose(found[:, :-1], right[:, :-1], atol=1e-5, rtol=0)
    if classes == CLASSES:
        np.testing.assert_allclose(found[:, -1], right[:, -1], rtol=1e-5)
    else:
        assert (found[:, -1] <= right[:, -1] + 1e-3).all()


@pytest.mark.parametrize("name", ["mse", "l1", "huber", "binary_cross_entropy"])
def test_an_infinite_target_fails_as_under_torch(name: str) -> None:
    """Beside others its last batch is padded with its last example: an infinite loss of weight zero."""
    clients = works(lambda rng, size: rng.random((size, 1)).astype(np.float32))
    clients[1].examples.target[-1] = np.inf
    local = LocalSGD(lr=0.2, batch_size=3, shuffle=False)
    found, right = (
        by_rules(scores(1), clients, local, loss=name),
        by_torch(scores(1), clients, local, loss=name),
    )
    rows = in_order_of(found, right.clients)
    finite = np.isfinite(right.rows).all(axis=1)
    assert finite[1] == (name in ("l1", "huber"))  # their slope is finite, and the loss is cut
    assert np.array_equal(np.isfinite(rows).all(axis=1), finite)
    np.testing.assert_allclose(rows[finite], right.rows[finite], atol=1e-5, rtol=1e-5)


def _twice_read(outputs: Tensor, targets: Tensor) -> Tensor:
    picked = outputs.gather(1, targets[:, None])
    return -(picked.log().mean() - outputs.square().sum(1).mean())


@pytest.mark.parametrize("last", [lambda: nn.Softmax(-1), nn.Sigmoid])
def test_probabilities_under_a_loss_of_ones_own(last: Factory) -> None:
    model: Factory = lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, CLASSES), last())  # noqa: E731
    check(model, works(lambda rng, size: rng.integers(0, CLASSES, size)), _twice_read)


def test_a_loss_of_one_element_counts_as_a_number() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)[None]

    found, right = by_rules(scores(), group(), loss=loss), by_torch(scores(), group(), loss=loss)
    np.testing.assert_allclose(in_order_of(found, right.clients), right.rows, atol=1e-5, rtol=0)


@pytest.mark.parametrize("detached", [True, False])
def test_outputs_that_only_the_loss_understands(detached: bool) -> None:
    """A model that hands out a pair, one of them its own weights."""

    def loss(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        weight = outputs[1].detach() if detached else outputs[1]
        return functional.cross_entropy(outputs[0], targets) * (1 + weight.square().sum())

    model = made(lambda m, x: (m.last(x), m.last.weight), last=linear(6))
    found, right = by_rules(model, group(), loss=loss), by_torch(model, group(), loss=loss)  # type: ignore[arg-type]
    np.testing.assert_allclose(in_order_of(found, right.clients), right.rows, atol=1e-5, rtol=0)
    assert len(right.clients) == len(RAGGED)


def test_a_loss_that_draws_numbers_draws_them_as_under_torch() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs + torch.randn(outputs.shape), targets)

    found, right = by_rules(scores(), group(), loss=loss), by_torch(scores(), group(), loss=loss)
    np.testing.assert_allclose(in_order_of(found, right.clients), right.rows, atol=1e-5, rtol=0)


def test_a_loss_that_draws_numbers_now_and_then() -> None:
    """Where the made-up examples do not show it, the stack does, and is trained again one by one."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        noise = torch.randn(outputs.shape) if len(targets) == 1 else 0.0
        return functional.cross_entropy(outputs + noise, targets)

    runner, vector, _ = executor(scores(), loss=loss)
    right = by_torch(scores(), group(), loss=loss)
    rows = in_order_of(runner.train(vector, group()), right.clients)
    np.testing.assert_allclose(rows, right.rows, atol=1e-5, rtol=0)
    assert is_stackable(runner)


@pytest.mark.parametrize("shape", [(3,), (3, 6), (3, 5, 1)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_labels_that_do_not_fit_are_refused_as_by_torch(shape: tuple[int, ...], batch_size: int) -> None:
    x = np.zeros((3, 5, 4), dtype=np.float32)
    clients = [
        work("a", Examples.of(x, np.zeros(shape, dtype=int))),
        work("b", Examples.of(x, np.zeros((3, 5), int))),
    ]
    local = LocalSGD(lr=0.1, batch_size=batch_size)
    found, right = by_rules(over_time(CLASSES), clients, local), by_torch(over_time(CLASSES), clients, local)
    assert (found.clients, set(found.failures)) == (right.clients, set(right.failures)) == (("b",), {"a"})
