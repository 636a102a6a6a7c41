"""Many clients in one call of the model's own code: each comes out as under torch, whoever is beside it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training import ClientWork, Task, Trained
from tacit.training.drawn_torch import DrawnTorchExecutor
from tacit.training.executor import METRIC_BOUND, UnsupportedError
from tacit.training.executors import Recipe, build_executor
from tacit.training.flat import build
from tacit.training.functional_device import Device
from tacit.training.functional_executor import FunctionalExecutor
from tacit.training.functional_training import StackTraining
from tests.unit.training.rules_cases import (
    CLASSES,
    PLAIN,
    SEED,
    WORDS,
    Factory,
    by_torch,
    examples,
    group,
    in_float64,
    in_order_of,
    linear,
    made,
    weights,
    work,
)
from tests.unit.training.rules_models import ALONE, STACKED

LOCAL = LocalSGD(lr=0.1, batch_size=3, epochs=2)


class WithConstants(nn.Module):
    """A mask that no state_dict holds, and a counter that each forward pass moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, CLASSES)
        self.register_buffer("mask", torch.tensor([1.0, 1, 0, 1, 1, 0]), persistent=False)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        out: Tensor = self.last(x * self.mask)
        return out


EVERY = {**STACKED, **ALONE, "constants": ("table", WithConstants)}
SECOND = Device("cpu:0", "a second processor", kept_bytes=2**20)
"""The processor by another name: what is done for a GPU is done on it."""


def executor(
    model: Factory,
    local: LocalSGD = LOCAL,
    terms: LocalTerms = PLAIN,
    loss: Any = "cross_entropy",
    device: Device = SECOND,
) -> tuple[FunctionalExecutor, np.ndarray]:
    task = Task(model=model, loss=loss)
    flat = build(task, 0)
    return FunctionalExecutor(task, flat, local, terms, SEED, device), flat.vector()


def trained(model: Factory, works: Sequence[ClientWork], local: LocalSGD = LOCAL, **more: Any) -> Trained:
    runner, vector = executor(model, local, **more)
    before = vector.copy()
    found = runner.train(vector, works)
    assert np.array_equal(vector, before)
    return found


def together(model: Factory, works: Sequence[ClientWork], local: LocalSGD = LOCAL, **more: Any) -> Trained:
    """Train a group, and make sure that nobody is trained alone instead."""
    runner, vector = executor(model, local, **more)
    calls: list[int] = []
    train = runner._stack.train  # noqa: SLF001
    runner._stack.train = lambda start, some: calls.append(len(some)) or train(start, some)  # type: ignore  # noqa: SLF001, PGH003
    found = runner.train(vector, works)
    assert calls == [len(works)]
    return found


def is_padded(runner: FunctionalExecutor) -> bool:
    """Tell what the executor has found out about its model."""
    (nature,) = runner._stack._natures.values()  # noqa: SLF001
    return nature.is_padded


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES))


def normalising() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, CLASSES))


# --- models --------------------------------------------------------------------------------------

MODELS = [
    "mlp",
    "conv",
    "conv groups",
    "max pool",
    "adaptive pool",
    "interpolated",
    "embedding",
    "padding index",
    "masked words",
    "embedded positions",
    "tied embedding",
    "layer norm",
    "group norm",
    "transformer",
    "attention",
    "plain rnn",
    "gru two layers",
    "gru no bias",
    "gru, both ways",
    "gru, given states",
    "gru cell",
    "lstm cell",
    "lstm, both ways",
    "lstm, time first",
    "same layer twice",
    "unused",
    "frozen",
    "constants",
    "one scale",
    "weight norm",
    "relu in place",
]


@pytest.mark.parametrize("name", MODELS)
def test_clients_of_different_sizes_come_out_as_under_torch(name: str) -> None:
    kind, model = EVERY[name]
    right = by_torch(model, group(kind), LOCAL)
    found = together(model, group(kind))
    assert found.clients == right.clients
    assert found.examples == right.examples
    np.testing.assert_allclose(found.rows, right.rows, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_computed_elsewhere_than_on_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's device without numbers refuses every tensor that is not on it, too."""
    brought = []

    def rows(self: Any, own: list[Tensor], start: Tensor, totals: Tensor, seen: np.ndarray) -> np.ndarray:
        brought.extend([*own, start, totals])
        return np.zeros((len(seen), len(start) + 1), dtype=np.float32)

    monkeypatch.setattr(StackTraining, "_rows", rows)
    kind, model = EVERY[name]
    size = sum(p.numel() for p in build(Task(model=model), 0).parameters)
    terms = LocalTerms(proximal=0.1, correction=np.ones(size, dtype=np.float32))
    local = replace_local(momentum=0.9, weight_decay=0.1, max_grad_norm=0.5)
    found = together(model, group(kind), local, terms=terms, device=Device("meta", "no numbers"))
    assert len(found.clients) == 4
    assert {tensor.device.type for tensor in brought} == {"meta"}


def replace_local(**more: Any) -> LocalSGD:
    return LocalSGD(**{"lr": 0.1, "batch_size": 3, "epochs": 2, **more})


def test_clients_are_padded_where_that_changes_nothing() -> None:
    for name in (*MODELS, "batch norm"):
        kind, model = EVERY[name]
        runner, vector = executor(model)
        runner.train(vector, group(kind))
        assert is_padded(runner) == (name != "batch norm"), name


def test_a_client_alone_ends_where_it_ends_in_a_group() -> None:
    kind, model = EVERY["gru"]
    rows = trained(model, group(kind)).rows
    for place, one in enumerate(group(kind)):
        np.testing.assert_allclose(trained(model, [one]).rows[0], rows[place], atol=1e-6, rtol=0)


def test_permuting_a_group_permutes_its_rows() -> None:
    rows = trained(mlp, group()).rows
    for order in ([3, 2, 1, 0], [2, 0, 3, 1]):
        found = trained(mlp, [group()[place] for place in order])
        assert found.clients == tuple(f"c{place}" for place in order)
        np.testing.assert_allclose(found.rows, rows[order], atol=1e-6, rtol=0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_groups_update_does_not_depend_on_what_was_trained_before(momentum: float) -> None:
    local = replace_local(momentum=momentum)
    fresh, vector = executor(mlp, local)
    expected = fresh.train(vector, group()).rows
    used, _ = executor(mlp, local)
    used.train(vector, group("table", (9, 2, 2, 8, 5)))
    used.train(vector * 3, group("table", (6,)))
    assert np.array_equal(used.train(vector, group()).rows, expected)


def test_clients_whose_examples_have_other_shapes_are_trained_beside_each_other() -> None:
    """Sequences of two lengths: those of one length together."""
    kind, model = EVERY["gru"]
    works = group(kind)
    for place in (1, 3):
        data = works[place].examples
        works[place] = replace(works[place], examples=Examples.of(data.inputs[0][:, :3], data.target))
    right = by_torch(model, works, LOCAL)
    np.testing.assert_allclose(trained(model, works).rows, right.rows, atol=1e-5, rtol=0)


# --- settings ------------------------------------------------------------------------------------

SIZE = sum(p.numel() for p in mlp().parameters())
CORRECTION = np.random.default_rng(3).standard_normal(SIZE).astype(np.float32) / 50
SETTINGS: dict[str, tuple[dict[str, Any], LocalTerms]] = {
    "steps": ({"steps": 4}, PLAIN),
    "full batches": ({"batch_size": "all", "steps": 3}, PLAIN),
    "in order": ({"shuffle": False}, PLAIN),
    "momentum": ({"momentum": 0.9}, PLAIN),
    "weight decay": ({"weight_decay": 0.1}, PLAIN),
    "clipped": ({"max_grad_norm": 0.3}, PLAIN),
    "proximal": ({}, LocalTerms(proximal=0.5)),
    "correction": ({}, LocalTerms(correction=CORRECTION)),
    "all": (
        {"momentum": 0.7, "weight_decay": 0.05, "max_grad_norm": 0.5},
        LocalTerms(proximal=0.2, correction=CORRECTION),
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_of_local_training(name: str) -> None:
    more, terms = SETTINGS[name]
    local = replace_local(**more)
    found = together(mlp, group(), local, terms=terms)
    right = by_torch(mlp, group(), local, terms)
    np.testing.assert_allclose(found.rows, right.rows, atol=1e-5, rtol=0)
    np.testing.assert_allclose(found.rows, in_float64(mlp, group(), local, terms), atol=1e-5, rtol=0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_stragglers_stop_early(momentum: float) -> None:
    local = replace_local(momentum=momentum, batch_size=2)
    works = [replace(w, max_steps=most) for w, most in zip(group(), (None, 1, 3, 0), strict=True)]
    right = by_torch(mlp, works, local)
    np.testing.assert_allclose(together(mlp, works, local).rows, right.rows, atol=1e-5, rtol=0)


def test_parameters_that_share_a_gradient_are_stepped_apart() -> None:
    """Torch hands out one tensor for both, which must not be changed in place twice."""
    model = made(
        lambda m, x: (x + m.a + m.b) @ m.w * m.scale,
        a=weights(6),
        b=weights(6),
        w=weights(6, CLASSES),
        scale=weights(),
    )
    local = replace_local(weight_decay=0.3, momentum=0.5, max_grad_norm=0.2)
    right = by_torch(model, group(), local)
    np.testing.assert_allclose(together(model, group(), local).rows, right.rows, atol=1e-5, rtol=0)


def test_several_inputs() -> None:
    model = made(
        lambda m, words, x: m.last(torch.cat([m.emb(words).mean(1), x], 1)),
        emb=lambda: nn.Embedding(WORDS, 5),
        last=linear(11),
    )
    works = []
    for words, table in zip(group("words"), group(), strict=True):
        inputs = (words.examples.inputs[0], table.examples.inputs[0])
        works.append(replace(table, examples=Examples(inputs, table.examples.target)))
    right = by_torch(model, works, LOCAL)
    np.testing.assert_allclose(together(model, works).rows, right.rows, atol=1e-5, rtol=0)


# --- losses --------------------------------------------------------------------------------------


def _regression(kind: str) -> list[ClientWork]:
    rng = np.random.default_rng(4)
    target = {"binary_cross_entropy": lambda n: rng.integers(0, 2, n)}.get(kind, rng.standard_normal)
    return [
        replace(each, examples=Examples.of(each.examples.inputs[0], target(len(each.examples))))
        for each in group()
    ]


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mse", "l1", "huber"])
def test_losses_of_single_numbers(loss: str) -> None:
    model, works = (lambda: nn.Linear(6, 1)), _regression(loss)
    right = by_torch(model, works, LOCAL, loss=loss)
    runner, vector = executor(model, loss=loss)
    np.testing.assert_allclose(runner.train(vector, works).rows, right.rows, atol=1e-5, rtol=0)
    assert is_padded(runner)


@pytest.mark.parametrize("classes_second", [False, True])
def test_the_cross_entropy_of_sequences_leaves_out_their_padding(classes_second: bool) -> None:
    model = made(lambda m, x: m.last(x.tanh()).mT if classes_second else m.last(x.tanh()), last=linear(4))
    works = []
    for each in group("series"):
        labels = np.random.default_rng(len(each.examples)).integers(0, CLASSES, (len(each.examples), 5))
        labels[:, 3:] = -100
        labels[0] = -100
        works.append(replace(each, examples=Examples.of(each.examples.inputs[0], labels)))
    right = by_torch(model, works, LOCAL)
    np.testing.assert_allclose(together(model, works).rows, right.rows, atol=1e-5, rtol=0)


def _own(outputs: Tensor, targets: Tensor) -> Tensor:
    """No mean over examples: twice as many of them are not the same as each one twice."""
    return (
        functional.cross_entropy(outputs, targets) + outputs.std(0).sum() + outputs.sum() / len(targets) ** 2
    )


def test_a_loss_of_ones_own_is_never_shown_padding() -> None:
    works, local = group("table", (8, 5, 6, 3)), replace_local(momentum=0.5)
    right = by_torch(mlp, works, local, loss=_own)
    rows = together(mlp, works, local, loss=_own).rows
    np.testing.assert_allclose(rows, right.rows, atol=1e-5, rtol=0)


def test_a_model_that_mixes_the_examples_of_a_batch_is_never_shown_padding() -> None:
    works = group("table", (8, 5, 6, 2))
    right = by_torch(normalising, works, LOCAL)
    np.testing.assert_allclose(together(normalising, works).rows, right.rows, atol=1e-5, rtol=0)


def test_a_training_loss_beyond_its_bound_is_cut() -> None:
    rows = trained(mlp, group(), loss=lambda outputs, targets: outputs.sum() * 0 + 1e9).rows
    assert (rows[:, -1] == METRIC_BOUND).all()


# --- clients that something is wrong with --------------------------------------------------------


def _changed(change: Callable[[Examples], Examples | None]) -> ClientWork:
    data = examples("table", 5, seed=50)
    return work("bad", change(data) or data)


def _set(value: float) -> Callable[[Examples], None]:
    def change(data: Examples) -> None:
        data.inputs[0][3] = value

    return change


def _label(value: int) -> Callable[[Examples], None]:
    def change(data: Examples) -> None:
        data.target[4] = value

    return change


BAD: dict[str, Callable[[Examples], Any]] = {
    "not a number": _set(np.nan),
    "infinite": _set(np.inf),
    "no such class": _label(99),
    "negative class": _label(-1),
    "empty": lambda data: data.take(slice(0, 0)),
    "other shape": lambda data: Examples.of(data.inputs[0][:, :5], data.target),
    "other target": lambda data: Examples.of(data.inputs[0], data.target[:, None]),
    "text": lambda data: Examples.of(np.array([["a"] * 6] * 5), data.target),
    "two inputs": lambda data: Examples((data.inputs[0],) * 2, data.target),
}


@pytest.mark.parametrize("place", [0, 4])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_client_is_refused_as_under_torch_and_changes_nobody_else(name: str, place: int) -> None:
    works = group("table", (7, 4, 6, 2))
    works.insert(place, _changed(BAD[name]))
    found, right = trained(mlp, works), by_torch(mlp, works, LOCAL)
    fine = [f"c{i}" for i in range(4)]
    rows = dict(zip(found.clients, found.rows, strict=True))
    truth = dict(zip(right.clients, right.rows, strict=True))
    for client in fine:
        np.testing.assert_allclose(rows[client], truth[client], atol=1e-5, rtol=0)
    assert ("bad" in rows and np.isfinite(rows["bad"]).all()) == (
        "bad" in truth and np.isfinite(truth["bad"]).all()
    )


def test_a_damaged_client_changes_not_a_bit_of_the_others() -> None:
    for name in ("mlp", "conv", "gru", "embedding", "transformer"):
        kind, model = EVERY[name]
        works, damaged = (group(kind, (7, 6, 5)) for _ in range(2))
        damaged[1].examples.inputs[0][:] = WORDS if kind == "words" else np.nan
        clean, found = together(model, works).rows, together(model, damaged).rows
        assert np.array_equal(found[[0, 2]], clean[[0, 2]])
        assert not np.isfinite(found[1]).all()


@pytest.mark.parametrize("word", [WORDS, -1])
def test_a_word_that_the_vocabulary_lacks_costs_one_client_its_update(word: int) -> None:
    kind, model = EVERY["embedding"]
    works = group(kind, (7, 6, 5))
    works[1].examples.inputs[0][2, 3] = word
    found, right = together(model, works), by_torch(model, works, LOCAL)
    assert set(right.failures) == {"c1"}
    assert not np.isfinite(found.rows[1]).all()
    np.testing.assert_allclose(found.rows[[0, 2]], in_order_of(right, ["c0", "c2"]), atol=1e-5, rtol=0)


def test_where_the_call_of_a_group_raises_its_clients_are_trained_one_by_one() -> None:
    """Statistics over a batch of one example are refused by torch, words and all."""
    works = group("table", (6, 7, 5, 9))  # the second has a last batch of one
    found, right = trained(normalising, works), by_torch(normalising, works, LOCAL)
    assert found.clients == right.clients == ("c0", "c2", "c3")
    np.testing.assert_allclose(found.rows, right.rows, atol=1e-5, rtol=0)
    assert found.failures["c1"].reason == right.failures["c1"].reason == "raised ValueError"
    assert "Expected more than 1 value" in found.failures["c1"].traceback


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (MemoryError("full"), MemoryError),
        (torch.OutOfMemoryError("full"), MemoryError),
        (torch.AcceleratorError("device-side assert"), RuntimeError),
        (RuntimeError("CUDA error: device-side assert triggered"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_trouble_of_the_machine_is_no_clients_failure(raised: BaseException, seen: type) -> None:
    def troubled(outputs: Tensor, targets: Tensor) -> Tensor:
        raise raised

    with pytest.raises(seen):
        trained(mlp, group(), loss=troubled)


def test_nobody_at_all() -> None:
    for works in ([], [work("a", examples("table", 0))]):
        found = trained(mlp, works)
        assert found.rows.shape == (0, SIZE + 1)
        assert (found.clients, set(found.failures)) == ((), {w.client for w in works})


# --- dropout -------------------------------------------------------------------------------------


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.4), nn.Linear(8, CLASSES))


DROPPING: dict[str, tuple[str, Factory]] = {
    "dense": ("table", dropping),
    "fused, as on a GPU": (
        "table",
        made(lambda m, x: m.b(torch.native_dropout(m.a(x), 0.4, True)[0]), a=linear(6, 8), b=linear(8)),
    ),
    "images": (
        "image",
        made(
            lambda m, x: m.last(m.drop(m.conv(x)).mean((2, 3))),
            conv=lambda: nn.Conv2d(4, 6, 3),
            drop=lambda: nn.Dropout2d(0.4),
            last=linear(6),
        ),
    ),
    "transformer": (
        "series",
        made(
            lambda m, x: m.last(m.layer(x).mean(1)),
            layer=lambda: nn.TransformerEncoderLayer(4, 2, 7, dropout=0.2, batch_first=True),
            last=linear(4),
        ),
    ),
    "gru": EVERY["gru, dropout"],
    "lstm": (
        "series",
        made(
            lambda m, x: m.last(m.rnn(x)[0][:, -1]),
            rnn=lambda: nn.LSTM(4, 5, num_layers=3, dropout=0.3, bidirectional=True, batch_first=True),
            last=linear(10),
        ),
    ),
}


def drawn(model: Factory, works: Sequence[ClientWork]) -> Trained:
    """Train by plain torch that is given the same numbers."""
    task = Task(model=model)
    flat = build(task, 0)
    vector = flat.vector()
    recipe = Recipe(task, flat.layout, LOCAL, PLAIN, SEED, lambda: flat)
    return DrawnTorchExecutor(recipe, works[0].examples).train(vector, works)


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_draws_by_address_whoever_is_in_the_group(name: str) -> None:
    kind, model = DROPPING[name]
    right, found = drawn(model, group(kind)), together(model, group(kind))
    np.testing.assert_allclose(found.rows, right.rows, atol=1e-5, rtol=0)
    some = together(model, [group(kind)[place] for place in (3, 1)])
    np.testing.assert_allclose(some.rows, found.rows[[3, 1]], atol=1e-6, rtol=0)
    later = together(model, [replace(each, round=3) for each in group(kind)])
    assert np.abs(later.rows - found.rows).max() > 1e-4


# --- what cannot be done -------------------------------------------------------------------------


@pytest.mark.parametrize("buffers", ["average", "local"])
def test_buffers_that_training_changes_are_refused(buffers: str) -> None:
    task = Task(model=lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), buffers=buffers)
    with pytest.raises(UnsupportedError, match="batch-norm"):
        FunctionalExecutor(task, build(task, 0), LOCAL, PLAIN, SEED)


IMPOSSIBLE: dict[str, tuple[Factory, str]] = {
    "a number of Python's": (
        made(lambda m, x: m.last(x) * float(x.detach().mean()), last=linear(6)),
        "many clients in one call: vmap: .*item",
    ),
    "other draws": (made(lambda m, x: m.last(x + torch.randn(x.shape)), last=linear(6)), "random"),
    "other draws beside dropout": (
        made(lambda m, x: m.last(functional.dropout(x, 0.2) + torch.randn(x.shape)), last=linear(6)),
        "random numbers other than dropout's",
    ),
    "renormed words": (
        made(
            lambda m, x: m.last(m.emb(x.long().clamp(0, 3)).mean(1)),
            emb=lambda: nn.Embedding(4, 5, max_norm=0.1),
            last=linear(5),
        ),
        "max_norm",
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_done_for_many_clients_at_once_is_said_before_a_run(name: str) -> None:
    model, words = IMPOSSIBLE[name]
    task = Task(model=model)
    flat = build(task, 0)
    recipe = Recipe(task, flat.layout, LOCAL, PLAIN, SEED, lambda: flat, examples=examples("table", 4))
    with pytest.raises(UnsupportedError, match=words):
        build_executor("functional", recipe)
    assert build_executor("functional", replace(recipe, examples=None)).spec.size == flat.layout.size + 1


def test_torchs_settings_and_numbers_are_left_as_they_were() -> None:
    settings = (torch.are_deterministic_algorithms_enabled, torch.get_float32_matmul_precision)
    before, state = [setting() for setting in settings], torch.get_rng_state()
    seen: list[bool] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return functional.cross_entropy(outputs, targets)

    trained(dropping, group(), loss=loss)
    assert seen
    assert all(seen)
    assert [setting() for setting in settings] == before
    assert torch.equal(torch.get_rng_state(), state)


def test_files_that_cannot_be_written() -> None:
    """Warnings are errors here: torch has no read-only tensors, and says so."""
    works = group()
    for each in works:
        for array in (*each.examples.inputs, each.examples.target):
            array.flags.writeable = False
    for some in (works, works[:1]):
        right = by_torch(mlp, some, LOCAL)
        np.testing.assert_allclose(trained(mlp, some).rows, right.rows, atol=1e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: only what runs on one can show this")
@pytest.mark.parametrize(
    "name", ["mlp", "conv", "embedding", "transformer", "gru two layers", "lstm, both ways"]
)
def test_a_gpu_gives_what_the_processor_gives(name: str) -> None:
    kind, model = EVERY[name]
    right = by_torch(model, group(kind), LOCAL)
    found = together(model, group(kind), device=Device("cuda:0", "a GPU", kept_bytes=2**20))
    np.testing.assert_allclose(found.rows, right.rows, atol=1e-4, rtol=0)
