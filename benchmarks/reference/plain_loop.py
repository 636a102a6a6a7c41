"""FedAvg as one would write it by hand in PyTorch, in one process or several; simulation is timed against it.

``python -m benchmarks.reference.plain_loop w1 --processes 2`` plays one workload; with ``--json`` its last
line is a JSON object. It is plain on purpose: one user after another, an optimizer object, a weighted mean.
"""

import argparse
import hashlib
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import reduce
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.memory import PeakMemory
from benchmarks.reference.models import loss_fn, make_model
from benchmarks.reference.threads import one_thread
from benchmarks.reference.workloads import WORKLOADS, cohort, load

Tensors = list[Tensor]
Vector = npt.NDArray[np.float32]

NOISE_SEED = 3


@dataclass(frozen=True, eq=False)
class PlainResult:
    """What a run took and where it ended.

    ``seconds_per_round`` is the median without the first round, which warms the caches. The vectors are the
    global parameters, flat, in the order of ``named_parameters``. ``peak_mb`` is the summed PSS of this
    process and its workers, watched during the first round and looked at after every other (NaN where it
    cannot be read); it counts whatever else the calling process holds.
    """

    seconds_per_round: float
    round_seconds: list[float]
    startup_s: float
    vector_after_first_round: Vector
    final_vector: Vector
    peak_mb: float


def run(name: str, processes: int = 1, rounds: int | None = None) -> PlainResult:
    """Play ``rounds`` rounds of a workload (its own number unless given) and time each."""
    rounds = WORKLOADS[name].rounds if rounds is None else rounds
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    load(name)  # Drawing the data, if this is the first time, belongs to no figure.
    begin = time.perf_counter()
    with PlainLoop(name, processes) as loop:
        startup_s = time.perf_counter() - begin
        # Watching costs a short round a tenth of its time, so only the round that is left out is watched.
        with PeakMemory() as memory:
            seconds = [loop.play(0)]
        first = loop.vector()
        for round in range(1, rounds):
            seconds.append(loop.play(round))
            memory.look()
        final = loop.vector()
    median = statistics.median(seconds[1:] or seconds)
    return PlainResult(median, seconds, startup_s, first, final, memory.peak_mb)


class PlainLoop:
    """The same run round by round, so that it can take turns with the system that is measured.

    On a noisy machine two systems that alternate meet the same noise.
    """

    def __init__(self, name: str, processes: int = 1) -> None:
        if processes < 1:
            raise ValueError(f"processes must be at least 1, not {processes}")
        self.name = name
        self.workload = WORKLOADS[name]
        self.weights = [p.detach().clone() for p in make_model(name).parameters()]
        self._noise = torch.Generator().manual_seed(NOISE_SEED)
        self._opened = ExitStack()
        self._crew = self._hire(processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._opened.close()

    def play(self, round: int, *, noise: bool = True) -> float:
        """Train the round's cohort, move the global weights, and return the seconds it took.

        Without ``noise`` a workload that has some can be compared with another system's.
        """
        begin = time.perf_counter()
        with one_thread():
            total, weight = self._crew.train([int(user) for user in cohort(self.name, round)])
            self._move(total, weight, noise=noise)
        return time.perf_counter() - begin

    def vector(self) -> Vector:
        """Copy the global weights into one flat vector."""
        return np.concatenate([weight.numpy().reshape(-1) for weight in self.weights])

    def _hire(self, processes: int) -> "Crew":
        if processes == 1:
            return Alone(self.name, self.weights)
        return self._opened.enter_context(Workers(self.name, self.weights, processes))

    @torch.no_grad()
    def _move(self, total: Tensors, weight: float, *, noise: bool) -> None:
        if self.workload.clip is not None and noise:
            deviation = self.workload.clip * self.workload.noise_multiplier
            total = [t + torch.empty_like(t).normal_(0, deviation, generator=self._noise) for t in total]
        torch._foreach_add_(self.weights, [t / weight for t in total])


class Crew(Protocol):
    """Whoever trains a cohort from the global weights."""

    def train(self, users: Sequence[int]) -> tuple[Tensors, float]:
        """Return the sum of the users' weighted updates and the sum of their weights."""


class Alone:
    """This process trains everybody."""

    def __init__(self, name: str, weights: Tensors) -> None:
        self._trainer = LocalTrainer(name)
        self._weights = weights
        self._total = [torch.zeros_like(w) for w in weights]

    def train(self, users: Sequence[int]) -> tuple[Tensors, float]:
        """Train the users one after another."""
        weight = self._trainer.train(users, self._weights, self._total)
        return self._total, weight


class Workers:
    """Processes that share the global weights, and each fill a sum of their own in shared memory."""

    def __init__(self, name: str, weights: Tensors, processes: int) -> None:
        for w in weights:
            _share(w)
        self._sizes = load(name).sizes()
        self._totals = [[_share(torch.zeros_like(w)) for w in weights] for _ in range(processes)]
        started = [_start_worker(name, weights, total) for total in self._totals]
        self._processes, self._lines = zip(*started, strict=True)

    def __enter__(self) -> Self:
        for line in self._lines:
            line.recv()  # The worker is ready.
        return self

    def __exit__(self, *reason: object) -> None:
        for line in self._lines:
            line.close()
        for process in self._processes:
            process.join()

    def train(self, users: Sequence[int]) -> tuple[Tensors, float]:
        """Share the users out and add the workers' sums up, in the order of the workers."""
        for line, share in zip(self._lines, split(users, self._sizes, len(self._lines)), strict=True):
            line.send(share)
        weight = sum(line.recv() for line in self._lines)
        return [reduce(torch.add, parts) for parts in zip(*self._totals, strict=True)], weight


def _share(tensor: Tensor) -> Tensor:
    """Move a tensor to shared memory, in place."""
    tensor.untyped_storage().share_memory_()
    return tensor


def split(users: Sequence[int], sizes: npt.NDArray[Any], shares: int) -> list[list[int]]:
    """Share users out evenly: the largest first, each to whoever has the least to do."""
    out: list[list[int]] = [[] for _ in range(shares)]
    load = [0] * shares
    for user in sorted(users, key=lambda user: -int(sizes[user])):
        idlest = load.index(min(load))
        out[idlest].append(user)
        load[idlest] += int(sizes[user])
    return out


class LocalTrainer:
    """Train users one after another and add up their weighted updates.

    Weights, sums and the floats among the inputs are of type ``dtype``.
    """

    def __init__(self, name: str, dtype: torch.dtype = torch.float32) -> None:
        self._workload = WORKLOADS[name]
        self._data = load(name)
        self._dtype = dtype
        self._model = make_model(name).to(dtype)
        self.parameters: Tensors = list(self._model.parameters())
        self._optimizer = torch.optim.SGD(self.parameters, lr=self._workload.lr)

    def train(self, users: Sequence[int], weights: Tensors, total: Tensors) -> float:
        """Replace ``total`` by the sum of the users' weighted updates and return the sum of their weights."""
        for t in total:
            t.zero_()
        return sum(
            self._add_update(weights, total, examples=self.train_user(user, weights)) for user in users
        )

    def train_user(self, user: int, weights: Tensors) -> int:
        """Train one user from ``weights``, which leaves ``parameters``; return its number of examples."""
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, weights)
        x, y = (torch.from_numpy(np.array(part)) for part in self._data.user(user))
        self._epoch(x.to(self._dtype) if x.is_floating_point() else x, y)
        return len(y)

    def _epoch(self, x: Tensor, y: Tensor) -> None:
        size = self._workload.batch_size
        for i in range(0, len(y), size):
            self._optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss_fn(self._model(x[i : i + size]), y[i : i + size]))
            self._optimizer.step()

    @torch.no_grad()
    def _add_update(self, weights: Tensors, total: Tensors, examples: int) -> float:
        # The underscored calls, which torch's own optimizers are made of, save a Python loop over tensors.
        update = torch._foreach_sub(self.parameters, weights)  # noqa: SLF001 - has no public name
        weight = float(examples)
        if self._workload.clip is not None:
            weight = 1.0
            norms = torch._foreach_norm(update)  # noqa: SLF001 - has no public name
            norm = torch.linalg.vector_norm(torch.stack(norms))
            torch._foreach_mul_(update, min(1.0, self._workload.clip / (float(norm) + 1e-12)))
        torch._foreach_add_(total, update, alpha=weight)
        return weight


def _start_worker(
    name: str, weights: Tensors, total: Tensors
) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(name, weights, total, theirs), daemon=True)
    process.start()
    # Theirs must be open in the worker alone: then the end of either side is seen by the other.
    theirs.close()
    return process, ours


def _work(name: str, weights: Tensors, total: Tensors, line: Connection) -> None:
    torch.set_num_threads(1)
    trainer = LocalTrainer(name)
    with suppress(EOFError, BrokenPipeError):
        line.send("ready")
        while True:
            line.send(trainer.train(line.recv(), weights, total))


def main(arguments: Sequence[str] | None = None) -> None:
    """Play one workload from the command line."""
    options = _parser().parse_args(arguments)
    result = run(options.workload, options.processes, options.rounds)
    if options.save is not None:
        np.savez(options.save, first=result.vector_after_first_round, final=result.final_vector)
    facts = _facts(options.workload, options.processes, result)
    print(json.dumps(facts) if options.json else "\n".join(f"{key}: {value}" for key, value in facts.items()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Time plain PyTorch FedAvg, one torch thread a process.")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, help="instead of the workload's own number")
    parser.add_argument("--save", type=Path, help="an .npz file for the vectors `first` and `final`")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


def _facts(workload: str, processes: int, result: PlainResult) -> dict[str, object]:
    return {
        "system": "plain torch",
        "workload": workload,
        "processes": processes,
        "seconds_per_round": round(result.seconds_per_round, 5),
        "round_seconds": [round(s, 5) for s in result.round_seconds],
        "startup_s": round(result.startup_s, 2),
        "peak_mb": None if math.isnan(result.peak_mb) else round(result.peak_mb, 1),
        "sha256_after_first_round": hashlib.sha256(result.vector_after_first_round.tobytes()).hexdigest(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
