"""Gradient inversion in a run: what one update gives away, as it is and as it is released."""

from collections.abc import Iterator

import numpy as np

from tacit.core.errors import RunError
from tacit.core.examples import Array, Examples
from tacit.core.layout import Vector
from tacit.core.randomness import generator
from tacit.privacy.audit import closest, likeness
from tacit.report.audit_findings import Picture
from tacit.sim.audit_canaries import sent
from tacit.sim.audit_rounds import Stage, play
from tacit.training.executor import ClientWork
from tacit.training.flat import PARAMETERS
from tacit.training.inversion import Inversion, Range
from tacit.training.torch_executor import TorchExecutor

_CLIENTS = 64  # whose values say what values are possible
_TRIES = 100


def pictures(stage: Stage, count: int, steps: int) -> tuple[Picture, ...]:
    """Invert updates of clients that have one example each, before and after all protection.

    Before: the update as local training made it. After: what the round releases if that client is the
    only one that sends anything but zeros, which is the worst case that a promise of privacy covers.

    Args:
        stage: What to play with.
        count: How many examples to look at, each of another client.
        steps: How long to optimise where the update cannot simply be read.

    Raises:
        RunError: The model cannot be attacked in this way.
    """
    rng = generator(stage.plan.job.seed, "audit", "pictures")
    examples = list(_examples(stage, count, rng))
    if not examples:
        return ()
    values = _values(stage, rng)
    return tuple(_picture(stage, example, values, steps, number) for number, example in enumerate(examples))


def _picture(stage: Stage, example: Examples, values: Range, steps: int, number: int) -> Picture:
    vector = stage.model.vector()
    update = _update(stage, example, vector)
    attack = Inversion(stage.plan.job.task, stage.model, vector, example, values)
    original, target = example.inputs[0][0], example.target
    before = attack.invert(update, target, steps=steps, seed=number)
    after = attack.invert(_released(stage, update, number), target, steps=steps, seed=number)
    stage.model.load_vector(vector)
    one, other = closest(original, before.inputs), closest(original, after.inputs)
    return Picture(
        original=original,
        before=one,
        after=other,
        likeness_before=likeness(original, one, values.width),
        likeness_after=likeness(original, other, values.width),
        method=before.method,
    )


def _update(stage: Stage, example: Examples, vector: Vector) -> Vector:
    """Return the parameters' part of what a client with that one example would send."""
    job = stage.plan.job
    local, terms = job.algorithm.local, job.algorithm.terms()
    executor = TorchExecutor(job.task, stage.model, local, terms, job.seed)
    trained = executor.train(vector, [ClientWork("audited", example, 1)])
    stage.model.load_vector(vector)
    if trained.failures:
        reason = trained.failures["audited"].reason
        raise RunError("T355", f"gradient inversion: a client with one example could not train: {reason}")
    return np.array(trained.rows[0][stage.plan.layout.slice(PARAMETERS)])


def _released(stage: Stage, update: Vector, number: int) -> Vector:
    """Return what a round releases in which one client sends the update and all others zeros."""
    if stage.plan.private is not None and stage.plan.private.privacy.trust == "local":
        return np.array(sent(stage.seeded("picture", number), {"audited": update})[0], dtype=np.float32)
    for again in range(_TRIES):
        released = _round(stage.seeded("picture", number, again), update)
        if released is not None:
            return released
    what = f"nobody took part in any of {_TRIES} rounds"
    raise RunError("T354", what, fix="Check cohort and dropouts, or audit without pictures: --pictures 0")


def _round(stage: Stage, update: Vector) -> Vector | None:
    """Play one round in which the first client asked sends the update; None if it is not in the sum."""
    seen: list[Vector] = []
    asked: list[str] = []

    def row_of(client: str) -> Vector | None:
        asked.append(client)
        return update if client == asked[0] else None

    (cohort,) = play(stage, row_of, lambda released: seen.append(released.copy()), rounds=1)
    return seen[0] if asked and asked[0] in cohort else None


def _examples(stage: Stage, count: int, rng: np.random.Generator) -> Iterator[Examples]:
    """Yield single examples of different clients."""
    for position in rng.permutation(np.flatnonzero(stage.population.sizes > 0)).tolist()[:count]:
        examples = stage.population.train(position)
        row = int(rng.integers(len(examples)))
        yield examples.take(slice(row, row + 1))


def _values(stage: Stage, rng: np.random.Generator) -> Range:
    """Return the smallest and largest value of some clients' inputs, granted to the attacker."""
    held = rng.permutation(np.flatnonzero(stage.population.sizes > 0)).tolist()[:_CLIENTS]
    inputs: list[Array] = [stage.population.train(position).inputs[0] for position in held]
    low, high = min(float(one.min()) for one in inputs), max(float(one.max()) for one in inputs)
    return Range(low, high if high > low else low + 1.0)
