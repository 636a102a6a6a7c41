"""Local training of a group: what each client does follows from its own address, data and nothing else."""

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training import ClientWork, Task, Trained
from tacit.training.executor import METRIC_BOUND
from tacit.training.flat import FlatModel, build
from tacit.training.order import epoch_order
from tacit.training.threads import borrowed_torch
from tacit.training.torch_executor import TorchExecutor

POISON = 13


class Net(nn.Module):
    """Dropout, batch norm, momentum-like buffers: everything that could leak from one client to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if bool((x == POISON).any()):
            raise ValueError("a value of the client's own data")
        out: Tensor = self.last(nn.functional.dropout(self.norm(self.first(x)), 0.3, self.training))
        return out


def data(seed: int, size: int = 12) -> Examples:
    rng = np.random.default_rng(seed)
    return Examples.of(rng.standard_normal((size, 4)).astype(np.float32), rng.integers(0, 3, size))


def work(client: str, examples: Examples, **more: object) -> ClientWork:
    return ClientWork(client, examples, round=3, **more)  # type: ignore[arg-type]


def group() -> list[ClientWork]:
    return [work(f"client-{i}", data(i, size)) for i, size in enumerate((9, 10, 12, 13))]


LOCAL = LocalSGD(lr=0.1, epochs=2, batch_size=5, momentum=0.9)


def executor(
    local: LocalSGD = LOCAL,
    *,
    model: Callable[[], nn.Module] = Net,
    buffers: str = "average",
    seed: int = 7,
    loss: object = "cross_entropy",
) -> tuple[TorchExecutor, np.ndarray, FlatModel]:
    task = Task(model=model, buffers=buffers, loss=loss)  # type: ignore[arg-type]
    built = build(task, 0)
    return TorchExecutor(task, built, local, LocalTerms(), seed), built.vector(), built


def trained(works: list[ClientWork], local: LocalSGD = LOCAL, **more: object) -> Trained:
    runner, vector, _ = executor(local, **more)  # type: ignore[arg-type]
    return runner.train(vector, works)


def recording() -> tuple[Callable[[Tensor, Tensor], Tensor], list[list[int]]]:
    """Return a loss that notes which targets each step saw."""
    seen: list[list[int]] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(targets.tolist())
        return outputs.square().mean()

    return loss, seen


def numbered(size: int) -> Examples:
    return Examples.of(np.zeros((size, 4), dtype=np.float32), np.arange(size))


def linear() -> nn.Module:
    return nn.Linear(4, 3)


# --- groups ------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffers", ["average", "local"])
def test_a_group_is_its_clients_one_by_one_bit_for_bit(buffers: str) -> None:
    together = trained(group(), buffers=buffers)
    assert together.clients == tuple(w.client for w in group())
    assert together.examples == (9, 10, 12, 13)
    for index, one in enumerate(group()):
        alone = trained([one], buffers=buffers)
        assert np.array_equal(alone.rows[0], together.rows[index])
        if buffers == "local":
            assert np.array_equal(alone.buffers[one.client], together.buffers[one.client])


def test_the_order_of_a_group_changes_no_row() -> None:
    together, backwards = trained(group()), trained(group()[::-1])
    assert np.array_equal(together.rows, backwards.rows[::-1])


def _poisoned() -> Examples:
    examples = data(50)
    examples.inputs[0][7, 2] = POISON  # raises in the middle of an epoch
    return examples


def _not_a_number() -> Examples:
    examples = data(51)
    examples.inputs[0][0, 0] = np.nan
    return examples


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize(
    ("examples", "reason"),
    [
        (_poisoned(), "raised ValueError"),
        (data(0, 0), "no data"),
        (_not_a_number(), None),
        (Examples.of(np.zeros((3, 99), np.float32), np.zeros(3, int)), "raised RuntimeError"),
        (Examples.of(np.zeros((3, 4), np.float32), np.full(3, 1000)), "raised IndexError"),
        (Examples.of(np.array([["a"] * 4] * 3), np.zeros(3, int)), "raised TypeError"),
    ],
    ids=["raising", "empty", "nan", "wrong-shape", "no-such-class", "text"],
)
@pytest.mark.parametrize("buffers", ["average", "local"])
def test_a_bad_client_fails_alone_and_changes_no_bit_of_the_others(
    place: int, examples: Examples, reason: str | None, buffers: str
) -> None:
    clean = trained(group(), buffers=buffers)
    bad = group()
    bad.insert(place, work("bad", examples))
    found = trained(bad, buffers=buffers)
    others = [index for index, client in enumerate(found.clients) if client != "bad"]
    assert np.array_equal(found.rows[others], clean.rows)
    for client, kept in clean.buffers.items():
        assert np.array_equal(found.buffers[client], kept)
    if reason is None:  # it ran, and its row says by itself that it is of no use
        assert not np.isfinite(found.rows[found.clients.index("bad")]).all()
        assert "bad" not in found.buffers
    else:
        assert found.clients == clean.clients
        assert found.failures["bad"].reason == reason


def test_a_failures_reason_holds_no_data_and_its_traceback_stays_beside_it() -> None:
    failure = trained([work("bad", _poisoned())]).failures["bad"]
    assert failure.reason == "raised ValueError"
    assert "a value of the client's own data" in failure.traceback


def test_a_client_whose_code_wants_to_exit_fails_alone() -> None:
    def leaving(outputs: Tensor, targets: Tensor) -> Tensor:
        if len(targets) == 3:
            sys.exit(1)
        return outputs.square().mean()

    found = trained([work("a", data(0, 3)), work("b", data(1, 4))], loss=leaving, model=linear)
    assert found.clients == ("b",)
    assert found.failures["a"].reason == "raised SystemExit"


def test_a_group_of_failures_has_no_rows() -> None:
    found = trained([work("a", data(0, 0)), work("b", _poisoned())])
    assert found.rows.shape == (0, executor()[0].spec.size)
    assert (found.clients, found.examples, set(found.failures)) == ((), (), {"a", "b"})


def test_an_interrupt_is_no_clients_failure() -> None:
    def interrupted(outputs: Tensor, targets: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(group(), loss=interrupted)


# --- what a row holds --------------------------------------------------------------------------


def test_a_row_is_local_minus_global_then_the_mean_training_loss() -> None:
    local = LocalSGD(lr=0.2, batch_size=5, shuffle=False)
    runner, vector, _ = executor(local, model=linear)
    examples = data(1, 12)
    row = runner.train(vector, [work("a", examples)]).rows[0]

    weight, bias = (torch.from_numpy(vector[part].copy()) for part in (slice(0, 12), slice(12, 15)))
    weight = weight.view(3, 4).requires_grad_()
    bias.requires_grad_()
    x, y = torch.from_numpy(examples.inputs[0]), torch.from_numpy(examples.target)
    losses = []
    for begin, end in ((0, 5), (5, 10), (10, 12)):
        loss = nn.functional.cross_entropy(x[begin:end] @ weight.T + bias, y[begin:end])
        losses += [loss.item()] * (end - begin)
        for tensor, grad in zip((weight, bias), torch.autograd.grad(loss, (weight, bias)), strict=True):
            tensor.data -= 0.2 * grad
    moved = torch.cat([weight.detach().reshape(-1), bias.detach()]).numpy() - vector
    np.testing.assert_allclose(row[:-1], moved, atol=1e-6)
    assert row[-1] == pytest.approx(np.mean(losses), rel=1e-5)
    assert runner.spec.names == ("parameters", "metrics")


def test_a_training_loss_beyond_its_bound_is_cut() -> None:
    def huge(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum() * 0 + 1e9

    assert trained([work("a", data(0))], loss=huge, model=linear).rows[0, -1] == METRIC_BOUND


def test_the_global_vector_is_left_alone() -> None:
    runner, vector, _ = executor()
    before = vector.copy()
    runner.train(vector, group())
    assert np.array_equal(vector, before)


def test_a_parameter_that_plays_no_part_stays_where_it_is() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.spare = nn.Linear(4, 3), nn.Parameter(torch.ones(5))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.body(x)
            return out

    row = trained([work("a", data(0))], LocalSGD(lr=0.1), model=Spare).rows[0]
    _, _, model = executor(model=Spare)
    moved = model.layout.views(row[: model.layout.size], "parameters")
    assert not moved["spare"].any()
    assert moved["body.weight"].any()


def test_averaged_batch_norm_statistics_are_part_of_the_row() -> None:
    runner, vector, model = executor(LocalSGD(lr=1e-9, batch_size="all"))
    examples = data(0, 40)
    row = runner.train(vector, [work("a", examples)]).rows[0]
    moved = model.layout.views(row[: model.layout.size], "buffers")
    weights = model.layout.views(vector, "parameters")
    hidden = examples.inputs[0] @ weights["first.weight"].T + weights["first.bias"]
    np.testing.assert_allclose(moved["norm.running_mean"], 0.1 * hidden.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(moved["norm.running_var"], 0.1 * (hidden.var(axis=0, ddof=1) - 1), atol=1e-5)


def test_local_buffers_are_handed_back_and_taken_up_again() -> None:
    local = LocalSGD(lr=1e-9, batch_size="all")
    first = trained([work("a", data(0))], local, buffers="local")
    second = trained([work("a", data(0), buffers=first.buffers["a"])], local, buffers="local")
    mean = first.buffers["a"][:6]
    # Twice a tenth of the way toward the same batch statistics.
    np.testing.assert_allclose(second.buffers["a"][:6], mean * 1.9, rtol=1e-4)


# --- batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"batch_size": 4}, [4, 4, 2]),
        ({"batch_size": 4, "epochs": 2}, [4, 4, 2, 4, 4, 2]),
        ({"batch_size": 5, "epochs": 2}, [5, 5, 5, 5]),
        ({"batch_size": "all", "epochs": 3}, [10, 10, 10]),
        ({"batch_size": 64}, [10]),
        ({"batch_size": 4, "steps": 2}, [4, 4]),
        ({"batch_size": 4, "steps": 3}, [4, 4, 2]),
        ({"batch_size": 4, "steps": 5, "epochs": 9}, [4, 4, 2, 4, 4]),
        ({"batch_size": 1, "steps": 11}, [1] * 11),
    ],
)
def test_batches_fill_whole_epochs_with_a_short_last_one(settings: dict[str, int], sizes: list[int]) -> None:
    loss, seen = recording()
    local = LocalSGD(lr=0.1, **settings)
    trained([work("a", numbered(10))], local, loss=loss, model=linear)
    assert [len(batch) for batch in seen] == sizes
    assert len(sizes) == local.total_steps(10)


@pytest.mark.parametrize("max_steps", [1, 2, 3, 4, 7, 100])
def test_partial_work_is_the_beginning_of_the_whole_work(max_steps: int) -> None:
    local = LocalSGD(lr=0.1, batch_size=4, epochs=2)
    whole, part = recording(), recording()
    trained([work("a", numbered(10))], local, loss=whole[0], model=linear)
    trained([work("a", numbered(10), max_steps=max_steps)], local, loss=part[0], model=linear)
    assert part[1] == whole[1][:max_steps]


def test_every_epoch_passes_over_every_example_once_in_a_new_order() -> None:
    loss, seen = recording()
    trained([work("a", numbered(10))], LocalSGD(lr=0.1, batch_size=4, epochs=2), loss=loss, model=linear)
    first, second = ([target for batch in epoch for target in batch] for epoch in (seen[:3], seen[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert first == epoch_order(7, 3, "a", 0, 10).tolist()


def test_without_shuffling_examples_come_as_they_lie() -> None:
    loss, seen = recording()
    local = LocalSGD(lr=0.1, batch_size=4, epochs=2, shuffle=False)
    trained([work("a", numbered(6))], local, loss=loss, model=linear)
    assert seen == [[0, 1, 2, 3], [4, 5]] * 2


def test_an_order_follows_from_seed_round_client_and_epoch_and_from_nothing_else() -> None:
    known = {
        tuple(epoch_order(seed, number, client, epoch, 20))
        for seed in (0, 1)
        for number in (1, 2)
        for client in ("a", "b")
        for epoch in (0, 1)
    }
    assert len(known) == 16
    np.random.seed(0)  # noqa: NPY002 - the very generator that must not matter
    torch.manual_seed(0)
    assert tuple(epoch_order(0, 1, "a", 0, 20)) in known


def test_inputs_and_targets_are_shuffled_alike() -> None:
    seen: list[tuple[list[float], list[float]]] = []

    class Passing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor, extra: Tensor) -> Tensor:
            return (x + extra) * self.factor

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append((outputs.tolist(), targets.tolist()))
        return outputs.mean()

    examples = Examples.of((np.arange(9.0), np.arange(9.0) * 10), np.arange(9.0) * 11)
    trained([work("a", examples)], LocalSGD(lr=1e-12, batch_size=4), loss=loss, model=Passing)
    for outputs, targets in seen:
        assert outputs == pytest.approx(targets)


# --- randomness --------------------------------------------------------------------------------


def test_dropout_draws_from_the_clients_own_address() -> None:
    runs = []
    for start in (0, 1):
        torch.manual_seed(start)
        runs.append(trained(group()).rows)
    assert np.array_equal(*runs)
    other_round = trained([ClientWork("client-0", data(0, 9), round=4)]).rows[0]
    other_seed = trained(group()[:1], seed=8).rows[0]
    other_client = trained([work("client-9", data(0, 9))]).rows[0]
    for row in (other_round, other_seed, other_client):
        assert not np.array_equal(row, runs[0][0])


def test_whoever_lends_torch_gets_its_randomness_and_threads_back() -> None:
    torch.manual_seed(5)
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    with borrowed_torch():
        trained(group())
        assert torch.get_num_threads() == 1
        assert not torch.equal(state, torch.get_rng_state())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == 2


# --- data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint8, np.bool_, ">f4"])
def test_any_kind_of_number_trains_like_the_same_float32(dtype: str) -> None:
    inputs = np.random.default_rng(0).integers(0, 2, (12, 4)).astype(dtype)
    target = (np.arange(12) % 3).astype(np.int32)

    class Casting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            assert x.dtype in (torch.float32, torch.int64)
            out: Tensor = self.body(x.float())
            return out

    plain = Examples.of(inputs.astype(np.float32), target)
    odd = trained([work("a", Examples.of(inputs, target))], model=Casting)
    assert not odd.failures
    assert np.array_equal(odd.rows, trained([work("a", plain)], model=Casting).rows)


def test_read_only_and_strided_arrays_train_and_stay_unchanged() -> None:
    plain = data(0)
    inputs = np.repeat(plain.inputs[0], 2, axis=0)
    inputs.setflags(write=False)
    found = trained([work("a", Examples.of(inputs[::2], plain.target[::-1][::-1]))])
    assert np.array_equal(found.rows, trained([work("a", plain)]).rows)


def test_images_train_in_either_memory_format_alike() -> None:
    def model() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4, 3)
        )

    rng = np.random.default_rng(0)
    images, target = rng.standard_normal((8, 3, 6, 6)).astype(np.float32), rng.integers(0, 3, 8)
    local = LocalSGD(lr=0.1, batch_size=4, shuffle=False)
    runner, vector, built = executor(local, model=model)
    row = runner.train(vector, [work("a", Examples.of(images, target))]).rows[0]
    built.load_vector(vector)
    optimizer = torch.optim.SGD(built.parameters, lr=0.1)
    for begin in (0, 4):
        optimizer.zero_grad()
        outputs = built.module(torch.from_numpy(images[begin : begin + 4]))
        nn.functional.cross_entropy(outputs, torch.from_numpy(target[begin : begin + 4])).backward()
        optimizer.step()
    np.testing.assert_allclose(row[:-1], built.vector() - vector, atol=1e-6)


def test_sequences_train_through_a_gru() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.gru, self.out = (
                nn.Embedding(9, 5),
                nn.GRU(5, 6, batch_first=True),
                nn.Linear(6, 9),
            )

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.out(self.gru(self.embed(x))[0])
            return out

    letters = np.random.default_rng(0).integers(0, 9, (10, 8))
    target = np.roll(letters, -1, axis=1)
    target[:, -1] = -100
    found = trained([work("a", Examples.of(letters, target))], LocalSGD(lr=1.0, epochs=20), model=Reader)
    assert not found.failures
    assert 0 < found.rows[0, -1] < np.log(9)  # it learns
