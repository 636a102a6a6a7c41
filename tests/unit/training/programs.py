"""Small tasks of every kind, and twenty steps of them in PyTorch and in ONNX Runtime."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training import Task
from tacit.training.export import export_program, torch_step
from tacit.training.flat import FlatModel, build
from tacit.training.losses import loss_of
from tacit.training.program import Kind, Program
from tacit.training.step import Stepper
from tacit.training.tensors import tensors_of

Arrays = dict[str, npt.NDArray[Any]]
WORDS, CLASSES = 11, 3
EXAMPLES, BATCH, STEPS = 18, 4, 20  # a fifth batch of two ends every epoch


@dataclass(frozen=True)
class Case:
    """A task with data to learn from.

    Attributes:
        model: Builds the model.
        shape: Shape of one example's input.
        loss: The task's loss.
        target: Shape of one example's target.
        words: Whether the input is of word numbers.
    """

    model: Callable[[], nn.Module]
    shape: tuple[int, ...] = (4,)
    loss: Any = "cross_entropy"
    target: tuple[int, ...] = ()
    words: bool = False

    @property
    def task(self) -> Task:
        return Task(model=self.model, loss=self.loss)

    def examples(self, size: int = EXAMPLES, seed: int = 0) -> Examples:
        rng = np.random.default_rng(seed)
        shape = (size, *self.shape)
        inputs = (
            rng.integers(0, WORDS, shape) if self.words else rng.standard_normal(shape).astype(np.float32)
        )
        if self.loss == "cross_entropy":
            return Examples.of(inputs, rng.integers(0, CLASSES, (size, *self.target)))
        if self.loss == "binary_cross_entropy":
            return Examples.of(inputs, rng.integers(0, 2, (size, *self.target)))
        return Examples.of(inputs, rng.standard_normal((size, *self.target)).astype(np.float32))


class Lines(nn.Module):
    """Words, then a layer over time, then a guess for each word."""

    def __init__(self, layer: nn.Module, width: int = 5, *, embedding: nn.Module | None = None) -> None:
        super().__init__()
        self.words = embedding or nn.Embedding(WORDS, 6)
        self.layer, self.out = layer, nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        found = self.layer(self.words(x))
        out: Tensor = self.out(found[0] if isinstance(found, tuple) else found)
        return out


def flat(*layers: nn.Module, size: int, outputs: int = CLASSES) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, outputs))


def session(program: Program) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(program.data, options, providers=["CPUExecutionProvider"])


def run(running: onnxruntime.InferenceSession, feeds: Arrays) -> Arrays:
    names = [output.name for output in running.get_outputs()]
    return dict(zip(names, running.run(None, feeds), strict=True))


def batches(examples: Examples, batch: int = BATCH, steps: int = STEPS) -> Iterator[Examples]:
    """Yield the batches of some passes over the examples, the last of each pass a short one."""
    left = steps
    while left:
        for begin in range(0, min(len(examples), left * batch), batch):
            yield examples.take(slice(begin, begin + batch))
            left -= 1


@dataclass
class Trained:
    """A client's parameters on their way."""

    program: Program
    state: Arrays
    losses: list[float]


class Runner:
    """Trains with a program, as an executor would."""

    def __init__(self, program: Program, model: FlatModel, local: LocalSGD, terms: LocalTerms) -> None:
        self.program, self.session = program, session(program)
        self.start = {n: v.copy() for n, v in model.layout.views(model.vector(), "parameters").items()}
        self.constants: Arrays = {"lr": np.float32(local.lr)}
        facts = program.facts
        if facts.momentum:
            self.constants["momentum"] = np.float32(local.momentum)
        if facts.weight_decay:
            self.constants["weight_decay"] = np.float32(local.weight_decay)
        if facts.max_grad_norm:
            self.constants["max_grad_norm"] = np.float32(local.max_grad_norm or 0)
        if facts.proximal:
            self.constants["proximal"] = np.float32(terms.proximal)
            self.constants |= {f"anchor.{name}": value for name, value in self.start.items()}
        if terms.correction is not None:
            whole = np.zeros(model.layout.size, np.float32)
            whole[model.layout.slice("parameters")] = terms.correction
            views = model.layout.views(whole, "parameters")
            self.constants |= {f"correction.{name}": value for name, value in views.items()}
        self.constants = {name: np.array(value) for name, value in self.constants.items()}

    def begin(self, clients: int | None = None) -> Arrays:
        state = {f"parameters.{name}": value for name, value in self.start.items()}
        if self.program.facts.momentum:
            state |= {f"velocity.{name}": np.zeros_like(value) for name, value in self.start.items()}
        return state if clients is None else {n: np.stack([v] * clients) for n, v in state.items()}

    def step(self, state: Arrays, rows: Arrays) -> tuple[Arrays, npt.NDArray[Any]]:
        found = run(self.session, {**state, **rows, **self.constants})
        loss = found.pop("loss")
        return {name.removeprefix("new."): value for name, value in found.items()}, loss

    def rows(self, batch: Examples, size: int, draws: list[npt.NDArray[Any]]) -> Arrays:
        """Return one batch as the program wants it, with rows of zeros up to ``size``."""
        inputs, target = tensors_of(batch)
        rows = {f"input.{index}": x.numpy() for index, x in enumerate(inputs)} | {"target": target.numpy()}
        rows |= {f"draw.{index}": draw for index, draw in enumerate(draws)}
        if self.program.facts.is_masked:
            rows["weight"] = np.ones(len(batch), np.float32)
        missing = size - len(batch)
        return {n: np.concatenate([v, np.zeros((missing, *v.shape[1:]), v.dtype)]) for n, v in rows.items()}


def draws_of(program: Program, size: int, rng: np.random.Generator) -> list[npt.NDArray[Any]]:
    return [rng.random((size, *shape), dtype=np.float32) for shape in program.facts.draws]


def largest_difference(
    case: Case, local: LocalSGD = LocalSGD(lr=0.05), terms: LocalTerms = LocalTerms(), steps: int = STEPS
) -> float:
    """Return how far apart twenty steps of the program and of PyTorch end, parameter for parameter."""
    model, examples = build(case.task, 0), case.examples()
    program = export_program(case.task, model, local, terms, examples)
    runner = Runner(program, model, local, terms)
    state, wanted = runner.begin(), _Torch(case, model, local, terms, program)
    rng = np.random.default_rng(1)
    for number, batch in enumerate(batches(examples, steps=steps)):
        draws = draws_of(program, len(batch), rng)
        # The short last batch comes padded in one half of the run, and as it is in the other.
        size = BATCH if program.facts.is_masked and number < steps / 2 else len(batch)
        state, loss = runner.step(state, runner.rows(batch, size, draws))
        right = wanted.step(batch, draws)
        assert abs(float(loss) - right) <= 1e-5 * max(1.0, abs(right)), f"loss of step {number}"
    ended = wanted.parameters()
    return max(float(np.abs(state[f"parameters.{name}"] - value).max()) for name, value in ended.items())


class _Torch:
    """The torch executor's own step; with dropout the pure one, which is given its draws."""

    def __init__(
        self, case: Case, model: FlatModel, local: LocalSGD, terms: LocalTerms, program: Program
    ) -> None:
        self._model, self._loss = model, loss_of(case.task.loss)
        self._stepper = Stepper(model.parameters, local, terms)
        self._stepper.begin(model.flat.clone())
        self._pure = None
        if program.facts.draws:
            self._pure = torch_step(case.task, model, local, terms, case.examples())
            self._runner = Runner(program, model, local, terms)
            self._state = self._runner.begin()
        model.module.train()

    def step(self, batch: Examples, draws: list[npt.NDArray[Any]]) -> float:
        if self._pure is not None:
            given = {**self._state, **self._runner.rows(batch, len(batch), draws), **self._runner.constants}
            facts = self._pure.facts
            found = self._pure(*(torch.from_numpy(given[port.name]) for port in facts.graph_inputs()))
            names = [port.name.removeprefix("new.") for port in facts.graph_outputs()]
            self._state = {n: v.detach().numpy() for n, v in zip(names, found, strict=True)}
            return float(self._state.pop("loss"))
        inputs, target = tensors_of(batch)
        loss = self._loss(self._model.module(*inputs), target)
        gradients = torch.autograd.grad(loss, self._model.parameters, allow_unused=True)
        pairs = zip(gradients, self._model.parameters, strict=True)
        self._stepper.step([torch.zeros_like(p) if g is None else g for g, p in pairs])
        return loss.item()

    def parameters(self) -> Arrays:
        if self._pure is not None:
            return {
                name.removeprefix("parameters."): value
                for name, value in self._state.items()
                if name.startswith("parameters.")
            }
        return dict(self._model.layout.views(self._model.vector(), "parameters"))


def stacked_difference(
    case: Case, local: LocalSGD = LocalSGD(lr=0.05), terms: LocalTerms = LocalTerms()
) -> float:
    """Return how far apart three clients of different sizes end, stacked and one by one."""
    model, kinds = build(case.task, 0), ("step", "stacked")
    single, many = (_exported(case, model, local, terms, kind) for kind in kinds)
    sizes, batch, steps = (5, 7, 3), 3, 6
    clients = [case.examples(size, seed=size) for size in sizes]
    rng = np.random.default_rng(2)
    alone, together = [single.begin() for _ in clients], many.begin(len(clients))
    for several in zip(*(batches(examples, batch, steps) for examples in clients), strict=True):
        each = [single.rows(one, batch, draws_of(single.program, len(one), rng)) for one in several]
        found = [single.step(state, rows) for state, rows in zip(alone, each, strict=True)]
        alone = [state for state, _ in found]
        together, losses = many.step(
            together, {name: np.stack([rows[name] for rows in each]) for name in each[0]}
        )
        np.testing.assert_allclose(losses, [loss for _, loss in found], atol=1e-5)
    return max(
        float(np.abs(together[name][index] - state[name]).max())
        for index, state in enumerate(alone)
        for name in state
    )


def _exported(case: Case, model: FlatModel, local: LocalSGD, terms: LocalTerms, kind: Kind) -> Runner:
    program = export_program(case.task, model, local, terms, case.examples(), kind)
    return Runner(program, model, local, terms)
