"""All executors by name, and how one is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tacit.core.examples import Examples
from tacit.core.layout import Layout
from tacit.core.local import LocalSGD
from tacit.core.record_level import RecordLevel
from tacit.core.terms import LocalTerms
from tacit.training.executor import ClientWork, Executor, UnsupportedError
from tacit.training.functional_device import Device
from tacit.training.private_draws import RecordDraws
from tacit.training.task import Task

if TYPE_CHECKING:
    from tacit.training.flat import FlatModel
    from tacit.training.program import Program

EXECUTORS = ("torch", "rules", "stacked", "onnx", "functional")
"""Names of the executors that compute the same, some of them faster; the first one always works."""
PRIVATE = "private"
"""Name of the executor that protects single records: for jobs that promise it, and the only one for them."""
ON_DEVICES = ("torch", "functional")
"""Those that may train where a device is named: the first one does so on the processor all the same."""

_CPU = Device()


@dataclass(frozen=True)
class Protection:
    """How single records are protected while a site trains.

    Attributes:
        levels: What is done for each record of a site that has so many.
        draws: The secret draws.
    """

    levels: Mapping[int, RecordLevel]
    draws: RecordDraws


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
        device: Where an executor computes that can do so elsewhere than on the processor.
        examples: Some of a client's examples to try the executor out on, where that is wanted.
        protection: How single records are protected; None if they are not.
    """

    task: Task
    layout: Layout
    local: LocalSGD
    terms: LocalTerms
    seed: int
    model: Callable[[], "FlatModel"]
    programs: dict[str, bytes] = field(default_factory=dict)
    device: Device = _CPU
    examples: Examples | None = None
    protection: Protection | None = None


def build_executor(name: str, recipe: Recipe) -> Executor:
    """Build the executor of that name.

    Raises:
        UnsupportedError: It cannot train this task, or not with the protection that is promised.
        ProgramError: Its program is none that may be run.
        KeyError: There is none of that name.
    """
    if recipe.protection is not None and name != PRIVATE:
        raise UnsupportedError(f"`{name}` protects no records, and that is promised")
    # Late imports: a process that runs a program never imports torch.
    match name:
        case "private":
            return _private(recipe)
        case "torch":
            from tacit.training.torch_executor import TorchExecutor

            return TorchExecutor(recipe.task, recipe.model(), recipe.local, recipe.terms, recipe.seed)
        case "onnx":
            from tacit.training.onnx_executor import OnnxExecutor

            program = _program(recipe, name, kind="step")
            return OnnxExecutor(program, recipe.layout, recipe.local, recipe.terms, recipe.seed)
        case "stacked":
            from tacit.training.stacked_executor import StackedExecutor

            program = _program(recipe, name, kind="stacked")
            return StackedExecutor(program, recipe.layout, recipe.local, recipe.terms, recipe.seed)
        case "rules":
            from tacit.training.rules import RulesExecutor

            return RulesExecutor(recipe.task, recipe.model(), recipe.local, recipe.terms, recipe.seed)
        case "functional":
            from tacit.training.functional_executor import FunctionalExecutor

            functional = FunctionalExecutor(
                recipe.task, recipe.model(), recipe.local, recipe.terms, recipe.seed, recipe.device
            )
            if recipe.examples is not None:
                functional.try_out(recipe.examples)
            return functional
    raise KeyError(name)


def _private(recipe: Recipe) -> Executor:
    """Return the executor of record-level privacy, tried out."""
    from tacit.training.private_executor import PrivateExecutor

    if recipe.protection is None:
        raise UnsupportedError(f"`{PRIVATE}` protects single records, and nothing is promised about these")
    levels, draws = recipe.protection.levels, recipe.protection.draws
    private = PrivateExecutor(recipe.task, recipe.model(), recipe.local, recipe.terms, levels, draws)
    if recipe.examples is not None:
        private.check(ClientWork("", recipe.examples, round=0))
    return private


def _program(recipe: Recipe, name: str, *, kind: str) -> "Program":
    """Return the program that an executor is to run."""
    from tacit.training.program import Program
    from tacit.training.program_check import check_program

    if name not in recipe.programs:
        raise UnsupportedError(f"`{name}` runs a program, and there is none")
    program = Program.read(recipe.programs[name])
    check_program(program)
    if program.facts.kind != kind:
        raise UnsupportedError(f"`{name}` runs a {kind} program, not a {program.facts.kind} one")
    return program
