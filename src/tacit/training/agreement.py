"""Whether an executor computes what plain PyTorch does, tried out on a few clients.

A wrong executor is found by what it computes, not by how it is built: first steps must agree to rounding,
whole work as far as a ReLU that tips over at a rounding error lets it, and the same clients must fail.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tacit.core.examples import Array, Examples
from tacit.core.layout import Rows, Vector
from tacit.core.local import LocalSGD
from tacit.core.spec import UpdateSpec
from tacit.training.executor import METRICS, ClientWork, Executor


class Tolerance(NamedTuple):
    """Largest relative L2 difference of a segment of an update.

    Attributes:
        typical: For the client in the middle.
        worst: For every client.
    """

    typical: float
    worst: float


# Adding float32 numbers in another order moves a first step by 1e-7 to 1e-5 of its length. One activation
# near zero or tied maximum that goes the other way moves a single client by more, and from then on it drifts.
FIRST_STEPS = Tolerance(typical=2e-5, worst=1e-3)
"""After one step, and after three: the third also sees momentum."""
WHOLE_WORK = Tolerance(typical=5e-3, worst=2e-2)
"""After all the work of a round, or as much of it as is tried."""

_FIRST = "after one step"
_TRIED_STEPS = 20  # of a client's whole work
_ULP = 2.0**-24  # how far rounding a parameter once may move it, as a share of the parameter
_SMALL_LOSS = 1e-6
_ABSURD = 10**9  # a label or word that no model has


@dataclass(frozen=True)
class Agreement:
    """What the comparison found.

    Attributes:
        error: Largest relative L2 difference of a segment of an update after one step.
        objection: What is wrong, in words; empty if nothing is.
    """

    error: float = 0.0
    objection: str = ""


def compare(
    candidate: Executor,
    reference: Executor,
    vector: Vector,
    works: Sequence[ClientWork],
    local: LocalSGD,
    group: int,
) -> Agreement:
    """Let both train the same clients and compare what comes of it.

    Short, empty and damaged clients are made from the given ones, so that it does not take luck to meet one.

    Args:
        candidate: The executor in question.
        reference: The one that is right.
        vector: The global model, shape (layout.size,).
        works: A few clients of different sizes; at least one.
        local: Settings of local training.
        group: How many clients the candidate is to train at once.
    """
    if candidate.spec != reference.spec:
        return Agreement(objection="lays its rows out differently")
    several = [*works, *_short(works[0], local)]
    found = Agreement()
    for words, tried, tolerance in _trials(several, local):
        ours = _outcomes(candidate, vector, tried, group)
        theirs = _outcomes(reference, vector, tried, group)
        errors, objection = _differences(ours, theirs, reference.spec, vector, _most_steps(tried, local))
        if not objection and not _within([error.unexplained for error in errors], tolerance):
            objection = f"differs from torch by {max(error.total for error in errors):.0e}"
        if objection:
            return Agreement(objection=f"{objection} {words}")
        if words == _FIRST:
            if not errors:
                return Agreement(objection="cannot be compared: torch trains none of the clients tried")
            found = Agreement(error=max(error.total for error in errors))
    return found


def _trials(works: list[ClientWork], local: LocalSGD) -> Iterator[tuple[str, list[ClientWork], Tolerance]]:
    """Yield what is tried: words for it, the clients, and how much they may differ."""
    yield _FIRST, _cut(works, 1), FIRST_STEPS
    yield "after three steps", _cut(works, 3), FIRST_STEPS
    yield "after a client's whole work", _limited(works, local), WHOLE_WORK
    yield "beside damaged clients", _cut([works[0], *_damaged(works[0]), works[-1]], 1), FIRST_STEPS


def _cut(works: Sequence[ClientWork], steps: int) -> list[ClientWork]:
    return [replace(w, max_steps=steps if w.max_steps is None else min(steps, w.max_steps)) for w in works]


def _limited(works: Sequence[ClientWork], local: LocalSGD) -> list[ClientWork]:
    """Leave those alone that are done within a few steps; the others stop after these."""
    return [w if _steps(w, local) <= _TRIED_STEPS else replace(w, max_steps=_TRIED_STEPS) for w in works]


def _steps(work: ClientWork, local: LocalSGD) -> int:
    total = local.total_steps(len(work.examples))
    return total if work.max_steps is None else min(total, work.max_steps)


def _most_steps(works: Sequence[ClientWork], local: LocalSGD) -> int:
    return max(_steps(work, local) for work in works)


def _short(work: ClientWork, local: LocalSGD) -> Iterator[ClientWork]:
    """Yield two clients with a short last batch: one without a full batch before it, and one with.

    The third step of that one is the first of its second epoch, and shows the order of that.
    """
    batch = local.batch(len(work.examples))
    for name, size in (("few", max(1, batch // 3)), ("ragged", batch + batch // 3 + 1)):
        index = np.arange(size) % len(work.examples)
        yield replace(work, client=f"{work.client} {name}", examples=work.examples.take(index))


# --- clients that something is wrong with -----------------------------------------------------------


def _damaged(work: ClientWork) -> Iterator[ClientWork]:
    """Yield clients that most models cannot train: whatever torch makes of each, so must the candidate."""
    examples = work.examples
    yield replace(work, client=f"{work.client} empty", examples=examples.take(slice(0, 0)))
    if any(x.dtype.kind == "f" for x in examples.inputs):
        inputs = tuple(_filled(x, np.nan) if x.dtype.kind == "f" else x for x in examples.inputs)
        yield replace(work, client=f"{work.client} nan", examples=Examples(inputs, examples.target))
    if any(x.dtype.kind in "iu" for x in examples.inputs):
        inputs = tuple(_filled(x, _ABSURD) if x.dtype.kind in "iu" else x for x in examples.inputs)
        yield replace(work, client=f"{work.client} word", examples=Examples(inputs, examples.target))
    if examples.target.dtype.kind in "iu":
        target = _filled(examples.target, _ABSURD)
        yield replace(work, client=f"{work.client} label", examples=Examples(examples.inputs, target))


def _filled(array: Array, value: float) -> Array:
    """Return an array of that value alone, so that every batch meets it."""
    return np.full(array.shape, value, dtype=np.int64 if array.dtype.kind in "iu" else array.dtype)


# --- what came of it --------------------------------------------------------------------------------


class _Outcome(NamedTuple):
    """What one client has: its update, its number of examples, and the buffers it keeps."""

    row: Vector
    examples: int
    buffers: Vector | None


_Outcomes = Mapping[str, _Outcome | None]
"""By client; None for one that failed or whose update is not finite: it is refused in either case."""


def _outcomes(executor: Executor, vector: Vector, works: Sequence[ClientWork], group: int) -> _Outcomes:
    found: dict[str, _Outcome | None] = {}
    for start in range(0, len(works), group):
        trained = executor.train(vector, works[start : start + group])
        found |= dict.fromkeys(trained.failures)
        rows: Rows = trained.rows
        for client, row, examples in zip(trained.clients, rows, trained.examples, strict=True):
            outcome = _Outcome(row.copy(), examples, trained.buffers.get(client))
            found[client] = outcome if bool(np.isfinite(row).all()) else None
    return found


class _Error(NamedTuple):
    """How much a client differs, relative to torch's own update.

    Attributes:
        total: The largest relative difference of a segment.
        unexplained: The same without what rounding the parameters themselves may do: where steps are tiny
            beside the parameters, that is most of it.
    """

    total: float
    unexplained: float


def _differences(
    ours: _Outcomes, theirs: _Outcomes, spec: UpdateSpec, vector: Vector, steps: int
) -> tuple[list[_Error], str]:
    """Return how much each client differs, and an objection that is no matter of degree."""
    if set(ours) != set(theirs):
        return [], "answers for other clients than it was given"
    errors = []
    for client, right in theirs.items():
        found = ours[client]
        if found is None and right is None:
            continue
        if found is None or right is None:
            return [], f"{'refuses' if found is None else 'trains'} a client that torch does not"
        if found.row.shape != right.row.shape or found.row.dtype != np.float32:
            return [], "has rows of another shape or dtype"
        if found.examples != right.examples or (found.buffers is None) != (right.buffers is None):
            return [], "counts other examples, or keeps other buffers,"
        errors.append(_error(found, right, spec, vector, steps))
    return errors, ""


def _error(ours: _Outcome, theirs: _Outcome, spec: UpdateSpec, vector: Vector, steps: int) -> _Error:
    errors = []
    for segment in spec.segments:
        at = spec.slice(segment.name)
        slack = _SMALL_LOSS if segment.name == METRICS else _ULP * steps**0.5 * _norm(vector[at])
        errors.append(_relative(ours.row[at], theirs.row[at], slack))
    if ours.buffers is not None and theirs.buffers is not None:
        errors.append(_relative(ours.buffers, theirs.buffers, _ULP * _norm(theirs.buffers)))
    return _Error(*(max(column) for column in zip(*errors, strict=True)))


def _relative(ours: Vector, theirs: Vector, slack: float) -> tuple[float, float]:
    away, length = _norm(ours.astype(np.float64) - theirs), _norm(theirs)
    total, unexplained = (_share(value, length) for value in (away, max(0.0, away - slack)))
    return total, unexplained


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float(np.inf) if part else 0.0


def _norm(vector: Array) -> float:
    return float(np.linalg.norm(vector.astype(np.float64)))


def _within(errors: Sequence[float], tolerance: Tolerance) -> bool:
    return not errors or (float(np.median(errors)) <= tolerance.typical and max(errors) <= tolerance.worst)
