"""FedAvg on MNIST with the 2NN of McMahan et al. (2017, arXiv:1602.05629), in plain PyTorch.

A hundred clients with 600 digits each, ten a round, one local epoch in batches of ten, learning rate 0.1. Who
is chosen and in which order a client reads its examples come in as arguments, so that a run of another system
can be replayed exactly.

``python -m benchmarks.reference.mnist_2nn FOLDER --target 0.97`` counts the rounds to an accuracy; FOLDER
holds the four files of MNIST as they are distributed (``train-images-idx3-ubyte.gz`` and so on).
"""

import argparse
import gzip
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.reference.threads import one_thread

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float32]
Examples = tuple[Array, Array]
ClientArrays = Callable[[int], Examples]
Order = Callable[[int, int, int], Array]

CLIENTS, CLIENTS_PER_ROUND, BATCH_SIZE, LR = 100, 10, 10, 0.1
IDX_UNSIGNED_BYTE = 8


class Mnist(NamedTuple):
    """The two parts of MNIST: images as rows of 784 float32 in [0, 1], labels as int64."""

    train: Examples
    test: Examples


def run(
    model_vector0: Vector,
    client_arrays: ClientArrays,
    cohorts: Sequence[Sequence[int]],
    order: Order,
    lr: float = LR,
    batch_size: int = BATCH_SIZE,
    epochs: int = 1,
) -> list[Vector]:
    """Play one round a cohort and return the global parameters after each.

    Args:
        model_vector0: the first parameters of ``make_model``, flat, in the order of ``named_parameters``.
        client_arrays: gives a client's images (rows of 784) and labels.
        cohorts: the clients of each round.
        order: gives, for a round, a client and its number of examples, the indices in which it reads them:
            one row for all epochs, or one row an epoch.
        lr: learning rate of the clients' SGD.
        batch_size: examples a step; the last step of an epoch may have fewer.
        epochs: local passes over the client's examples.
    """
    return list(play(model_vector0, client_arrays, cohorts, order, lr, batch_size, epochs))


def play(
    model_vector0: Vector,
    client_arrays: ClientArrays,
    cohorts: Iterable[Sequence[int]],
    order: Order,
    lr: float = LR,
    batch_size: int = BATCH_SIZE,
    epochs: int = 1,
) -> Iterator[Vector]:
    """Do what ``run`` does, one round for each vector that is asked for."""
    model, vector = make_model(), model_vector0
    for round, cohort in enumerate(cohorts):
        mean = Mean(len(vector))
        for client in cohort:
            x, y = client_arrays(client)
            rows = np.broadcast_to(order(round, client, len(y)), (epochs, len(y)))
            from_vector(model, vector)
            _train(model, (x, y), _batches(rows, batch_size), lr)
            mean.add(to_vector(model) - vector, weight=len(y))
        vector = vector + mean.value()
        yield vector


class Mean:
    """A weighted mean of updates, summed in float64 so that the order of the clients hardly matters."""

    def __init__(self, size: int) -> None:
        self._total = np.zeros(size)
        self._weight = 0

    def add(self, update: Vector, weight: int) -> None:
        """Count one update in."""
        self._total += weight * update.astype(np.float64)
        self._weight += weight

    def value(self) -> Vector:
        """Return the mean of what was added."""
        return (self._total / self._weight).astype(np.float32)


def make_model(seed: int = 0) -> nn.Sequential:
    """Build the 2NN, 784-200-200-10 with 199,210 weights, and leave torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)
        )


def to_vector(model: nn.Module) -> Vector:
    """Copy a model's parameters into one flat vector."""
    return np.concatenate([p.detach().numpy().reshape(-1) for p in model.parameters()])


@torch.no_grad()
def from_vector(model: nn.Module, vector: Vector) -> None:
    """Copy one flat vector into a model's parameters."""
    params = list(model.parameters())
    parts = torch.split(torch.tensor(vector), [p.numel() for p in params])
    for p, part in zip(params, parts, strict=True):
        p.copy_(part.view_as(p))


@torch.no_grad()
def accuracy(vector: Vector, examples: Examples) -> float:
    """Return the share of the examples that the 2NN with these parameters gets right."""
    model = make_model()
    from_vector(model, vector)
    x, y = _tensors(examples)
    return float((model(x).argmax(dim=1) == y).double().mean())


def load_mnist(folder: Path) -> Mnist:
    """Read the four gzipped idx files of MNIST."""
    return Mnist(train=_examples(folder, "train"), test=_examples(folder, "t10k"))


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read one gzipped idx file of unsigned bytes.

    Its header is two zeros, the element type, the number of dimensions, then each dimension in four bytes,
    the most significant first.
    """
    with gzip.open(path) as file:
        content = file.read()
    if not content.startswith(bytes([0, 0, IDX_UNSIGNED_BYTE])):
        raise ValueError(f"{path} is not an idx file of unsigned bytes")
    dimensions = content[3]
    shape = np.frombuffer(content, dtype=">u4", count=dimensions, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape.tolist())


def iid_clients(examples: Examples, clients: int = CLIENTS, seed: int = 0) -> ClientArrays:
    """Shuffle the examples and deal them out evenly."""
    x, y = examples
    shares = np.array_split(np.random.default_rng(seed).permutation(len(y)), clients)
    return lambda client: (x[shares[client]], y[shares[client]])


def accuracies(mnist: Mnist, seed: int = 0) -> Iterator[float]:
    """Yield the test accuracy after every round of the standard run, for as long as one asks.

    First weights, deal, cohorts and orders all follow from the seed.
    """
    cohorts = (_cohort(seed, round) for round in itertools.count())
    clients, vector0 = iid_clients(mnist.train, seed=seed), to_vector(make_model(seed))
    for vector in play(vector0, clients, cohorts, partial(_order, seed)):
        yield accuracy(vector, mnist.test)


def _cohort(seed: int, round: int) -> list[int]:
    chosen: list[int] = np.random.default_rng([seed, round]).permutation(CLIENTS)[:CLIENTS_PER_ROUND].tolist()
    return chosen


def _order(seed: int, round: int, client: int, examples: int) -> Array:
    return np.random.default_rng([seed, round, client]).permutation(examples)


def _batches(rows: Array, batch_size: int) -> Iterator[Array]:
    for row in rows:
        for i in range(0, len(row), batch_size):
            yield row[i : i + batch_size]


def _train(model: nn.Module, examples: Examples, batches: Iterable[Array], lr: float) -> None:
    x, y = _tensors(examples)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with one_thread():
        for batch in batches:
            rows = torch.tensor(batch)
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(model(x[rows]), y[rows]))
            optimizer.step()


def _tensors(examples: Examples) -> tuple[Tensor, Tensor]:
    x, y = examples
    return torch.tensor(x), torch.tensor(y)


def _examples(folder: Path, part: str) -> Examples:
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    return images.reshape(len(images), -1) / np.float32(255), labels.astype(np.int64)


def main(arguments: Sequence[str] | None = None) -> None:
    """Count the rounds to an accuracy from the command line."""
    options = _parser().parse_args(arguments)
    begin = time.perf_counter()
    reached = list(
        _until(options.target, options.rounds, accuracies(load_mnist(options.folder), options.seed))
    )
    facts = {
        "system": "plain torch",
        "target": options.target,
        "seed": options.seed,
        "rounds_to_target": len(reached) if reached[-1] >= options.target else None,
        "accuracy": reached[-1],
        "seconds": round(time.perf_counter() - begin, 2),
        "accuracies": reached,
    }
    print(json.dumps(facts) if options.json else "\n".join(f"{key}: {value}" for key, value in facts.items()))


def _until(target: float, most: int, accuracies: Iterable[float]) -> Iterator[float]:
    for value in itertools.islice(accuracies, most):
        yield value
        if value >= target:
            return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Count the rounds plain FedAvg needs on MNIST.")
    parser.add_argument("folder", type=Path, help="the four gzipped idx files of MNIST")
    parser.add_argument("--target", type=float, default=0.97, help="test accuracy at which to stop")
    parser.add_argument("--rounds", type=int, default=200, help="give up after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
