"""From a task to its training program: one local step, traced and written as ONNX."""

import copy
import warnings
from importlib.metadata import version

import msgspec
from torch import Tensor

from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training.executor import UnsupportedError
from tacit.training.export.convert import convert
from tacit.training.export.examine import find_draws, padding_is_harmless, refuse_changing_buffers
from tacit.training.export.losses import masked_loss
from tacit.training.export.stack import stack
from tacit.training.export.step import PureStep
from tacit.training.export.trace import trace
from tacit.training.export.verify import verify
from tacit.training.flat import FlatModel
from tacit.training.losses import loss_of
from tacit.training.program import FACTS_KEY, Kind, Program, ProgramError, ProgramFacts, Values, facts_json
from tacit.training.program_check import check_program
from tacit.training.task import Task
from tacit.training.tensors import tensors_of

__all__ = ["export_program", "torch_step"]
_LONGEST = 300  # characters of an error of torch's that are shown
_ENOUGH = 4  # examples


def export_program(
    task: Task, model: FlatModel, local: LocalSGD, terms: LocalTerms, example: Examples, kind: Kind = "step"
) -> Program:
    """Trace a task's local step, write it as an ONNX graph, and compare that with the step itself.

    Equal arguments and versions give equal bytes. The model and torch's own state are left as they were.

    Args:
        task: What is learned.
        model: Its model.
        local: Settings of local training; which of them are not zero decides what the step does.
        terms: What the algorithm adds to the step.
        example: Some of a client's examples, for shapes and types.
        kind: ``"step"`` for one client, ``"stacked"`` for several at once.

    Raises:
        UnsupportedError: It cannot be done; the message names the operator, layer or setting.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # training says it, too; and torch warns of its own workings
            return _exported(task, model, local, terms, example, kind)
    except (UnsupportedError, MemoryError):
        raise
    except ProgramError as error:
        raise UnsupportedError(error.what) from error
    except Exception as error:  # a model's own code, and torch's tracing of it, may raise anything
        raise UnsupportedError(f"the step cannot be traced: {_short(error)}") from error


def torch_step(
    task: Task, model: FlatModel, local: LocalSGD, terms: LocalTerms, example: Examples
) -> PureStep:
    """Return the very step that ``export_program`` writes, in PyTorch.

    Raises:
        UnsupportedError: The model has state that a pure step does not, or draws of its own.
    """
    inputs, target = _few(example)
    module = copy.deepcopy(model.module)  # one that keeps something of its last call must not keep it of ours
    refuse_changing_buffers(module, inputs)
    draws, axes = find_draws(module, inputs)
    facts = ProgramFacts(
        kind="step",
        parameters=model.layout.segment("parameters").tensors,
        inputs=tuple(_values(x) for x in inputs),
        target=_values(target),
        draws=draws,
        is_masked=masked_loss(loss_of(task.loss)) is not None,
        momentum=local.momentum > 0,
        weight_decay=local.weight_decay > 0,
        max_grad_norm=local.max_grad_norm is not None,
        proximal=terms.proximal > 0,
        correction=terms.correction is not None,
        versions={name: version(name) for name in ("tacit", "torch", "onnx")},
    )
    step = PureStep(task, module, facts, axes)
    if facts.is_masked and not padding_is_harmless(step, model.vector(), inputs, target):
        step = PureStep(task, module, msgspec.structs.replace(facts, is_masked=False), axes)
    return step


def _exported(
    task: Task, model: FlatModel, local: LocalSGD, terms: LocalTerms, example: Examples, kind: Kind
) -> Program:
    step = torch_step(task, model, local, terms, example)
    facts = step.facts
    if kind == "stacked" and not facts.is_masked:
        if masked_loss(loss_of(task.loss)) is None:
            raise UnsupportedError(
                "loss: stacked clients need padding, which only the built-in losses leave out"
            )
        raise UnsupportedError("examples of a batch influence each other, and stacked clients need padding")
    traced = trace(step, facts.graph_inputs(), unfold=kind == "stacked")
    graph = convert(traced, facts.graph_inputs(), facts.graph_outputs(), {FACTS_KEY: facts_json(facts)})
    if kind == "stacked":
        facts = msgspec.structs.replace(facts, kind=kind)
        graph = stack(graph, facts.graph_inputs(), facts.graph_outputs(), {FACTS_KEY: facts_json(facts)})
    program = Program(graph.SerializeToString(deterministic=True), facts)
    check_program(program)
    verify(program, step, model.vector(), *_few(example))
    return program


def _values(tensor: Tensor) -> Values:
    return Values(shape=tuple(tensor.shape[1:]), dtype="float32" if tensor.is_floating_point() else "int64")


def _few(example: Examples) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the first examples as tensors."""
    if not len(example):
        raise UnsupportedError("there is no example to take shapes from")
    return tensors_of(example.take(slice(0, _ENOUGH)))


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:_LONGEST]}" if lines else type(error).__name__
