"""All executors by name, and how one is built."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tacit.core.layout import Layout
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training.executor import Executor
from tacit.training.task import Task

if TYPE_CHECKING:
    from tacit.training.flat import FlatModel

EXECUTORS = ("torch", "rules", "stacked", "onnx")
"""Names of the executors; the first one always works."""


@dataclass(frozen=True)
class Recipe:
    """What an executor is built from.

    Attributes:
        task: What is learned.
        layout: The layout of its model.
        local: Settings of local training.
        terms: What the algorithm adds to the local step.
        seed: The job's seed.
        model: Returns the task's model, built when first asked for: whoever runs a program needs none.
        programs: Exported programs (ONNX graphs) by the name of the executor that runs them.
    """

    task: Task
    layout: Layout
    local: LocalSGD
    terms: LocalTerms
    seed: int
    model: Callable[[], "FlatModel"]
    programs: dict[str, bytes] = field(default_factory=dict)


def build_executor(name: str, recipe: Recipe) -> Executor:
    """Build the executor of that name.

    Raises:
        UnsupportedError: It cannot train this task.
        KeyError: There is none of that name.
    """
    # Late imports: a process that runs a program never imports torch.
    match name:
        case "torch":
            from tacit.training.torch_executor import TorchExecutor

            return TorchExecutor(recipe.task, recipe.model(), recipe.local, recipe.terms, recipe.seed)
    raise KeyError(name)
