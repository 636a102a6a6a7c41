"""The contract of an executor: local training as a pure function of its arguments, for a group of clients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tacit.core.bounds import Count
from tacit.core.examples import Examples
from tacit.core.layout import Layout, Rows, Vector
from tacit.core.part import Settings
from tacit.core.spec import SegmentSpec, UpdateSpec

METRICS = "metrics"
"""Name of the segment that carries local training metrics: the mean training loss."""
BUFFER_BOUND = 2.0**20
"""Largest absolute change of a buffer in one round."""
METRIC_BOUND = 2.0**20
"""Largest absolute value of a training metric that is sent; larger ones are cut."""


@dataclass(frozen=True)
class ClientWork:
    """What one client is to do.

    Attributes:
        client: Its id.
        examples: Its training data.
        round: The round's number, part of the address of every draw.
        max_steps: Stop after that many steps (a straggler's partial work); None: do all.
        buffers: Buffers the client kept from its last round, where they stay local.
    """

    client: str
    examples: Examples
    round: int
    max_steps: int | None = None
    buffers: Vector | None = None


@dataclass(frozen=True)
class Failure:
    """Why one client has no update.

    Attributes:
        reason: A few words for the round's record; never a data value.
        traceback: Python's traceback, shown locally and sent nowhere.
    """

    reason: str
    traceback: str = ""


@dataclass(frozen=True)
class Trained:
    """What a group of clients made of the global vector.

    Attributes:
        clients: Ids of the clients that finished, one per row.
        rows: Their updates (local minus global, then metrics), shape (clients, spec.size).
        examples: Number of training examples of each.
        failures: The other clients, with the reason.
        buffers: Buffers that each client keeps for its next round, where they stay local.
        room: Columns of free memory behind the rows.
    """

    clients: tuple[str, ...]
    rows: Rows
    examples: tuple[int, ...]
    failures: Mapping[str, Failure] = field(default_factory=dict)
    buffers: Mapping[str, Vector] = field(default_factory=dict)
    room: int = 0


class Choice(Settings, frozen=True):
    """Who trains, and how many clients at a time: fixed for a whole run, whose last bits depend on it.

    Attributes:
        executor: Name of the executor, one of ``EXECUTORS`` or ``PRIVATE``.
        group: Clients that are trained, encoded and summed together.
        reason: Why this one, in words.
    """

    executor: str = "torch"
    group: Count = 1
    reason: str = ""


class UnsupportedError(Exception):
    """An executor cannot train this task; the message names the operator, layer or setting that it lacks."""


class Executor(Protocol):
    """Trains a group of clients; the result depends on the arguments alone.

    A client that raises or has no data is reported among the failures and takes nobody along.
    """

    @property
    def spec(self) -> UpdateSpec:
        """What a row holds."""
        ...

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        """Train every client of the group from ``vector``, the global model, shape (layout.size,)."""
        ...


def update_spec(layout: Layout, *, metrics: bool = True) -> UpdateSpec:
    """Declare a row: the model's own segments, then the training metrics, if there are any."""
    spec = UpdateSpec.for_layout(layout)
    if "buffers" in spec.names:
        # A running variance is a square of the data's own scale, not a step of an optimizer.
        spec = spec.change("buffers", coordinate_bound=BUFFER_BOUND)
    return spec.append(SegmentSpec(METRICS, 1, coordinate_bound=METRIC_BOUND)) if metrics else spec
