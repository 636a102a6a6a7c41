"""Local training by rules: steps, epochs, momentum and the like; groups of any size; low-rank layers."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training.rules import RulesExecutor, products, stack
from tests.unit.training.rules_cases import (
    CLASSES,
    LOCAL,
    PLAIN,
    RAGGED,
    WORDS,
    as_a_stack,
    by_rules,
    by_torch,
    examples,
    executor,
    group,
    in_float64,
    in_order_of,
    is_stackable,
    linear,
    made,
    weights,
    work,
)
from tests.unit.training.rules_models import STACKED


def mixed() -> nn.Module:
    """One of everything with a rule, and a scalar parameter."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 6, 3), nn.GroupNorm(2, 6)
            self.rnn, self.last = nn.GRU(6, 5, batch_first=True), nn.Linear(5, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.norm(self.conv(x)).tanh().flatten(2).mT
            scores: Tensor = self.last(self.rnn(hidden[:, :4])[0].mean(1))
            return scores

    return Mixed()


SIZE = sum(p.numel() for p in mixed().parameters())
CORRECTION = np.random.default_rng(3).standard_normal(SIZE).astype(np.float32) / 50

SETTINGS: dict[str, tuple[dict[str, Any], LocalTerms]] = {
    "plain": ({}, PLAIN),
    "one epoch": ({"epochs": 1}, PLAIN),
    "five epochs": ({"epochs": 5}, PLAIN),
    "steps": ({"steps": 4}, PLAIN),
    "full batches": ({"batch_size": "all"}, PLAIN),
    "full batches, steps": ({"batch_size": "all", "steps": 3}, PLAIN),
    "in order": ({"shuffle": False}, PLAIN),
    "momentum": ({"momentum": 0.9}, PLAIN),
    "weight decay": ({"weight_decay": 0.1}, PLAIN),
    "clipped": ({"max_grad_norm": 0.3}, PLAIN),
    "proximal": ({}, LocalTerms(proximal=0.5)),
    "correction": ({}, LocalTerms(correction=CORRECTION)),
    "all together": (
        {"momentum": 0.7, "weight_decay": 0.05, "max_grad_norm": 0.5},
        LocalTerms(proximal=0.2, correction=CORRECTION),
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_of_local_training(name: str) -> None:
    more, terms = SETTINGS[name]
    local, works = LocalSGD(**{"lr": 0.1, "epochs": 2, "batch_size": 3, **more}), group("image")
    right = by_torch(mixed, works, local, terms)
    runner, vector, _ = executor(mixed, local, terms)
    rows = in_order_of(as_a_stack(runner, vector, works), right.clients)
    np.testing.assert_allclose(rows, right.rows, atol=1e-5, rtol=0)
    exact = in_order_of(by_rules(mixed, works, local, terms=terms, dtype=torch.float64), right.clients)
    np.testing.assert_allclose(exact, in_float64(mixed, works, local, terms), atol=1e-10, rtol=0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_stragglers_stop_early(momentum: float) -> None:
    local = LocalSGD(lr=0.2, batch_size=2, epochs=2, momentum=momentum)
    limits = (None, 1, 3, 0)
    works = [
        work(f"c{i}", examples("series", size, i), max_steps=limit)
        for i, (size, limit) in enumerate(zip(RAGGED, limits, strict=True))
    ]
    _, model = STACKED["gru"]
    runner, vector, _ = executor(model, local)
    right = by_torch(model, works, local)
    rows = in_order_of(as_a_stack(runner, vector, works), right.clients)
    np.testing.assert_allclose(rows, right.rows, atol=1e-5, rtol=0)


def test_nobody_has_time_for_a_single_step() -> None:
    works = [work(f"c{i}", examples("table", 5, i), max_steps=0) for i in range(3)]
    for several in (works, works[:1]):
        found = by_rules(wide, several, LOCAL)
        assert len(found.clients) == len(several)
        assert not found.rows.any()


@pytest.mark.parametrize("clients", [1, 2, 7])
@pytest.mark.parametrize(
    "name", ["mlp", "conv", "gru", "lstm cell", "embedding", "layer norm", "tied embedding"]
)
def test_groups_of_any_size(name: str, clients: int) -> None:
    kind, model = STACKED[name]
    works = group(kind, [1 + 3 * i % 8 for i in range(clients)])
    right = by_torch(model, works)
    np.testing.assert_allclose(
        in_order_of(by_rules(model, works), right.clients), right.rows, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_scalar_parameter(momentum: float) -> None:
    """It has no axis but that of the clients."""
    model = made(lambda m, x: m.last(m.a(x)) * m.scale, a=linear(6, 5), last=linear(5), scale=weights())
    local = LocalSGD(lr=0.1, batch_size=3, momentum=momentum, max_grad_norm=0.5 if momentum else None)
    right = by_torch(model, group(), local)
    np.testing.assert_allclose(
        in_order_of(by_rules(model, group(), local), right.clients), right.rows, atol=1e-5
    )


def test_an_idle_scalar_in_a_stack() -> None:
    model = made(lambda m, x: m.last(x), last=linear(6), idle=weights())
    for local in (LOCAL, LocalSGD(lr=0.1, batch_size=3, momentum=0.9, max_grad_norm=0.1)):
        right = by_torch(model, group(), local)
        rows = in_order_of(by_rules(model, group(), local), right.clients)
        np.testing.assert_allclose(rows, right.rows, atol=1e-5)


def test_several_inputs() -> None:
    from tacit.core.examples import Examples

    model = made(
        lambda m, words, x: m.last(torch.cat([m.emb(words).mean(1), x], 1)),
        emb=lambda: nn.Embedding(WORDS, 5),
        last=linear(11),
    )
    works = []
    for i, size in enumerate(RAGGED):
        words, x = examples("words", size, i), examples("table", size, i)
        works.append(work(f"c{i}", Examples((words.inputs[0], x.inputs[0]), x.target)))
    runner, vector, _ = executor(model)
    right = by_torch(model, works)
    rows = in_order_of(runner.train(vector, works), right.clients)
    np.testing.assert_allclose(rows, right.rows, atol=1e-5, rtol=0)
    assert is_stackable(runner)


# --- uses of one parameter in several places -----------------------------------------------------


def _read_then_written(m: Any, x: Tensor) -> Tensor:
    """The first use reads the weight on its way back, after the later ones have given it their gradients."""
    return m.last(m.a(m.a(m.a(x).tanh()).tanh()).tanh())  # type: ignore[no-any-return]


@pytest.mark.parametrize("clients", [1, 3])
def test_a_layer_used_again_reads_the_weights_of_its_own_forward_pass(clients: int) -> None:
    """With a large step the weights after an update in between would be far off."""
    model = made(_read_then_written, a=linear(6, 6), last=linear(6))
    works, local = group("table", (3,) * clients), LocalSGD(lr=5.0, batch_size=3, epochs=3)
    exact = in_order_of(by_rules(model, works, local, dtype=torch.float64), [w.client for w in works])
    np.testing.assert_allclose(exact, in_float64(model, works, local), atol=1e-9, rtol=1e-9)


def test_a_dense_layer_between_an_embedding_and_its_transpose() -> None:
    model = made(
        lambda m, x: functional.linear(m.a(m.emb(x).mean(1)), m.emb.weight)[:, :CLASSES],
        emb=lambda: nn.Embedding(WORDS, 5),
        a=linear(5, 5),
    )
    works, local = group("words"), LocalSGD(lr=0.5, batch_size=3, epochs=3)
    exact = in_order_of(by_rules(model, works, local, dtype=torch.float64), [w.client for w in works])
    np.testing.assert_allclose(exact, in_float64(model, works, local), atol=1e-9, rtol=1e-9)


# --- dense layers of low rank --------------------------------------------------------------------


@pytest.fixture
def _small_low_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "LOW_RANK_SIZE", 1)


def wide() -> nn.Module:
    """Return dense layers; what the large one writes is written over."""
    middle = nn.Linear(40, 50)
    return nn.Sequential(
        nn.Linear(6, 40), nn.Tanh(), middle, nn.LeakyReLU(inplace=True), nn.Linear(50, CLASSES)
    )


@pytest.mark.usefixtures("_small_low_rank")
@pytest.mark.parametrize(
    "local",
    [
        LocalSGD(lr=0.5, batch_size=3, epochs=2),
        LocalSGD(lr=0.5, batch_size=3, steps=4),
        LocalSGD(lr=0.5, batch_size=3, momentum=0.9),
        LocalSGD(lr=0.5, batch_size=3, epochs=9),
    ],
    ids=["ragged", "steps", "momentum", "rank too high"],
)
@pytest.mark.parametrize("clients", [1, 4])
def test_low_rank_layers(local: LocalSGD, clients: int) -> None:
    works = group("table", RAGGED[:clients])
    runner, vector, _ = executor(wide, local, dtype=torch.float64)
    train = as_a_stack if clients > 1 else RulesExecutor.train
    rows = in_order_of(train(runner, vector, works), [w.client for w in works])
    np.testing.assert_allclose(rows, in_float64(wide, works, local), atol=1e-10, rtol=0)
    is_low = runner._stack.low_rank  # noqa: SLF001
    assert set(is_low) == ({2} if not local.momentum and local.epochs < 9 else set())
    right = by_torch(wide, works, local)
    found = in_order_of(by_rules(wide, works, local), right.clients)
    np.testing.assert_allclose(found, right.rows, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("_small_low_rank")
def test_a_low_rank_layer_over_time() -> None:
    model = made(
        lambda m, x: m.last(m.b(m.a(x).tanh()).amax(1)),
        a=linear(4, 150),
        b=linear(150, 150),
        last=linear(150),
    )
    works, local = group("series"), LocalSGD(lr=0.5, batch_size=3, epochs=2)
    runner, vector, _ = executor(model, local, dtype=torch.float64)
    rows = in_order_of(runner.train(vector, works), [w.client for w in works])
    np.testing.assert_allclose(rows, in_float64(model, works, local), atol=1e-10, rtol=0)
    assert set(runner._stack.low_rank) == {2}  # noqa: SLF001


@pytest.mark.usefixtures("_small_low_rank")
def test_numbers_left_from_other_clients_do_not_reach_a_low_rank_layer() -> None:
    """The memory of factors is used again; where it is not written, zero times NaN would be NaN."""
    local = LocalSGD(lr=0.5, batch_size=3)
    damaged = group("table", (7, 7, 7))
    for each in damaged:
        each.examples.inputs[0][:] = np.nan
    runner, vector, _ = executor(wide, local)
    clean = runner.train(vector, group("table", (7, 2, 1))).rows.copy()
    assert np.isnan(runner.train(vector, damaged).rows[:, :-1]).any(axis=1).all()
    assert np.array_equal(runner.train(vector, group("table", (7, 2, 1))).rows, clean)
    assert np.isfinite(clean).all()


OTHERWISE: dict[str, Any] = {
    "used again": lambda m, h: m.b(h),
    "more rows": lambda m, h: h + m.c(torch.cat([h, h])).unflatten(0, (2, -1)).mean(0),
    "by another function": lambda m, h: h + m.b.weight.sum(),
}


@pytest.mark.usefixtures("_small_low_rank")
@pytest.mark.parametrize("name", OTHERWISE)
@pytest.mark.parametrize("clients", [1, 3])
def test_a_low_rank_layer_that_some_data_uses_otherwise(name: str, clients: int) -> None:
    """Control flow that the made-up examples do not show: such clients are trained without factors."""

    def run(m: Any, x: Tensor) -> Tensor:
        hidden = m.b(m.a(x).tanh())
        if bool((x > 2).any()):  # nothing made up is so large
            hidden = OTHERWISE[name](m, hidden)
        elif name == "more rows":
            hidden = hidden + m.c(hidden)
        return m.last(hidden)  # type: ignore[no-any-return]

    model = made(run, a=linear(6, 40), b=linear(40, 40), c=linear(40, 40), last=linear(40))
    works, local = group("table", (5, 6, 5)[:clients]), LocalSGD(lr=0.1, batch_size=3)
    works[0].examples.inputs[0][:] = 3.0
    runner, vector, _ = executor(model, local, dtype=torch.float64)
    kept = vector.copy()
    rows = in_order_of(runner.train(vector, works), [w.client for w in works])
    np.testing.assert_allclose(rows, in_float64(model, works, local), atol=1e-10, rtol=0)
    assert np.array_equal(vector, kept)


@pytest.mark.parametrize("clients", [1, 4])
@pytest.mark.parametrize("size", [1, 1 << 40], ids=["low rank", "full"])
def test_large_products_are_as_exact_as_torchs(
    monkeypatch: pytest.MonkeyPatch, size: int, clients: int
) -> None:
    """They have a matrix kernel of their own, which small ones do not pay for."""
    monkeypatch.setattr(products, "_LARGE", 1)
    monkeypatch.setattr(stack, "LOW_RANK_SIZE", size)
    for kind, model in (("table", wide), STACKED["dense over time"], STACKED["no bias"]):
        works = group(kind, RAGGED[:clients])
        right = by_torch(model, works)
        rows = in_order_of(by_rules(model, works), right.clients)
        np.testing.assert_allclose(rows, right.rows, atol=1e-5, rtol=0)


def _never(m: Any, x: Tensor) -> Tensor:
    return m.last(x)  # type: ignore[no-any-return]


def test_the_global_vector_is_left_alone() -> None:
    for model in (made(_never, last=linear(6)), wide):
        runner, vector, _ = executor(model)
        before = vector.copy()
        runner.train(vector, group())
        runner.train(vector, group()[:1])
        assert np.array_equal(vector, before)
