"""A model that mixes the examples of its batch is found out, and trained one client after the other."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tacit.core.local import LocalSGD
from tacit.training import Task, losses
from tacit.training.flat import build
from tacit.training.packing import signature_of
from tacit.training.rules import independence
from tacit.training.rules.stack import NotStackable, Stack
from tests.unit.training.rules_cases import (
    CLASSES,
    Factory,
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


def dense(change: Any) -> Factory:
    """Return a dense layer, something done to its batch of results, and another dense layer."""
    return made(lambda m, x: m.last(change(m.a(x).tanh())), a=linear(6, 6), last=linear(6))


def _pairs(h: Tensor) -> Tensor:
    return (h + h.reshape(-1, 2, 3, 2).flip(1).reshape(h.shape)) if len(h) % 2 == 0 else h


def _by_numpy(h: Tensor) -> Tensor:
    return h - torch.from_numpy(h.detach().numpy().mean(0))


def _numpy_in_place(h: Tensor) -> Tensor:
    copied = h.detach().clone()
    copied.numpy()[:] -= copied.numpy().mean(0)
    return h + copied


def _centred_in_place(h: Tensor) -> Tensor:
    h = h * 1.0
    h -= h.detach().mean(0)
    return h


def _by_a_view(h: Tensor) -> Tensor:
    table = torch.zeros(h.shape)
    row = table[0]
    row.copy_(h.detach().mean(0))
    return h + table


def _by_an_older_view(h: Tensor) -> Tensor:
    table = torch.zeros(h.shape)
    first = table[0]
    table[:] = h.detach()
    return h + first


def _swallowed(h: Tensor) -> Tensor:
    try:
        return h - h.mean(0)
    except Exception:  # noqa: BLE001 - there is such code
        return h * 2


def _normalised_gradient(h: Tensor) -> Tensor:
    h = h * 1.0
    h.register_hook(lambda g: g / g.norm())
    return h


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1.0

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g / g.norm()


MIXING: dict[str, Any] = {
    "mean": lambda h: h - h.mean(0),
    "mean of all": lambda h: h - h.mean(),
    "sum kept": lambda h: h + h.sum(0, keepdim=True).tanh(),
    "largest": lambda h: h - h.amax(0),
    "far out of reach": lambda h: torch.where((h > 100.0).any(), -h, h),
    "far out of reach by column": lambda h: torch.where((h > 100.0).any(0), -h, h),
    "beyond all that is tried": lambda h: torch.where((h > 1e12).any(0), -h, h),
    "median": lambda h: (h > h.median()) * h,
    "standard deviation": lambda h: h / (h.std(0, unbiased=False) + 1.0),
    "softmax": lambda h: h + h.softmax(0),
    "normalised": lambda h: functional.normalize(h, dim=0),
    "running sum": lambda h: h.cumsum(0),
    "running sum, backwards": lambda h: h.flip(0).cumsum(0).flip(0),
    "turned": lambda h: h + h.flip(0),
    "rolled": lambda h: h + h.roll(1, 0),
    "sorted": lambda h: h.sort(0).values,
    "first": lambda h: h + h[0],
    "last": lambda h: h + h[-1:],
    "every other": lambda h: h + h[::2].mean(0),
    "attention": lambda h: (h @ h.T).softmax(-1) @ h,
    "attention of torch": lambda h: functional.scaled_dot_product_attention(h[None], h[None], h[None])[0],
    "outer": lambda h: torch.einsum("nf,mf->nm", h, h).tanh() @ h,
    "distance": lambda h: h * torch.cdist(h, h).mean(1, keepdim=True),
    "batch norm": lambda h: functional.batch_norm(h, None, None, training=True, eps=1.0) if len(h) > 1 else h,
    "time first": lambda h: functional.layer_norm(h.T, (h.shape[0],), eps=1.0).T,
    "pairs": _pairs,
    "number of examples": lambda h: h * len(h),
    "number of rows": lambda h: h / h.shape[0],
    "a single example": lambda h: h * 2 if len(h) == 1 else h,
    "two examples": lambda h: h * 2 if len(h) == 2 else h,
    "place": lambda h: h * torch.arange(len(h))[:, None],
    "place of a buffer": lambda h: h + torch.linspace(0, 1, 100)[: len(h), None],
    "number": lambda h: h * h.detach().mean().item(),
    "list": lambda h: h + torch.tensor(h.detach().mean(0).tolist()),
    "branch": lambda h: h * 2 if h.sum() > 0 else h,
    "equal": lambda h: h if torch.equal(h, h.abs()) else h * 2,
    "numpy": _by_numpy,
    "numpy in place": _numpy_in_place,
    "in place": _centred_in_place,
    "with another way out": _swallowed,
    "by a view": _by_a_view,
    "by an older view": _by_an_older_view,
    "chosen": lambda h: h + h[h > 0].sum(),
    "found": lambda h: h + h.nonzero().sum() / 100,
    "hook": _normalised_gradient,
    "own function": _Normalised.apply,
    "drawn": lambda h: h + torch.rand(6),
    "drawn integers": lambda h: h + torch.randint(0, 5, (6,)),
    "drawn from the batch": lambda h: h + torch.multinomial(h.detach().exp(), 6, replacement=True) / 10,
    "dropout": lambda h: functional.dropout(h, 0.4),
    "random pooling": lambda h: (
        functional.fractional_max_pool2d(h.view(-1, 1, 2, 3), 1, output_size=(1, 2)).view(-1, 2).repeat(1, 3)
    ),
}


@pytest.mark.parametrize("name", MIXING)
def test_a_model_that_mixes_its_batch_is_not_stacked(name: str) -> None:
    model = dense(MIXING[name])
    works = group("table", (6, 4, 8, 1))
    runner, vector, _ = executor(model)
    right = by_torch(model, works)
    rows = in_order_of(runner.train(vector, works), right.clients)
    np.testing.assert_allclose(rows, right.rows, atol=1e-5, rtol=0)
    assert len(right.clients) == len(works)
    assert not is_stackable(runner)


def _state_of_few(m: Any, x: Tensor) -> Tensor:
    state = m.h(x[:, 0]).cumsum(0)[None]
    return m.last(m.rnn(x, state)[0].mean(1))  # type: ignore[no-any-return]


def _gru() -> nn.Module:
    return nn.GRU(4, 5, batch_first=True)


# Layers that meet the clients along another axis than the first.
ELSEWHERE: dict[str, Factory] = {
    "dense": made(lambda m, x: m.last(m.a(x.transpose(0, 1)).mean(0)), a=linear(4, 5), last=linear(5)),
    "norm": made(
        lambda m, x: m.last(m.norm(x.transpose(0, 1)).mean(0)), norm=lambda: nn.LayerNorm(4), last=linear(4)
    ),
    "convolution": made(
        lambda m, x: m.last(m.conv(x.permute(1, 2, 0)).mean(0).T + x.mean(1)),
        conv=lambda: nn.Conv1d(4, 4, 1),
        last=linear(4),
    ),
    "recurrent": made(lambda m, x: m.last(m.rnn(x.transpose(0, 1))[0].mean(0)), rnn=_gru, last=linear(5)),
    "state": made(_state_of_few, h=linear(4, 5), rnn=_gru, last=linear(5)),
    "first": made(
        lambda m, x: m.last(m.a(x[:1])[0].mean(0) + m.a(x).mean(1)), a=linear(4, 5), last=linear(5)
    ),
}


@pytest.mark.parametrize("model", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_layer_that_meets_its_clients_along_another_axis_is_not_stacked(model: Factory) -> None:
    works = group("series", (6, 4, 8, 1))
    runner, vector, _ = executor(model)
    right = by_torch(model, works)
    rows = in_order_of(runner.train(vector, works), right.clients)
    np.testing.assert_allclose(rows, right.rows, atol=1e-5, rtol=0)
    assert len(right.clients) == len(works)
    assert not is_stackable(runner)


# --- each check by itself ------------------------------------------------------------------------

# What only a comparison with one client alone shows, or a look at the whole backward pass.
_COMPARED = {"number of examples", "number of rows", "a single example", "two examples", "place"}
_COMPARED |= {"place of a buffer", "drawn", "drawn integers", "random pooling", "own function"}


def watched(change: Any) -> int | None:
    """Return the axis of the clients in what a function makes of the examples of two.

    Raises:
        Exception: They are not independent.
    """
    rules = independence._Watch([])  # noqa: SLF001
    rules.stack = Stack([], 0.1, fused=True)
    rules.stack.open(torch.empty(0), 2, {})
    values = torch.rand((6, 6), generator=torch.Generator().manual_seed(0))
    rules.follow(values, 0)
    with rules:
        found = change(values)
    if rules.has_refused:
        raise NotStackable
    return rules.axis(found)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_code_that_torch_runs_itself_is_not_watched_and_refused() -> None:
    script = torch.jit.CompilationUnit("def centred(h):\n  return (h - h.mean(0)) * 1e-9\n")
    with pytest.raises(NotStackable):
        watched(lambda h: h + script.centred(h.requires_grad_()))


@pytest.mark.parametrize("name", sorted({*MIXING} - _COMPARED))
def test_a_function_that_mixes_two_clients_is_seen_by_itself(name: str) -> None:
    with pytest.raises((NotStackable, RuntimeError)):  # torch refuses to repeat some functions
        watched(MIXING[name])


def test_the_clients_are_followed_from_axis_to_axis() -> None:
    assert watched(lambda h: h.relu()) == 0
    assert watched(lambda h: h.view(6, 2, 3).permute(2, 1, 0).exp()) == 2
    assert watched(lambda h: h[None, :, None]) == 1
    assert watched(lambda h: torch.zeros(6, 6) + torch.zeros_like(h)) is None


def together(model: Factory, kind: str) -> None:
    flat = build(Task(model=model, loss="cross_entropy"), 0)
    signature = signature_of(examples(kind, 1))
    parts = (flat.module, flat.parameters, signature, losses.cross_entropy, torch.float32, False)
    independence._Examination(*parts)._together()  # type: ignore[arg-type]  # noqa: SLF001


@pytest.mark.parametrize("model", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_layer_refuses_clients_along_another_axis_by_itself(model: Factory) -> None:
    with pytest.raises(NotStackable):
        together(model, "series")


def test_a_recurrent_layer_refuses_states_that_have_the_clients_elsewhere() -> None:
    def turned(m: Any, x: Tensor) -> Tensor:
        return m.last(m.rnn(x, m.h(x[:, 0]).T[None].contiguous())[0].mean(1))  # type: ignore[no-any-return]

    width = 6  # as many as the made-up examples
    rnn: Factory = lambda: nn.GRU(4, width, batch_first=True)  # noqa: E731
    with pytest.raises(NotStackable):
        together(made(turned, h=linear(4, width), rnn=rnn, last=linear(width)), "series")


def test_outputs_have_the_clients_along_their_first_axis() -> None:
    together(made(lambda m, x: m.last(x), last=linear(6, 6)), "table")
    with pytest.raises(NotStackable):
        together(made(lambda m, x: m.last(x).T, last=linear(6, 6)), "table")


def test_a_backward_hook_of_a_layer_is_not_stacked() -> None:
    def model() -> nn.Module:
        built = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, CLASSES))
        built[1].register_full_backward_hook(lambda module, g_in, g_out: (g_in[0] / g_in[0].norm(),))
        return built

    runner, vector, _ = executor(model)
    right = by_torch(model, group())
    np.testing.assert_allclose(
        in_order_of(runner.train(vector, group()), right.clients), right.rows, atol=1e-5
    )
    assert len(right.clients) == 4
    assert not is_stackable(runner)


HARMLESS: dict[str, Any] = {
    "turned by column": lambda h: h.flip(1).cumsum(1).softmax(1),
    "sorted by row": lambda h: h.sort(1).values + h.argmax(1, keepdim=True),
    "rows over one another": lambda h: torch.stack([h, h * 2]).mean(0),
    "two axes exchanged and back": lambda h: (
        h.view(-1, 2, 3).permute(2, 0, 1).relu().permute(1, 2, 0).flatten(1)
    ),
    "in place": lambda h: (h * 2.0).mul_(2.0).add_(1.0).relu_(),
    "written into": lambda h: torch.zeros(h.shape).index_copy(1, torch.arange(6), h),
    "compared": lambda h: torch.where(h == 12345.0, 0.0, h),
    "not a number": lambda h: torch.where(h.isnan(), 0.0, h),
    "masked": lambda h: h.masked_fill(h < 0, -0.5),
    "products of rows": lambda h: torch.bmm(h[:, :, None], h[:, None]).sum(1),
    "constant": lambda h: h @ torch.eye(6) + torch.arange(6),
    "cast": lambda h: h.double().square().float() + h.detach().new_zeros(6),
    "gathered": lambda h: h + h.gather(1, h.argsort(1)),
    "split": lambda h: torch.cat(h.chunk(3, dim=1)[::-1], dim=1),
    "attention": lambda h: functional.scaled_dot_product_attention(*[h.view(-1, 3, 2)] * 3).flatten(1),
    "checkpoint": lambda h: torch.utils.checkpoint.checkpoint(torch.sin, h, use_reentrant=False),
    "dropout of nothing": lambda h: h + functional.layer_norm(h, (6,)),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_keeps_to_its_own_example_is_stacked(name: str) -> None:
    model = dense(HARMLESS[name])
    runner, vector, _ = executor(model)
    right = by_torch(model, group())
    np.testing.assert_allclose(
        in_order_of(runner.train(vector, group()), right.clients), right.rows, atol=1e-5
    )
    assert len(right.clients) == 4
    assert is_stackable(runner)


# --- the answer follows from the model's code ----------------------------------------------------


class Counting(nn.Module):
    """It counts its calls, and what it computes depends on their number."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.calls = nn.Linear(6, CLASSES), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        scores: Tensor = self.body(x) * self.calls
        return scores


def test_trying_a_model_out_leaves_no_trace_in_it() -> None:
    runner, vector, model = executor(Counting)
    runner.train(vector, group())
    assert not is_stackable(runner)  # for it is no function of its inputs
    assert model.module.calls == 6 + 4 + 4 + 2  # the steps of each client


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_trying_a_model_out_draws_no_numbers(dropout: float) -> None:
    torch.manual_seed(9)
    expected = torch.default_generator.get_state()
    runner, _, _ = executor(
        lambda: nn.Sequential(nn.Linear(6, 5), nn.Dropout(dropout), nn.Linear(5, CLASSES))
    )
    torch.manual_seed(9)
    runner._nature(group()[0])  # noqa: SLF001
    assert is_stackable(runner) == (not dropout)
    assert torch.equal(torch.default_generator.get_state(), expected)


def test_a_model_that_cannot_be_copied_is_trained_one_by_one() -> None:
    class Guarded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(6, CLASSES)

        def __deepcopy__(self, memo: object) -> nn.Module:
            raise TypeError("not to be copied")

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.body(x)
            return scores

    runner, vector, _ = executor(Guarded)
    right = by_torch(Guarded, group())
    np.testing.assert_allclose(
        in_order_of(runner.train(vector, group()), right.clients), right.rows, atol=1e-5
    )
    assert not is_stackable(runner)


def test_each_shape_of_examples_is_looked_at_by_itself() -> None:
    """Long sequences are handled in another way; that says nothing about short ones."""

    def run(m: Any, x: Tensor) -> Tensor:
        hidden = m.a(x).tanh().mean(1)
        return m.last(hidden - hidden.mean(0) if x.shape[1] > 3 else hidden)  # type: ignore[no-any-return]

    def series(length: int) -> list[Any]:
        works = group("series")
        for each in works:
            each.examples.inputs[0].resize((len(each.examples), length, 4), refcheck=False)
        return works

    model = made(run, a=linear(4, 5), last=linear(5))
    alone, vector, _ = executor(model)
    expected = alone.train(vector, series(3)).rows.copy()
    runner, _, _ = executor(model)
    right = by_torch(model, series(5))
    rows = in_order_of(runner.train(vector, series(5)), right.clients)
    np.testing.assert_allclose(rows, right.rows, atol=1e-5, rtol=0)
    assert np.array_equal(runner.train(vector, series(3)).rows, expected)
    assert [n.is_stackable for n in runner._natures.values()] == [False, True]  # noqa: SLF001


@pytest.mark.parametrize("name", ["mean", "dropout", "branch", "number of examples"])
def test_the_answer_does_not_depend_on_which_clients_come_first(name: str) -> None:
    model = dense(MIXING[name])
    first, second = group("table", (3, 3)), group("table", (6, 4, 5))
    for each in first:  # all alike: nothing to find in the data
        each.examples.inputs[0][:] = 0
    runner, vector, _ = executor(model)
    runner.train(vector, first)
    other, _, _ = executor(model)
    assert np.array_equal(runner.train(vector, second).rows, other.train(vector, second).rows)


def test_damaged_first_clients_change_nothing() -> None:
    model: Factory = lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, CLASSES))  # noqa: E731
    damaged = group("table", (3, 2))
    damaged[0].examples.inputs[0][:] = np.nan
    damaged[1].examples.target[:] = 99
    runner, vector, _ = executor(model)
    runner.train(vector, damaged)
    runner.train(vector, [work("odd", examples("series", 3))])
    other, _, _ = executor(model)
    expected = other.train(vector, group())
    found = runner.train(vector, group())
    assert found.clients == expected.clients
    assert np.array_equal(found.rows, expected.rows)


def test_models_of_a_seed_are_tried_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    from tacit.training.rules import executor as module

    real = module.examine
    monkeypatch.setattr(module, "examine", lambda *args, **more: calls.append(1) or real(*args, **more))
    runner, vector, _ = executor(lambda: nn.Linear(6, CLASSES), LocalSGD(lr=0.1))
    for _ in range(3):
        runner.train(vector, group())
        runner.train(vector, group()[:1])
    assert len(calls) == 1
