"""Is an executor's arithmetic that of the plain loop? One round of both, in float32 and in float64.

``python -m benchmarks.exactness --workload w1``; with ``--json`` the last line is a JSON object.

In float32 the two updates of W1 differ by some 1e-4 of their norm: two equal values meet in a pooling, or a
ReLU stands at zero, rounding decides otherwise in another order of additions, and the paths part. In float64
roundings are half a billion times smaller, such ties do not happen, and what is left is the rounding of an
update to float32. A mistake in the arithmetic would stay as large as it was.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import tacit
from benchmarks.reference.difference import relative_error
from benchmarks.reference.models import make_model
from benchmarks.reference.plain_loop import LocalTrainer
from benchmarks.reference.threads import one_thread
from benchmarks.reference.workloads import WORKLOADS, cohort, load
from benchmarks.tacit_loop import TacitLoop
from benchmarks.tacit_workloads import SEED, make_job
from tacit.data.ids import Numbered
from tacit.training.executor import ClientWork, Executor
from tacit.training.flat import FlatModel, build
from tacit.training.rules import RulesExecutor
from tacit.training.torch_executor import TorchExecutor

NAMES = ("w1", "w2", "w3")
NAMED = ("torch", "rules")
"""Executors that can compute in float64."""
Update = npt.NDArray[Any]


class Converted(nn.Module):
    """A workload's model that converts its inputs to the precision of its parameters."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.inner = make_model(name)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.inner(x.to(next(self.parameters()).dtype) if x.is_floating_point() else x)
        return scores


def exactness(
    name: str, executor: str | None = None, group: int | None = None, *, processes: int = 2
) -> dict[str, Any]:
    """Compare an executor's mean update of the first round with the plain loop's, in both precisions.

    Unless they are given, executor and group are those with which tacit trains in that many processes.

    Raises:
        ValueError: The executor runs an exported program.
    """
    if executor is None or group is None:
        with TacitLoop(name, processes) as loop:
            executor, group = executor or loop.choice.executor, group or loop.choice.group
    if executor not in NAMED:
        raise ValueError(f"the executor {executor} runs a program, which knows float32 alone")
    return {
        "workload": name,
        "executor": executor,
        "group": group,
        "float32_error": error(name, executor, group, torch.float32),
        "float64_error": error(name, executor, group, torch.float64),
    }


def error(name: str, executor: str, group: int, dtype: torch.dtype) -> float:
    """Return the L2 norm of the difference of the two updates as a share of that of the plain one."""
    if name not in NAMES:
        raise ValueError(f"{name} is none of {', '.join(NAMES)}: what it adds is no part of local training")
    with one_thread():
        return relative_error(executor_update(name, executor, group, dtype), plain_update(name, dtype))


def plain_update(name: str, dtype: torch.dtype) -> Update:
    """Return the plain loop's mean update of the first round."""
    trainer = LocalTrainer(name, dtype)
    weights = [p.detach().clone().to(dtype) for p in make_model(name).parameters()]
    total = [torch.zeros_like(w) for w in weights]
    weight = trainer.train([int(user) for user in cohort(name, 0)], weights, total)
    mean: Update = torch.cat([t.reshape(-1) for t in total]).double().numpy() / weight
    return mean


def executor_update(name: str, executor: str, group: int, dtype: torch.dtype) -> Update:
    """Return the mean update of the first round as an executor computes it: ``torch`` or ``rules``."""
    trainer, start = _torch(name, dtype) if executor == "torch" else _rules(name, dtype)
    total, weight = np.zeros(len(start)), 0.0
    for works in _groups(name, group):
        trained = trainer.train(start, works)
        for client, failure in trained.failures.items():
            raise RuntimeError(f"{client} {failure.reason}\n{failure.traceback}")
        examples = np.array(trained.examples, dtype=np.float64)
        total += examples @ trained.rows[:, : len(start)].astype(np.float64)
        weight += examples.sum()
    return total / weight


def _rules(name: str, dtype: torch.dtype) -> tuple[Executor, Update]:
    """Build the executor of layer rules, which knows of precisions, and the vector to start from."""
    job = make_job(name)
    model = _moved(build(job.task, SEED), dtype)
    local, terms = job.algorithm.local, job.algorithm.terms()
    return RulesExecutor(job.task, model, local, terms, SEED, dtype), model.vector()


def _torch(name: str, dtype: torch.dtype) -> tuple[Executor, Update]:
    """Build the torch executor, which does not, and the vector to start from."""
    algorithm = make_job(name).algorithm
    task = tacit.Task(model=Converted, arguments={"name": name}, loss="cross_entropy")
    model = _moved(build(task, SEED), dtype)
    return TorchExecutor(task, model, algorithm.local, algorithm.terms(), SEED), model.vector()


def _moved(model: FlatModel, dtype: torch.dtype) -> FlatModel:
    """Move a model to another precision than the float32 of all jobs."""
    model.flat = model.flat.to(dtype)
    start = 0
    for parameter in model.parameters:
        parameter.data = model.flat[start : start + parameter.numel()].view(parameter.shape)
        start += parameter.numel()
    return model


def _groups(name: str, size: int) -> Iterator[list[ClientWork]]:
    """Yield the users of the first cohort in groups, the largest first."""
    data = load(name)
    ids, sizes = Numbered(WORKLOADS[name].users), data.sizes()
    users = sorted((int(user) for user in cohort(name, 0)), key=lambda user: -int(sizes[user]))
    works = [ClientWork(ids[user], tacit.Examples.of(*data.user(user)), round=1) for user in users]
    for begin in range(0, len(works), size):
        yield works[begin : begin + size]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare from the command line."""
    options = _parser().parse_args(arguments)
    figures = exactness(options.workload, options.executor, options.group)
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare an executor with the plain loop in float64.")
    parser.add_argument("--workload", choices=NAMES, default="w1")
    parser.add_argument("--executor", choices=NAMED, help="by default that of the benchmark")
    parser.add_argument("--group", type=int, help="clients that are trained together")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
