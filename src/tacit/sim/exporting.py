"""Export a job's local step without running the job."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tacit.core.errors import PlanError
from tacit.job import Job, PopulationLike, model_seed
from tacit.sim.planning import planned
from tacit.training.executor import UnsupportedError
from tacit.training.program import Kind

if TYPE_CHECKING:
    from tacit.training import Program


def export(
    job: Job, population: PopulationLike, *, stacked: bool = False, data: Path | str | None = None
) -> "Program":
    """Return a job's training program: its local step as an ONNX graph; runs nothing.

    Args:
        job: The job.
        population: What ``run`` takes; its first client with data shows what an example looks like.
        stacked: For many clients in one call, each with its own parameters.
        data: Where data files lie; by default ``TACIT_DATA`` or the user's cache.

    Raises:
        ConfigError: The job would be refused, or its step cannot be exported, and why.
        DataError: The data is missing or does not fit.
    """
    from tacit.training.export import export_program  # late: it imports torch
    from tacit.training.flat import build

    plan, opened = planned(job, population, data=data)
    algorithm = plan.job.algorithm
    model = build(job.task, model_seed(job))
    examples = opened.train(int(np.argmax(opened.sizes > 0)))
    kind: Kind = "stacked" if stacked else "step"
    try:
        return export_program(job.task, model, algorithm.local, algorithm.terms(), examples, kind)
    except UnsupportedError as error:
        what = f"the local step cannot be exported: {error}"
        fix = "Train with PyTorch, which needs no program, or change what the message names."
        raise PlanError("T159", what, where="$.task", fix=fix) from error
