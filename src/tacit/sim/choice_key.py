"""What a choice of an executor depends on, as one digest."""

import hashlib
import inspect
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from tacit import training
from tacit.core.examples import Examples
from tacit.core.part import encode, resolve
from tacit.job import Plan
from tacit.sim.machine import features, machine, versions
from tacit.training.flat import FlatModel


def choice_key(plan: Plan, model: FlatModel, examples: Examples, device: str = "") -> str:
    """Return the digest of task, local training, data shapes, cohort and machine.

    Args:
        plan: The job and what follows from it.
        model: The job's model.
        examples: Those of any client; only their shapes and dtypes count.
        device: What an executor computes on that can do so elsewhere than on the processor, in words.
    """
    algorithm = plan.job.algorithm
    terms = algorithm.terms()
    correction = None if terms.correction is None else hashlib.sha256(terms.correction.tobytes()).hexdigest()
    here = {"machine": machine(), "features": features(), "cores": os.cpu_count(), "device": device}
    return _digest(
        _task(plan, model, examples),
        encode(algorithm.local),
        {"proximal": terms.proximal, "correction": correction},
        plan.job.cohort.largest(plan.population),
        here,
    )


def program_key(plan: Plan, model: FlatModel, examples: Examples, kind: str) -> str:
    """Return the digest of all that an exported program depends on: not the machine, nor a learning rate.

    Args:
        plan: The job and what follows from it.
        model: The job's model.
        examples: Those of any client; only their shapes and dtypes count.
        kind: The kind of program.
    """
    algorithm = plan.job.algorithm
    local, terms = algorithm.local, algorithm.terms()
    extras = [local.momentum, local.weight_decay, local.max_grad_norm, terms.proximal]
    wanted = [bool(extra) for extra in extras] + [terms.correction is not None]
    return _digest(_task(plan, model, examples), wanted, kind)


def with_length(key: str, steps: float) -> str:
    """Return the key of a choice for runs of that many local steps."""
    return _digest(key, round(steps))


def _task(plan: Plan, model: FlatModel, examples: Examples) -> dict[str, Any]:
    arrays = (*examples.inputs, examples.target)
    return {
        "layout": encode(plan.layout),
        "task": encode(plan.job.task),
        "code": [hashlib.sha256(text).hexdigest() for text in _code(plan)],
        "modules": repr(model.module),
        "shapes": [[list(array.shape[1:]), array.dtype.str] for array in arrays],
        "versions": versions(),
    }


def _code(plan: Plan) -> Iterator[bytes]:
    """Yield the files that define model and loss, and our own that train.

    A file that these import may change unseen; what was chosen is compared with torch again all the same.
    """
    for reference in (plan.job.task.model, plan.job.task.loss):
        with suppress(TypeError, OSError):
            function = resolve(reference) if isinstance(reference, str) and ":" in reference else reference
            file = None if isinstance(function, str) else inspect.getsourcefile(inspect.unwrap(function))
            if file is not None:
                yield Path(file).read_bytes()
    for path in sorted(Path(training.__path__[0]).rglob("*.py")):
        yield path.read_bytes()


def _digest(*parts: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()
