"""Small jobs and populations for whole runs, and what a run folder says, made comparable."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors.numpy import load_file
from torch import nn

import tacit
from tacit.core.examples import Examples

FEATURES, CLASSES = 6, 3
PAUSE = "TACIT_TEST_PAUSE_S"
"""Environment variable: seconds that loading a client's data takes."""


def linear() -> nn.Module:
    return nn.Linear(FEATURES, CLASSES)


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, CLASSES))


def examples(client: int, size: int) -> Examples:
    rng = np.random.default_rng(client)
    inputs = rng.standard_normal((size, FEATURES)).astype(np.float32)
    return Examples.of(inputs, (inputs[:, 0] > 0).astype(np.int64) + (inputs[:, 1] > 0.5))


class Loader:
    """A client's data, made when asked for; as slow as the environment says. One client's is broken."""

    asked: ClassVar[list[int]] = []
    """Who was asked in this process, in order."""
    interrupt_at: ClassVar[int | None] = None
    """How many are asked before this process gets a Ctrl-C."""

    def __init__(self, client: int, size: int) -> None:
        self.client, self.size = client, size

    def __call__(self) -> Examples:
        time.sleep(float(os.environ.get(PAUSE, "0")))
        self.asked.append(self.client)
        if len(self.asked) == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        if self.client == 5:
            raise OSError("the disk of this client is broken")
        return examples(self.client, self.size)


def population(clients: int = 16, holdout: float = 0.25) -> tacit.Population:
    """Clients of different sizes whose order is not that of their names."""
    sizes = {f"c{(7 * i) % clients}": 6 + 3 * (i % 5) for i in range(clients)}
    loaders = {name: Loader(i, sizes[name]) for i, name in enumerate(sizes)}
    return tacit.Population.of(loaders, sizes=sizes, holdout=holdout, test=lambda: examples(999, 40))


def job(**settings: Any) -> tacit.Job:
    local = settings.pop("local", tacit.LocalSGD(lr=0.1, batch_size=5))
    server = settings.pop("server", tacit.ServerSGD(momentum=0.5))
    known: dict[str, Any] = {
        "name": "small",
        "task": tacit.Task(model=settings.pop("model", linear), metrics=["accuracy"]),
        "algorithm": tacit.FedAvg(local=local, server=server),
        "cohort": tacit.FixedSize(4),
        "rounds": 6,
        "seed": 3,
        "evaluation": tacit.Evaluation(clients=5),
    }
    return tacit.Job(**(known | settings))


# --- what runs are made of, by name ---------------------------------------------------------------

SLOW_WORLD = tacit.World(
    duration=tacit.LogNormalDuration(median_s=10, client_sigma=0.8, round_sigma=0.4),
    dropout=tacit.RandomDropout(0.15),
)


def plain() -> tacit.Job:
    return job()


def long() -> tacit.Job:
    return job(rounds=40, evaluation=tacit.Evaluation(every=3, clients=4))


def stragglers() -> tacit.Job:
    """Over-selection, a deadline, partial work, dropouts."""
    return job(
        cohort=tacit.FixedSize(5, over_selection=1.6), deadline_s=12.0, quorum=0.2, world=SLOW_WORLD, rounds=8
    )


def poisson() -> tacit.Job:
    return job(
        model=dropping,
        cohort=tacit.Poisson(rate=0.5),
        quorum=0.1,
        world=tacit.World(dropout=tacit.UnreliableClients(share=0.5, rate=0.5)),
        server=tacit.ServerAdam(lr=0.05),
        clipping_bound=0.5,
    )


def average_buffers() -> tacit.Job:
    return job(model=normalised, local=tacit.LocalSGD(lr=0.1, batch_size=4, shuffle=False), rounds=5)


def local_buffers() -> tacit.Job:
    task = tacit.Task(model=normalised, metrics=["accuracy"], buffers="local")
    return job(
        task=task,
        cohort=tacit.FixedSize(5, over_selection=1.6),
        stop=[tacit.Patience(metric="loss", rounds=30, on="clients")],
        world=SLOW_WORLD,
        rounds=10,
    )


# --- what a folder says ---------------------------------------------------------------------------


def told(folder: Path) -> dict[str, Any]:
    """Return all that a run folder says and that two equal runs must agree on."""
    info = json.loads((folder / "run.json").read_text())
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    for record in rounds:
        record.pop("seconds")
    return {
        "outcome": info["outcome"],
        "model_sha256": info.get("model_sha256"),
        "committed": info["rounds"],
        "attempts": info["attempts"],
        "metrics": info["metrics"],
        "rounds": rounds,
        "evaluations": (folder / "metrics.jsonl").read_text().splitlines(),
        "privacy": (folder / "privacy.jsonl").read_text().splitlines(),
        "settings": (folder / "job.toml").read_text(),
    }


def assert_sound(folder: Path) -> None:
    """Check what holds for every folder: no half-written file, and no number on disk that is not finite."""
    assert [p.name for p in folder.rglob(".*.tmp")] == []
    for tensor in numbers(folder):
        assert np.isfinite(tensor).all()


def numbers(folder: Path) -> Iterator[Any]:
    """Yield every vector of the model and of the checkpoint in a folder."""
    for path in folder.rglob("*.safetensors"):
        yield from load_file(path).values()
