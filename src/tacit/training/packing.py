"""Ragged clients as rectangular arrays: one step of many clients at once, with little padding.

Clients are sorted by their number of steps, so that those that still have one to do are a prefix; only the
short last batches of an epoch are padded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.core.examples import Array, Examples
from tacit.core.local import LocalSGD
from tacit.training.executor import ClientWork
from tacit.training.order import epoch_order

Integers = npt.NDArray[np.int64]
Signature = tuple[tuple[tuple[int, ...], str], ...]
"""Shape of one example and packed dtype of every array, the inputs first."""
_PACKED_AS = {"f": "float32", "b": "float32", "i": "int64", "u": "int64"}


@dataclass(frozen=True)
class Batch:
    """One step of the clients that still have one to do: a prefix of the packed order.

    Padding repeats the client's last example of the batch: no model is shown what its data does not hold,
    such as a row of zeros that it would divide by.

    Attributes:
        clients: How many these are.
        inputs: Their inputs, each of shape (clients, batch, ...).
        target: Their targets, shape (clients, batch, ...).
        weight: 1 for an example, 0 for padding, float32 of shape (clients, batch).
        examples: Number of examples of each, shape (clients,).
        is_full: Whether there is no padding.
    """

    clients: int
    inputs: tuple[Array, ...]
    target: Array
    weight: npt.NDArray[np.float32]
    examples: Integers
    is_full: bool


@dataclass(frozen=True)
class Packed:
    """A group in packed order: most steps first, ties in the group's order.

    Attributes:
        works: The clients' work, in packed order like all else here.
        order: Position of each in the group, shape (clients,).
        inputs: The examples of all clients one after another, shape (all examples, ...).
        target: Their targets, likewise.
        sizes: Number of examples of each client, shape (clients,).
        steps: Number of steps of each, shape (clients,).
    """

    works: tuple[ClientWork, ...]
    order: Integers
    inputs: tuple[Array, ...]
    target: Array
    sizes: Integers
    steps: Integers


class MisfitError(ValueError):
    """Examples do not fit together, or not into a program: other shapes, other numbers, or none at all."""


def signature_of(examples: Examples) -> Signature:
    """Return what makes examples fit together: shape and dtype of one, as they are packed.

    Raises:
        MisfitError: An array holds neither floats nor integers nor booleans.
    """
    return tuple((array.shape[1:], _packed_as(array.dtype)) for array in (*examples.inputs, examples.target))


def pack(group: Sequence[ClientWork], local: LocalSGD) -> Packed:
    """Pack the clients of a group.

    Floats become float32, integers int64 and booleans float32, as in ``tensors_of``.

    Raises:
        MisfitError: A client has no examples, others than the rest have, or such as are no numbers.
    """
    sizes = [len(work.examples.target) for work in group]
    if not sizes or not all(sizes):
        raise MisfitError("there is nothing to pack: no clients, or one without examples")
    limits = {size: local.total_steps(size) for size in set(sizes)}
    steps = np.array([_capped(limits[n], work.max_steps) for n, work in zip(sizes, group, strict=True)])
    order = np.argsort(-steps, kind="stable")
    works = tuple([group[position] for position in order.tolist()])
    every = [work.examples for work in works]
    try:
        columns = list(zip(*[examples.inputs for examples in every], strict=True))
    except ValueError:
        raise MisfitError("clients differ in their number of inputs") from None
    inputs = tuple(_joined(column) for column in columns)
    target = _joined([examples.target for examples in every])
    return Packed(works, order, inputs, target, np.array(sizes)[order], steps[order])


def batches(packed: Packed, local: LocalSGD, seed: int) -> Iterator[Batch]:
    """Yield the batches of all steps in their order; each client passes over its data as if it were alone.

    Args:
        packed: The clients.
        local: The settings they were packed with.
        seed: The job's seed.
    """
    schedule = _Schedule(packed, local, seed)
    clients = len(packed.works)
    for step in range(int(packed.steps[0])):
        while packed.steps[clients - 1] <= step:
            clients -= 1
        yield schedule.batch(step, clients)


class _Schedule:
    """Which rows every client uses in every step."""

    def __init__(self, packed: Packed, local: LocalSGD, seed: int) -> None:
        self._packed, self._shuffle, self._seed = packed, local.shuffle, seed
        sizes = packed.sizes
        self._batch = sizes if local.batch_size == "all" else np.full_like(sizes, local.batch_size)
        self._per_epoch = -(-sizes // self._batch)
        self._starts = np.cumsum(sizes) - sizes
        self._rows = np.arange(int(sizes.sum()))  # each client's rows in the order of its present epoch

    def batch(self, step: int, clients: int) -> Batch:
        """Return step number ``step`` of the first ``clients`` clients."""
        epoch, place = np.divmod(step, self._per_epoch[:clients])
        if self._shuffle:
            for client in np.flatnonzero(place == 0).tolist():
                self._reorder(client, int(epoch[client]))
        begin = place * self._batch[:clients]
        examples = np.minimum(self._packed.sizes[:clients] - begin, self._batch[:clients])
        width = int(examples.max())
        is_full = bool(examples.min() == width)
        if clients == 1 and not self._shuffle:  # no other rows in between: views will do
            inputs = tuple(x[None, begin[0] : begin[0] + width] for x in self._packed.inputs)
            target = self._packed.target[None, begin[0] : begin[0] + width]
            return Batch(1, inputs, target, np.ones((1, width), dtype=np.float32), examples, is_full)
        places = np.arange(width) if is_full else np.minimum(np.arange(width), examples[:, None] - 1)
        rows = (self._starts[:clients] + begin)[:, None] + places
        weight = (np.arange(width) < examples[:, None]).astype(np.float32)
        if self._shuffle:
            rows = self._rows[rows]
        inputs = tuple(array.take(rows, axis=0) for array in self._packed.inputs)
        return Batch(clients, inputs, self._packed.target.take(rows, axis=0), weight, examples, is_full)

    def _reorder(self, client: int, epoch: int) -> None:
        """Draw the order of a client's next epoch."""
        work, start, size = self._packed.works[client], self._starts[client], int(self._packed.sizes[client])
        order = epoch_order(self._seed, work.round, work.client, epoch, size)
        np.add(order, start, out=self._rows[start : start + size])


def _capped(steps: int, most: int | None) -> int:
    return steps if most is None else min(steps, most)


def _joined(arrays: Sequence[Array]) -> Array:
    """Return the rows of all arrays in one; a single array stays where it is."""
    kinds, ranks = {array.dtype for array in arrays}, {array.ndim for array in arrays}
    dtypes = {_packed_as(kind) for kind in kinds}
    try:
        if len(ranks) > 1 or len(dtypes) > 1:
            raise ValueError(f"{ranks} axes, {dtypes}")
        return _concatenated(arrays, dtypes.pop())
    except ValueError as error:  # np.concatenate finds out quickest whether all shapes are the same
        raise MisfitError(f"clients differ in the shape or dtype of their examples: {error}") from None


def _concatenated(arrays: Sequence[Array], dtype: str) -> Array:
    with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite, as in torch
        if len(arrays) == 1:
            return np.ascontiguousarray(arrays[0], dtype=dtype)
        return np.concatenate(arrays, dtype=dtype, casting="unsafe")


def _packed_as(dtype: np.dtype[Any]) -> str:
    try:
        return _PACKED_AS[dtype.kind]
    except KeyError:
        raise MisfitError(f"examples are numbers, not {dtype}") from None
