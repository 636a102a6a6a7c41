"""A job's task on its way to a worker, which may never need it."""

import pickle
from dataclasses import replace

import cloudpickle
import msgspec

from tacit.core.part import Reference
from tacit.job import Plan
from tacit.training import Task


class PackedTask:
    """A task that is opened only where it is needed: opening it imports the job file, and so torch."""

    def __init__(self, task: Task) -> None:
        self._pickled: bytes = cloudpickle.dumps(task)

    @classmethod
    def out_of(cls, plan: Plan) -> tuple["PackedTask", Plan]:
        """Take the task out of a plan; what is left of it names no function of the task."""
        task = plan.job.task
        left = msgspec.structs.replace(
            task,
            model=_name_of(task.model),
            loss=_name_of(task.loss),
            metrics=tuple(_name_of(metric) for metric in task.metrics),
        )
        return cls(task), replace(plan, job=msgspec.structs.replace(plan.job, task=left))

    def open(self) -> Task:
        """Return the task.

        Raises:
            ModuleNotFoundError: It names functions of a job file that this process has not loaded.
        """
        task: Task = pickle.loads(self._pickled)  # noqa: S301 - our own parent's
        return task


def _name_of(reference: Reference) -> Reference:
    return reference if isinstance(reference, str) else _elsewhere


def _elsewhere() -> None:
    raise AssertionError("the task was taken out of this plan")
