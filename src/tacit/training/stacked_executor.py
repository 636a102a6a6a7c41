"""The executor for small models: many clients in one call of an exported program."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tacit.core.layout import ROOM, Layout, Vector, empty_rows
from tacit.core.local import LocalSGD
from tacit.core.spec import UpdateSpec
from tacit.core.terms import LocalTerms
from tacit.training.executor import ClientWork, Trained
from tacit.training.onnx_executor import train_one_by_one
from tacit.training.packing import MisfitError, pack
from tacit.training.program import Program, Values
from tacit.training.program_runner import ProgramRunner

_FLOAT_BYTES, _INTEGER_BYTES = 4, 8


class StackedExecutor:
    """Trains all clients of a group at once with a program whose first dimension is clients.

    Each row depends on its own client alone, up to rounding: a sum may be taken in another order when
    others are trained beside it. Where the call of a group raises, its clients are trained one by one.

    Args:
        program: The program of kind ``"stacked"``, already checked.
        layout: The layout of the task's model.
        local: Settings of local training.
        terms: What the algorithm adds to the local step.
        seed: The job's seed.

    Raises:
        UnsupportedError: The program was exported for another model or for other settings.
    """

    def __init__(
        self, program: Program, layout: Layout, local: LocalSGD, terms: LocalTerms, seed: int
    ) -> None:
        self._runner = ProgramRunner(program, layout, local, terms, seed)

    @property
    def spec(self) -> UpdateSpec:
        return self._runner.spec

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        try:
            return self._train_together(vector, group)
        except MisfitError:
            return self._train_fitting(vector, group)
        except MemoryError:
            raise  # this machine's trouble, not a client's
        except Exception:  # noqa: BLE001 - a client's data may do anything; whose it was is found out now
            return train_one_by_one(self._runner, vector, group)

    def _train_together(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        packed = pack(group, self._runner.local)
        rows, room = empty_rows(len(group), self.spec.size), ROOM
        self._runner.run(vector, packed, rows)
        if (packed.order[1:] < packed.order[:-1]).any():  # a group is often in packed order already
            rows, room = rows[np.argsort(packed.order)], 0
        sizes = np.empty_like(packed.sizes)
        sizes[packed.order] = packed.sizes
        return Trained(tuple(work.client for work in group), rows, tuple(sizes.tolist()), room=room)

    def _train_fitting(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        """Train together those whose data the program takes; the others fail, each for itself."""
        fitted = {work.client: self._runner.fitted(work) for work in group if len(work.examples)}
        works = [work for work in fitted.values() if work is not None]
        alone = train_one_by_one(
            self._runner, vector, [work for work in group if fitted.get(work.client) is None]
        )
        if not works:
            return alone
        together = self.train(vector, works)
        return replace(together, failures={**together.failures, **alone.failures})


def bytes_per_client(program: Program, examples_per_batch: int) -> int:
    """Return the memory that each client of a group takes while it is trained, in bytes.

    Its state twice (what a step reads and what it writes), its gradient twice (before and after the learning
    rate), its row, and a batch with its draws. What the graph keeps between forward and backward pass is
    unknown and left out: for a small dense network about a third more.
    """
    facts = program.facts
    parameters = sum(tensor.size for tensor in facts.parameters)
    example = sum(_bytes_of(values) for values in (*facts.inputs, facts.target)) + _FLOAT_BYTES
    example += sum(_FLOAT_BYTES * math.prod(shape) for shape in facts.draws)
    state = 2 * parameters if facts.momentum else parameters
    return _FLOAT_BYTES * (2 * state + 3 * parameters + 1) + examples_per_batch * example


def _bytes_of(values: Values) -> int:
    return math.prod(values.shape) * (_INTEGER_BYTES if values.dtype == "int64" else _FLOAT_BYTES)
