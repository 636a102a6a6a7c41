"""Packed clients see the batches that each would see alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training import ClientWork, Task
from tacit.training.flat import build
from tacit.training.packing import Batch, MisfitError, batches, pack, signature_of
from tacit.training.torch_executor import TorchExecutor

SEED = 11


def examples(size: int, first: int = 0) -> Examples:
    """Number the examples, so that one can tell from a target or an input whose it is."""
    numbers = np.arange(first, first + size)
    return Examples.of(np.stack([numbers, numbers + 0.5], axis=1).astype(np.float32), numbers)


def group(sizes: Sequence[int], max_steps: Sequence[int | None] = ()) -> list[ClientWork]:
    limits = [*max_steps, *[None] * len(sizes)]
    return [
        ClientWork(f"c{i}", examples(size, 1000 * i), round=4, max_steps=limits[i])
        for i, size in enumerate(sizes)
    ]


def steps_of(works: Sequence[ClientWork], local: LocalSGD) -> dict[str, list[list[int]]]:
    """Return which targets each client saw in each step, by way of packing."""
    packed = pack(works, local)
    seen: dict[str, list[list[int]]] = {work.client: [] for work in works}
    for batch in batches(packed, local, SEED):
        check(batch)
        for client in range(batch.clients):
            real = batch.target[client, : batch.examples[client]]
            seen[packed.works[client].client].append(real.tolist())
            assert np.array_equal(batch.inputs[0][client, : len(real), 0], real)
    return seen


def check(batch: Batch) -> None:
    """Check what holds for every batch."""
    shape = (batch.clients, int(batch.examples.max()))
    assert batch.weight.shape == batch.target.shape == batch.inputs[0].shape[:2] == shape
    assert (batch.weight.dtype, batch.target.dtype, batch.inputs[0].dtype) == ("float32", "int64", "float32")
    assert all(array.flags.c_contiguous for array in (*batch.inputs, batch.target, batch.weight))
    assert np.array_equal(batch.weight.sum(axis=1), batch.examples)
    assert np.array_equal(batch.weight, -np.sort(-batch.weight, axis=1))  # the real ones come first
    assert batch.is_full == (batch.weight == 1).all()
    for client, own in enumerate(batch.examples):
        padding = batch.target[client, own:]
        assert set(padding.tolist()) <= set(batch.target[client, :own].tolist())  # of its own data


def torch_steps(works: Sequence[ClientWork], local: LocalSGD) -> dict[str, list[list[int]]]:
    """Return which targets each client sees in the torch executor."""
    seen: list[list[int]] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(targets.tolist())
        return outputs.square().mean()

    task = Task(model=lambda: nn.Linear(2, 1), loss=loss)
    model = build(task, 0)
    runner = TorchExecutor(task, model, local, LocalTerms(), SEED)
    found = {}
    for work in works:
        seen.clear()
        assert not runner.train(np.zeros(3, dtype=np.float32), [work]).failures
        found[work.client] = list(seen)
    return found


LOCALS = [
    LocalSGD(lr=1e-9, batch_size=4, shuffle=False),
    LocalSGD(lr=1e-9, batch_size=4, epochs=3),
    LocalSGD(lr=1e-9, batch_size="all", epochs=2),
    LocalSGD(lr=1e-9, batch_size=4, steps=7),
    LocalSGD(lr=1e-9, batch_size=4, steps=7, shuffle=False),
    LocalSGD(lr=1e-9, batch_size="all", steps=2, shuffle=False),
]


@pytest.mark.parametrize("local", LOCALS, ids=repr)
def test_every_client_sees_the_batches_that_the_torch_executor_gives_it(local: LocalSGD) -> None:
    works = group((9, 1, 12, 4, 8, 13, 4), max_steps=(None, None, 2, None, 0, 5))
    assert steps_of(works, local) == torch_steps(works, local)


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 23), min_size=1, max_size=9),
    limits=st.lists(st.none() | st.integers(0, 6), max_size=9),
    batch=st.sampled_from([1, 3, 5, 40, "all"]),
    epochs=st.integers(1, 3),
    steps=st.none() | st.integers(1, 9),
    shuffle=st.booleans(),
)
def test_a_client_sees_the_same_batches_alone_and_in_any_group(
    sizes: list[int], limits: list[int | None], batch: Any, epochs: int, steps: int | None, shuffle: bool
) -> None:
    local = LocalSGD(lr=0.1, batch_size=batch, epochs=epochs, steps=steps, shuffle=shuffle)
    works = group(sizes, limits)
    together = steps_of(works, local)
    for work in works:
        alone = steps_of([work], local)[work.client]
        assert alone == together[work.client]
        limit = local.total_steps(len(work.examples))
        assert len(alone) == (limit if work.max_steps is None else min(limit, work.max_steps))


def test_most_steps_come_first_and_ties_stay_in_the_groups_order() -> None:
    packed = pack(group((5, 21, 6, 20, 30)), LocalSGD(lr=0.1, batch_size=10))
    assert [work.client for work in packed.works] == ["c1", "c4", "c3", "c0", "c2"]
    assert packed.order.tolist() == [1, 4, 3, 0, 2]
    assert packed.sizes.tolist() == [21, 30, 20, 5, 6]
    assert packed.steps.tolist() == [3, 3, 2, 1, 1]


def test_only_short_batches_are_padded_and_by_the_clients_own_last_example() -> None:
    local = LocalSGD(lr=0.1, batch_size=4, shuffle=False)
    first, second, third = batches(pack(group((10, 8, 5)), local), local, SEED)
    assert (first.clients, second.clients, third.clients) == (3, 3, 1)
    assert first.is_full
    assert not second.is_full
    assert third.is_full  # one client needs no padding, however short its batch is
    assert second.target[2].tolist() == [2004, 2004, 2004, 2004]
    assert second.weight[2].tolist() == [1, 0, 0, 0]
    assert second.examples.tolist() == [4, 4, 1]
    assert third.target.tolist() == [[8, 9]]


def test_one_unshuffled_client_is_not_copied() -> None:
    local = LocalSGD(lr=0.1, batch_size=4, shuffle=False)
    (work,) = group((9,))
    for batch in batches(pack([work], local), local, SEED):
        assert np.shares_memory(batch.inputs[0], work.examples.inputs[0])
        assert np.shares_memory(batch.target, work.examples.target)


@pytest.mark.parametrize("clients", [1, 3])
def test_numbers_become_float32_or_int64_and_memory_may_lie_as_it_likes(clients: int) -> None:
    wide = np.arange(24.0).reshape(6, 4)
    readonly = np.arange(6, dtype=np.uint8)
    readonly.flags.writeable = False
    inputs = (wide[:, ::2], np.asfortranarray(wide.astype(">f4")), wide > 3, readonly)
    works = [ClientWork(f"c{i}", Examples(inputs, wide[:, 0] > 7), 1) for i in range(clients)]
    local = LocalSGD(lr=0.1, batch_size="all", shuffle=False)
    packed = pack(works, local)
    (batch,) = batches(packed, local, SEED)
    dtypes = ["float32", "float32", "float32", "int64"]
    assert [str(array.dtype) for array in batch.inputs] == dtypes
    assert str(batch.target.dtype) == "float32"
    for array, given_array in zip(batch.inputs, inputs, strict=True):
        assert array.flags.c_contiguous
        assert np.array_equal(array[-1], given_array)
    assert signature_of(works[0].examples) == tuple(
        (array.shape[1:], str(array.dtype)) for array in (*packed.inputs, packed.target)
    )


def test_numbers_beyond_float32_become_infinite() -> None:
    works = [ClientWork(c, Examples.of(np.full((2, 1), 1e300), np.zeros(2)), 1) for c in "ab"]
    assert np.isposinf(pack(works, LocalSGD(lr=0.1)).inputs[0]).all()
    assert np.isposinf(pack(works[:1], LocalSGD(lr=0.1)).inputs[0]).all()


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (Examples.of(np.zeros((2, 3), np.float32), np.zeros(2, int)), "shape or dtype"),
        (Examples.of(np.zeros((2, 2), int), np.zeros(2, int)), "shape or dtype"),
        (Examples.of(np.zeros((2, 2), np.float32), np.zeros(2)), "shape or dtype"),
        (Examples.of((np.zeros((2, 2)), np.zeros(2)), np.zeros(2, int)), "number of inputs"),
        (Examples.of(np.array([["x", "y"]] * 2), np.zeros(2, int)), "numbers"),
        (Examples.of(np.zeros((0, 2), np.float32), np.zeros(0, int)), "without examples"),
    ],
    ids=["shape", "inputs-dtype", "target-dtype", "count", "text", "empty"],
)
def test_examples_that_do_not_fit_together_are_refused(odd: Examples, says: str) -> None:
    works = [*group((3, 3)), ClientWork("odd", odd, 4)]
    with pytest.raises(MisfitError, match=says):
        pack(works, LocalSGD(lr=0.1))


def test_there_is_nothing_to_pack_without_clients() -> None:
    with pytest.raises(MisfitError, match="no clients"):
        pack([], LocalSGD(lr=0.1))


def test_clients_without_any_step_are_packed_and_see_nothing() -> None:
    works = group((5, 6), max_steps=(0, 0))
    assert steps_of(works, LocalSGD(lr=0.1)) == {"c0": [], "c1": []}
