"""Trains packed clients with an exported program."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tacit.core.examples import Array, Examples
from tacit.core.layout import Layout, Rows, Vector
from tacit.core.local import LocalSGD
from tacit.core.randomness import generator
from tacit.core.terms import LocalTerms
from tacit.training.executor import METRIC_BOUND, ClientWork, UnsupportedError, update_spec
from tacit.training.packing import Batch, MisfitError, Packed, batches, signature_of
from tacit.training.program import Program, ProgramFacts
from tacit.training.program_session import ProgramSession

_PARAMETERS, _VELOCITY = "parameters", "velocity"
_KEPT = np.nextafter(np.float32(1), np.float32(0))  # the largest draw: dropout keeps all of the padding


class ProgramRunner:
    """Trains packed clients with one program: a stacked one any number at once, a step program one.

    Args:
        program: The program, already checked.
        layout: The layout of the model.
        local: Settings of local training.
        terms: What the algorithm adds to the local step.
        seed: The job's seed.

    Attributes:
        local: Settings of local training.
        spec: What a row holds.

    Raises:
        UnsupportedError: The program was exported for another model or for other settings.
    """

    def __init__(
        self, program: Program, layout: Layout, local: LocalSGD, terms: LocalTerms, seed: int
    ) -> None:
        facts = program.facts
        _check_purpose(facts, layout, local, terms)
        self._facts, self._seed = facts, seed
        self.local, self.spec = local, update_spec(layout)
        self._signature = tuple((values.shape, str(values.dtype)) for values in (*facts.inputs, facts.target))
        self._places = tuple(_places(facts))
        self._anchor = np.empty(layout.size, dtype=np.float32)
        constants = {name: np.array(value, np.float32) for name, value in _scalars(facts, local, terms)}
        if facts.proximal:
            constants |= self._cut("anchor", self._anchor)
        if terms.correction is not None:
            constants |= self._cut("correction", np.array(terms.correction, dtype=np.float32))
        self._session = ProgramSession(program, constants)

    def fitted(self, work: ClientWork) -> ClientWork | None:
        """Return the work as the program takes it, or None if its examples do not fit.

        Targets of the other kind of number are converted, as the built-in losses do it.
        """
        try:
            found = signature_of(work.examples)
        except MisfitError:
            return None
        if found == self._signature:
            return work
        shape, dtype = self._signature[-1]
        if not self._facts.is_masked or found[:-1] != self._signature[:-1] or found[-1][0] != shape:
            return None
        with np.errstate(invalid="ignore"):  # what is no number becomes a label that no class has
            target = work.examples.target.astype(dtype)
        return replace(work, examples=Examples(work.examples.inputs, target))

    def run(self, vector: Vector, packed: Packed, rows: Rows) -> None:
        """Train all clients from ``vector`` and write their updates.

        What a client's dropout draws has the address (round, "client", id, "draw"), step by step.

        Args:
            vector: The global model, shape (layout.size,).
            packed: The clients; one, unless the program is a stacked one.
            rows: Their updates, local minus global, then the mean training loss, in packed order; shape
                (clients, spec.size).

        Raises:
            MisfitError: The examples are not what the program takes.
            MemoryError: There is not enough memory.
        """
        self._check_fit(packed)
        clients = len(packed.works)
        total, seen = np.zeros(clients), np.zeros(clients)
        draws = [self._draws_of(work) for work in packed.works] if self._facts.draws else []
        with np.errstate(over="ignore", invalid="ignore"):  # who diverges says so by a row that is not finite
            self._begin(vector, clients)
            for batch in batches(packed, self.local, self._seed):
                if batch.clients < clients:
                    self._write(rows[batch.clients : clients], vector, batch.clients)
                    clients = batch.clients
                self._session.step(clients, self._feed(batch, draws))
                total[:clients] += self._session.loss[:clients] * batch.examples
                seen[:clients] += batch.examples
            self._write(rows[:clients], vector, 0)
            rows[:, -1] = np.clip(total / np.maximum(seen, 1), -METRIC_BOUND, METRIC_BOUND)

    def _check_fit(self, packed: Packed) -> None:
        found = tuple((array.shape[1:], str(array.dtype)) for array in (*packed.inputs, packed.target))
        if found != self._signature:
            raise MisfitError(f"an example is {found}, where the program takes {self._signature}")

    def _begin(self, vector: Vector, clients: int) -> None:
        """Let that many clients start from the global model."""
        if clients > len(self._session.loss):
            self._session.reserve(clients)
        start = self._cut(_PARAMETERS, vector)
        for name, memory in self._session.state.items():
            memory[:clients] = start.get(name, 0.0)  # the velocity starts from zero
        if self._facts.proximal:
            np.copyto(self._anchor, vector)

    def _feed(self, batch: Batch, draws: Sequence[np.random.Generator]) -> Iterator[tuple[str, Array]]:
        """Yield what a step is given, by name."""
        for index, array in enumerate(batch.inputs):
            yield f"input.{index}", array
        yield "target", batch.target
        if self._facts.is_masked:
            yield "weight", batch.weight
        for index, shape in enumerate(self._facts.draws):
            numbers = np.full((*batch.weight.shape, *shape), _KEPT)
            for client, examples in enumerate(batch.examples.tolist()):
                # For real examples only: how many padding adds depends on the neighbours.
                draws[client].random(dtype=np.float32, out=numbers[client, :examples])
            yield f"draw.{index}", numbers

    def _draws_of(self, work: ClientWork) -> np.random.Generator:
        return generator(self._seed, work.round, "client", work.client, "draw")

    def _write(self, rows: Rows, vector: Vector, first: int) -> None:
        """Write the updates of clients that have done their last step: the ``first`` and those behind it."""
        state = self._session.state
        for name, place, _ in self._places:
            trained = state[f"{_PARAMETERS}.{name}"][first : first + len(rows)]
            np.subtract(
                trained.reshape(len(rows), place.stop - place.start), vector[place], out=rows[:, place]
            )

    def _cut(self, kind: str, vector: Vector) -> dict[str, Array]:
        """Cut a flat vector into the graph's inputs of one kind, views into it."""
        return {f"{kind}.{name}": vector[place].reshape(shape) for name, place, shape in self._places}


def _check_purpose(facts: ProgramFacts, layout: Layout, local: LocalSGD, terms: LocalTerms) -> None:
    if [segment.name for segment in layout.segments] != [_PARAMETERS]:
        raise UnsupportedError("a program trains parameters, and this model sends buffers, too")
    if layout.segments[0].tensors != facts.parameters:
        raise UnsupportedError("the program was exported for another model")
    wanted = {
        "momentum": bool(local.momentum),
        "weight_decay": bool(local.weight_decay),
        "max_grad_norm": local.max_grad_norm is not None,
        "proximal": bool(terms.proximal),
        "correction": terms.correction is not None,
    }
    for name, is_wanted in wanted.items():
        if getattr(facts, name) != is_wanted:
            raise UnsupportedError(f"the program was exported with{'out' if is_wanted else ''} `{name}`")


def _scalars(facts: ProgramFacts, local: LocalSGD, terms: LocalTerms) -> Iterator[tuple[str, float]]:
    for name in facts.scalars:
        yield name, getattr(terms if name == "proximal" else local, name)


def _places(facts: ProgramFacts) -> Iterator[tuple[str, slice, tuple[int, ...]]]:
    """Yield name, place in the flat vector and shape of each parameter."""
    start = 0
    for tensor in facts.parameters:
        yield tensor.name, slice(start, start + tensor.size), tensor.shape
        start += tensor.size
