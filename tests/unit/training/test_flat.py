"""A module's state as one vector: what travels, what stays, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from tacit.core.errors import ConfigError, DataError
from tacit.training import Task
from tacit.training.flat import FlatModel, build


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(6, 4), nn.Linear(4, 6)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.embed(x))
        return out


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm = nn.Linear(3, 2), nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.body(x))
        return out


class Masked(nn.Module):
    def __init__(self, *, persistent: bool) -> None:
        super().__init__()
        self.body = nn.Linear(3, 2)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]), persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


def half_frozen() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    return module


def refusal(**task: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        build(Task(**task), 0)  # type: ignore[arg-type]
    assert caught.value.where == "$.task.model"
    return caught.value


# --- views -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [Tied, Normed, half_frozen, lambda: nn.GRU(3, 4, num_layers=2), lambda: nn.Conv2d(1, 2, 3)]
)
def test_a_vector_comes_back_as_it_was_loaded(make: type[nn.Module]) -> None:
    model = FlatModel(make())
    vector = np.random.default_rng(0).standard_normal(model.layout.size).astype(np.float32)
    model.load_vector(vector)
    assert np.array_equal(model.vector(), vector)
    state = model.state()
    for segment in model.layout.segments:
        for name, view in model.layout.views(vector, segment.name).items():
            assert np.array_equal(state[name], view)


def test_tied_weights_travel_once_and_stay_tied() -> None:
    module = Tied()
    model = FlatModel(module)
    assert model.parameter_count == 6 * 4 + 6
    model.load_vector(np.ones(model.layout.size, dtype=np.float32))
    assert module.out.weight is module.embed.weight
    assert module.out.weight.unique().tolist() == [1.0]


def test_frozen_parameters_do_not_travel() -> None:
    model = FlatModel(half_frozen())
    assert [tensor.name for tensor in model.layout.segment("parameters").tensors] == ["1.weight", "1.bias"]
    frozen = model.state()["0.weight"]
    model.load_vector(np.zeros(model.layout.size, dtype=np.float32))
    assert np.array_equal(model.state()["0.weight"], frozen)


def test_a_vector_is_a_copy_and_so_is_a_state() -> None:
    model = FlatModel(Normed())
    vector, state = model.vector(), model.state()
    kept = vector.copy(), state["body.weight"].copy()
    model.load_vector(np.full(model.layout.size, 9, dtype=np.float32))
    assert np.array_equal(vector, kept[0])
    assert np.array_equal(state["body.weight"], kept[1])


def test_a_gru_computes_the_same_through_the_flat_vector() -> None:
    torch.manual_seed(0)
    module, x = nn.GRU(3, 4, num_layers=2, batch_first=True), torch.randn(2, 5, 3)
    before = module(x)[0].detach().clone()
    model = FlatModel(module)
    torch.testing.assert_close(module(x)[0], before)
    model.load_vector(np.zeros(model.layout.size, dtype=np.float32))
    assert not module(x)[0].any()


# --- buffers -----------------------------------------------------------------------------------


def test_averaged_buffers_travel_behind_the_parameters_and_counters_never() -> None:
    model = FlatModel(Normed())
    assert [segment.name for segment in model.layout.segments] == ["parameters", "buffers"]
    names = [tensor.name for tensor in model.layout.segment("buffers").tensors]
    assert names == ["norm.running_mean", "norm.running_var"]
    assert model.local is None


def test_local_buffers_do_not_travel_and_start_afresh_unless_a_client_brings_its_own() -> None:
    module = Normed()
    model = FlatModel(module, buffers="local")
    assert [segment.name for segment in model.layout.segments] == ["parameters"]
    vector = model.vector()
    module(torch.randn(8, 3) + 5)
    assert model.local is not None
    kept = model.local.numpy().copy()
    assert kept[:2].any()
    model.load_vector(vector)
    assert module.norm.running_mean.tolist() == [0, 0]
    assert module.norm.running_var.tolist() == [1, 1]
    model.load(torch.from_numpy(vector), kept)
    assert np.array_equal(np.concatenate([module.norm.running_mean, module.norm.running_var]), kept)


def test_counters_start_from_the_first_for_every_client() -> None:
    module = Normed()
    model = FlatModel(module)
    vector = model.vector()
    for _ in range(3):
        model.load_vector(vector)
        assert module.norm.num_batches_tracked.item() == 0
        module(torch.randn(8, 3))
        assert module.norm.num_batches_tracked.item() == 1


@pytest.mark.parametrize("buffers", ["average", "local"])
def test_buffers_that_no_state_dict_holds_do_not_travel_and_do_not_drift(buffers: str) -> None:
    class Drifting(Masked):
        def __init__(self) -> None:
            super().__init__(persistent=False)
            self.register_buffer("seen", torch.zeros(1), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            self.seen += len(x)
            return super().forward(x)

    module = Drifting()
    model = FlatModel(module, buffers=buffers)
    assert model.layout.size == model.parameter_count
    module(torch.zeros(4, 3))
    model.load_vector(model.vector())
    assert module.seen.item() == 0
    assert module.mask.tolist() == [0.0, -torch.inf]


@pytest.mark.parametrize("buffers", ["average", "local"])
def test_a_buffer_that_the_module_replaces_is_followed_and_reset(buffers: str) -> None:
    class Replacing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(3, 2)
            self.register_buffer("mean", torch.zeros(1))
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

        def forward(self, x: Tensor) -> Tensor:
            self.mean = 0.5 * self.mean + 0.5 * x.mean().detach()
            self.steps = self.steps + 1
            out: Tensor = self.body(x)
            return out

    module = Replacing()
    model = FlatModel(module, buffers=buffers)
    vector = model.vector()
    for _ in range(2):  # the second client finds nothing of the first one's
        model.load_vector(vector)
        module(torch.ones(4, 3))
        model.settle()
        held = model.vector()[-1:] if model.local is None else model.local.numpy()
        assert held.tolist() == [0.5]
        assert module.steps.item() == 1


def test_a_travelling_buffer_must_be_finite() -> None:
    error = refusal(model=lambda: Masked(persistent=True))
    assert (error.code, error.what) == ("T124", "buffer `mask` is not finite")
    assert "persistent=False" in error.fix
    build(Task(model=lambda: Masked(persistent=True), buffers="local"), 0)
    build(Task(model=lambda: Masked(persistent=False)), 0)


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (lambda: "a module", "T121"),
        (lambda: nn.Linear, "T121"),
        (nn.ReLU, "T122"),
        (lambda: nn.Linear(2, 2).requires_grad_(False), "T122"),
        (lambda: nn.Linear(2, 2).double(), "T123"),
        (lambda: nn.Linear(2, 2).bfloat16(), "T123"),
        (lambda: nn.LazyLinear(2), "T124"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused(model: object, code: str) -> None:
    assert refusal(model=model).code == code


def test_a_model_that_is_not_finite_is_refused() -> None:
    def broken() -> nn.Module:
        module = nn.Linear(2, 2)
        with torch.no_grad():
            module.bias[1] = torch.nan
        return module

    error = refusal(model=broken)
    assert (error.code, error.what) == ("T124", "parameter `bias` is not finite")


# --- building ----------------------------------------------------------------------------------


def test_a_model_follows_from_its_seed_and_leaves_the_callers_randomness_alone() -> None:
    task = Task(model=Normed)
    before = torch.get_rng_state()
    a, b, c = build(task, 1).vector(), build(task, 1).vector(), build(task, 2).vector()
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_arguments_reach_the_model() -> None:
    model = build(
        Task(model="torch.nn:Linear", arguments={"in_features": 3, "out_features": 2, "bias": False}), 0
    )
    assert model.parameter_count == 6


# --- warm start --------------------------------------------------------------------------------


@pytest.mark.parametrize("buffers", ["average", "local"])
@pytest.mark.parametrize("make", [Tied, Normed, half_frozen, lambda: Masked(persistent=False)])
def test_a_warm_start_from_a_models_own_file_restores_all_of_it(
    make: type[nn.Module], buffers: str, tmp_path: Path
) -> None:
    before = build(Task(model=make, buffers=buffers), 1)
    for tensor in before.module.state_dict().values():
        tensor += 1
    save_file(before.state(), tmp_path / "model.safetensors")
    after = build(Task(model=make, buffers=buffers, initial=tmp_path / "model.safetensors"), 2)
    after.load_vector(after.vector())  # as for a first client
    assert after.state().keys() == before.state().keys()
    for name, value in before.state().items():
        assert np.array_equal(after.state()[name], value), name


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("body.weight"),
        lambda tensors: tensors.pop("norm.running_mean"),
        lambda tensors: tensors.update({"body.weight": tensors["body.weight"].T.copy()}),
        lambda tensors: tensors.update({"norm.running_var": np.ones(1, np.float32)}),
    ],
)
def test_a_warm_start_that_does_not_fit_is_refused(change: object, tmp_path: Path) -> None:
    tensors = build(Task(model=Normed), 1).state()
    change(tensors)  # type: ignore[operator]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(DataError) as caught:
        build(Task(model=Normed, initial=tmp_path / "model.safetensors"), 2)
    assert (caught.value.code, caught.value.where) == ("T222", str(tmp_path / "model.safetensors"))


def test_frozen_parameters_missing_from_a_warm_start_are_refused(tmp_path: Path) -> None:
    tensors = build(Task(model=half_frozen), 1).state()
    del tensors["0.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"`0\.weight`"):
        build(Task(model=half_frozen, initial=tmp_path / "model.safetensors"), 2)


def test_a_warm_start_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    tensors = build(Task(model=Normed), 1).state()
    tensors["body.bias"][0] = np.inf
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(DataError) as caught:
        build(Task(model=Normed, initial=tmp_path / "model.safetensors"), 2)
    assert caught.value.code == "T223"


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all", b"\xff" * 64])
def test_a_warm_start_that_cannot_be_read_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        build(Task(model=Normed, initial=path), 2)
    assert (caught.value.code, caught.value.where) == ("T221", str(path))
