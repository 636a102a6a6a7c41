"""A federated run with every message and mask of its secure sums, beside the same run without.

``python -m benchmarks.secure_run``; with ``--json`` the last line is a JSON object. A hundred clients learn
to read digits; one in ten vanishes in every round, at a message drawn at random. The runs take turns: without
secure aggregation, with ideal sums (the same integers, no masks), and with real masks. The ratio is that of
the whole runs' times, from the call to the result, medians; the first turn is not counted.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

import tacit

CLIENTS, DROPOUT = 100, 0.1
MUST_RATIO, MUST_ACCURACY = 1.3, 0.01


def dense() -> nn.Module:
    """The network of examples/digits.py: next to no work for a client."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def convolutional() -> nn.Module:
    """Two convolutions over images of 8 by 8 pixels."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {"dense": dense, "convolutional": convolutional}


def population() -> Any:
    """A hundred clients, each with a few of the ten digits."""
    return tacit.data.digits().split(tacit.Dirichlet(alpha=0.3), clients=CLIENTS)


def job(rounds: int, epochs: int, model: str = "dense") -> tacit.Job:
    """All clients in every round; else as in examples/digits.py."""
    return tacit.Job(
        name="digits",
        task=tacit.Task(model=MODELS[model], loss="cross_entropy", metrics=["accuracy"]),
        algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=0.3, epochs=epochs, batch_size=10)),
        cohort=tacit.FixedSize(CLIENTS),
        rounds=rounds,
        clipping_bound=10.0,
        weighting=tacit.Weigh(cap=100),
        world=tacit.World(dropout=tacit.RandomDropout(DROPOUT)),
        secure_aggregation=tacit.SecureAggregation(min_cohort=50, dropout=0.15),
    )


def measure(rounds: int, epochs: int, turns: int, workers: int, model: str) -> dict[str, Any]:
    """Run all kinds in turns."""
    secure = job(rounds, epochs, model)
    plain = msgspec.structs.replace(secure, secure_aggregation=None)
    kinds: dict[str, Callable[[Path], tacit.Result]] = {
        "plain": lambda folder: tacit.run(plain, population, folder=folder, workers=workers),
        "ideal": lambda folder: tacit.run(secure, population, folder=folder, workers=workers),
        "real": lambda folder: tacit.run(secure, population, folder=folder, workers=workers, real_masks=True),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    per_round: dict[str, list[float]] = {kind: [] for kind in kinds}
    accuracy: dict[str, float] = {}
    models: dict[str, str | None] = {}
    for turn in range(turns + 1):
        for kind, play in kinds.items():
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                result = play(Path(folder) / "run")
                took = time.perf_counter() - began
                accuracy[kind] = result.info.metrics.central["accuracy"]
                models[kind] = result.info.model_sha256
                if turn:
                    seconds[kind].append(took)
                    per_round[kind].append(result.info.seconds_per_round or 0.0)
    whole = {kind: statistics.median(times) for kind, times in seconds.items()}
    ratio = whole["real"] / whole["ideal"]
    return {
        "model": model,
        "clients": CLIENTS,
        "dropout": DROPOUT,
        "rounds": rounds,
        "epochs": epochs,
        "workers": workers,
        "seconds": {kind: round(value, 4) for kind, value in whole.items()},
        "seconds_per_round": {kind: round(statistics.median(v), 5) for kind, v in per_round.items()},
        "run_seconds": {kind: [round(value, 3) for value in values] for kind, values in seconds.items()},
        "accuracy": accuracy,
        "same_model_as_ideal": models["real"] == models["ideal"],
        "ratio": round(ratio, 3),
        "ratio_to_plain": round(whole["real"] / whole["plain"], 3),
        "must_ratio": MUST_RATIO,
        "must_accuracy": MUST_ACCURACY,
        "meets_ratio": ratio <= MUST_RATIO,
        "meets_accuracy": abs(accuracy["real"] - accuracy["plain"]) <= MUST_ACCURACY,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.secure_run", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", choices=list(MODELS), default="convolutional")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=5, help="of local training")
    parser.add_argument("--turns", type=int, default=2, help="counted runs of each kind")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args(arguments)
    found = measure(options.rounds, options.epochs, options.turns, options.workers, options.model)
    if options.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        print(f"{key:24s} {value}")


if __name__ == "__main__":
    main()
