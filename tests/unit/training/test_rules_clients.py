"""Clients of a group: each has what it would have alone, whatever is wrong with the others."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.training import ClientWork, Task
from tacit.training.executor import METRIC_BOUND, UnsupportedError
from tacit.training.flat import build
from tacit.training.rules import RulesExecutor
from tests.unit.training.rules_cases import (
    CLASSES,
    PLAIN,
    SEED,
    WORDS,
    Factory,
    by_rules,
    by_torch,
    examples,
    executor,
    group,
    in_order_of,
    is_stackable,
    linear,
    made,
    work,
)
from tests.unit.training.rules_models import ALONE, STACKED

POISON = 13.0
LOCAL = LocalSGD(lr=0.1, batch_size=3, epochs=2)


class Raising(nn.Module):
    """It raises where a client's data holds a certain number, without asking a tensor for it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        torch._assert_async(~(x == POISON).any())  # noqa: SLF001
        scores: Tensor = self.body(x)
        return scores


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES))


def _changed(change: Callable[[Examples], Examples | None]) -> ClientWork:
    data = examples("table", 5, seed=50)
    return work("bad", change(data) or data)


def _nan(data: Examples) -> None:
    data.inputs[0][3] = np.nan


def _infinite(data: Examples) -> None:
    data.inputs[0][4, 2] = np.inf


def _label(data: Examples) -> None:
    data.target[4] = 99


def _negative_label(data: Examples) -> None:
    data.target[0] = -1


def _poisoned(data: Examples) -> None:
    data.inputs[0][4] = POISON


BAD: dict[str, Callable[[Examples], Any]] = {
    "raising": _poisoned,
    "not a number": _nan,
    "infinite": _infinite,
    "no such class": _label,
    "negative class": _negative_label,
    "empty": lambda data: data.take(slice(0, 0)),
    "other shape": lambda data: Examples.of(data.inputs[0][:, :5], data.target),
    "other target": lambda data: Examples.of(data.inputs[0], data.target[:, None]),
    "text": lambda data: Examples.of(np.array([["a"] * 6] * 5), data.target),
    "two inputs": lambda data: Examples((data.inputs[0],) * 2, data.target),
}


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_client_fails_as_under_torch_and_changes_no_update_of_the_others(name: str, place: int) -> None:
    works = group("table", (7, 4, 6, 2))
    works.insert(place, _changed(BAD[name]))
    found, right = by_rules(Raising, works, LOCAL), by_torch(Raising, works, LOCAL)
    assert {**found.failures}.keys() == {**right.failures}.keys()
    rows = in_order_of(found, right.clients)
    fine = [i for i, client in enumerate(right.clients) if client != "bad"]
    assert len(fine) == 4
    np.testing.assert_allclose(rows[fine], right.rows[fine], atol=1e-5, rtol=0)
    assert np.array_equal(np.isfinite(rows).all(axis=1), np.isfinite(right.rows).all(axis=1))
    sizes = dict(zip(found.clients, found.examples, strict=True))
    assert sizes == dict(zip(right.clients, right.examples, strict=True))
    for client, failure in found.failures.items():
        assert failure.reason == right.failures[client].reason or failure.reason.startswith("raised ")


@pytest.mark.parametrize("name", ["conv", "gru", "embedding", "layer norm", "tied embedding"])
def test_a_client_with_damaged_data_keeps_it_to_itself(name: str) -> None:
    """Where it goes through a stack, no number of it may reach the rows of others: not a bit changes."""
    kind, model = STACKED[name]
    works = group(kind, (7, 6, 5))
    damaged = group(kind, (7, 6, 5))
    data = damaged[1].examples.inputs[0]
    data[:] = 10 if kind == "words" else np.nan
    runner, vector, _ = executor(model, LOCAL)
    clean = runner.train(vector, works).rows.copy()
    found = runner.train(vector, damaged)
    assert is_stackable(runner)
    assert np.array_equal(found.rows[[0, 2]], clean[[0, 2]])
    if kind != "words":
        assert np.isnan(found.rows[1]).any()


def test_words_that_the_vocabulary_lacks() -> None:
    kind, model = STACKED["embedding"]
    for word in (WORDS, -1):
        works = group(kind, (7, 6, 5))
        works[1].examples.inputs[0][2, 3] = word
        found, right = by_rules(model, works, LOCAL), by_torch(model, works, LOCAL)
        assert set(found.failures) == set(right.failures) == {"c1"}
        np.testing.assert_allclose(in_order_of(found, right.clients), right.rows, atol=1e-5, rtol=0)


def test_a_failures_reason_holds_no_data_and_its_traceback_stays_beside_it() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        if bool((x == POISON).any()):
            raise ValueError("a value of the client's own data")
        return m.last(x)  # type: ignore[no-any-return]

    failure = by_rules(made(run, last=linear(6)), [_changed(_poisoned), *group()], LOCAL).failures["bad"]
    assert failure.reason == "raised ValueError"
    assert "a value of the client's own data" in failure.traceback


def test_a_client_whose_code_wants_to_exit_fails_alone() -> None:
    def leaving(outputs: Tensor, targets: Tensor) -> Tensor:
        if len(targets) == 1:
            sys.exit(1)
        return outputs.square().mean()

    found = by_rules(mlp, group("table", (3, 1, 3)), LOCAL, loss=leaving)
    assert set(found.clients) == {"c0", "c2"}
    assert found.failures["c1"].reason == "raised SystemExit"


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("clients", [1, 3])
def test_this_machines_trouble_is_no_clients_failure(error: type[BaseException], clients: int) -> None:
    calls = []

    def troubled(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 5:  # after it was tried out; had it been tried again, it would have worked
            raise error
        return outputs.square().mean()

    with pytest.raises(error):
        by_rules(mlp, group("table", (9,) * clients), LocalSGD(lr=0.1, batch_size=1), loss=troubled)


def test_nobody_at_all() -> None:
    for works in ([], [work("a", examples("table", 0))]):
        found = by_rules(mlp, works, LOCAL)
        assert found.rows.shape == (0, sum(p.numel() for p in mlp().parameters()) + 1)
        assert (found.clients, found.examples, set(found.failures)) == ((), (), {w.client for w in works})


def test_a_training_loss_beyond_its_bound_is_cut() -> None:
    def huge(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum() * 0 + 1e9

    assert (by_rules(mlp, group(), LOCAL, loss=huge).rows[:, -1] == METRIC_BOUND).all()


def test_buffers_that_training_changes_are_refused() -> None:
    for buffers in ("average", "local"):
        task = Task(model=lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), buffers=buffers)
        with pytest.raises(UnsupportedError, match="batch-norm"):
            RulesExecutor(task, build(task, 0), LOCAL, PLAIN, SEED)


# --- kinds of arrays -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "uint16", "bool"])
def test_numbers_of_any_kind_train_as_under_torch(dtype: str) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.last(x.to(torch.float32))  # type: ignore[no-any-return]

    works = []
    for each in group():
        x = np.abs(each.examples.inputs[0] * 2).astype(dtype)
        works.append(replace(each, examples=Examples.of(x, each.examples.target.astype(np.int16))))
    model = made(run, last=linear(6))
    runner, vector, _ = executor(model, LOCAL)
    right = by_torch(model, works, LOCAL)
    np.testing.assert_allclose(in_order_of(runner.train(vector, works), right.clients), right.rows, atol=1e-5)
    assert is_stackable(runner)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("clients", [1, 3])
def test_files_that_cannot_be_written(tmp_path: Path, shuffle: bool, clients: int) -> None:
    """Warnings are errors here: torch has no read-only tensors, and says so."""
    local = LocalSGD(lr=0.1, batch_size=3, shuffle=shuffle)
    works = group("image", (7, 6, 5)[:clients])
    right = by_torch(STACKED["conv"][1], works, local)
    mapped = []
    for each in works:
        np.save(tmp_path / f"{each.client}.npy", each.examples.inputs[0])
        x = np.load(tmp_path / f"{each.client}.npy", mmap_mode="r")
        y = each.examples.target.copy()
        y.flags.writeable = False
        mapped.append(replace(each, examples=Examples.of(x, y)))
    rows = in_order_of(by_rules(STACKED["conv"][1], mapped, local), right.clients)
    np.testing.assert_allclose(rows, right.rows, atol=1e-5, rtol=0)


def test_the_examples_are_left_alone() -> None:
    works = group()
    before = [each.examples.inputs[0].copy() for each in works]
    by_rules(mlp, works, LOCAL)
    assert all(np.array_equal(a, b.examples.inputs[0]) for a, b in zip(before, works, strict=True))


# --- models that draw numbers --------------------------------------------------------------------


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.4), nn.Linear(8, CLASSES))


def drawing() -> nn.Module:
    return made(lambda m, x: m.last(x + torch.randn(x.shape) / 4), last=linear(6))()


@pytest.mark.parametrize("model", [dropping, drawing])
def test_a_model_draws_what_it_draws_under_torch(model: Factory) -> None:
    """From the first client on: trying the model out must not have drawn anything."""
    runner, vector, _ = executor(model, LOCAL)
    right = by_torch(model, group(), LOCAL)
    for works in (group()[:1], group(), group()[::-1]):
        rows = in_order_of(runner.train(vector, works), [w.client for w in works])
        places = [right.clients.index(w.client) for w in works]
        np.testing.assert_allclose(rows, right.rows[places], atol=1e-5, rtol=0)


# --- the same bits, whatever went before ---------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["mlp", "conv", "gru", "lstm cell", "tied embedding", "group norm", "matmul"]
)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_groups_update_does_not_depend_on_what_was_trained_before(name: str, momentum: float) -> None:
    kind, model = {**STACKED, **ALONE}[name]
    local = LocalSGD(lr=0.1, batch_size=3, epochs=2, momentum=momentum)
    works = group(kind, (7, 4, 6, 1))
    fresh, vector, _ = executor(model, local)
    expected = fresh.train(vector, works)
    bits = expected.rows.copy()

    used, _, flat = executor(model, local)
    others = group(kind, (9, 2, 2, 8, 5))
    if kind != "words":
        others[3].examples.inputs[0][:] = np.nan
    used.train(vector, others)
    used.train(vector, others[:1])
    used.train(vector * 3, works[::-1])
    flat.load_vector(vector * 5)  # as an evaluation does in between
    again = used.train(vector, works)
    assert again.clients == expected.clients
    assert np.array_equal(again.rows, bits)
    assert np.array_equal(used.train(vector, works).rows, bits)


_PROCESS = """
import sys, hashlib
import torch
from tests.unit.training.rules_cases import executor, group
from tests.unit.training.rules_models import STACKED
torch.set_num_threads(1)
for name in ("mlp", "conv", "gru", "embedding"):
    kind, model = STACKED[name]
    runner, vector, _ = executor(model)
    for sizes in ([(2, 2), (7, 4, 6)] if sys.argv[1] == "late" else [(7, 4, 6)]):
        rows = runner.train(vector, group(kind, sizes)).rows
    print(name, hashlib.sha256(rows.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_two_processes_with_other_first_groups_find_the_same_bits() -> None:
    found = [
        subprocess.run(
            [sys.executable, "-c", _PROCESS, when], check=True, capture_output=True, text=True
        ).stdout
        for when in ("early", "late")
    ]
    assert found[0] == found[1]
    assert len(found[0].split()) == 8


def test_rows_are_good_until_the_next_call() -> None:
    runner, vector, _ = executor(mlp, LOCAL)
    first = runner.train(vector, group())
    kept = first.rows.copy()
    assert np.array_equal(first.rows, kept)
    runner.train(vector, group("table", (3, 3)))
    assert not np.array_equal(first.rows, kept)  # its memory is used again, as the docstring says
