"""Run folders with plausible numbers, written as a run writes them."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tacit.core.metrics import higher_is_better, summarise
from tacit.privacy import Guarantee
from tacit.round import EvaluationRecord, PrivacyRecord, RoundRecord
from tacit.store import FinalMetrics, Holding, RunFolder, RunInfo

SETTINGS: dict[str, Any] = {
    "schema_version": 1,
    "name": "digits",
    "task": {"model": "digits.py:cnn", "loss": "cross_entropy", "metrics": ["accuracy"]},
    "algorithm": {
        "type": "fedavg",
        "local": {"lr": 0.1, "epochs": 1, "batch_size": 10},
        "server": {"type": "server_sgd", "lr": 1.0},
    },
    "cohort": {"type": "fixed_size", "count": 20, "over_selection": 1.3},
    "rounds": 30,
    "seed": 7,
    "stop": [{"type": "target_metric", "metric": "accuracy", "value": 0.99, "on": "central"}],
    "evaluation": {"every": 1, "clients": 100},
}
INFO = RunInfo(
    name="digits",
    outcome="completed",
    reason="all 30 rounds are done",
    started="2025-05-03T14:02:11+00:00",
    ended="2025-05-03T14:02:20+00:00",
    seconds=9.3,
    rounds=30,
    attempts=31,
    seconds_per_round=0.29,
    bytes_up_per_client=26_544,
    bytes_down_per_client=26_520,
    parameters=6_622,
    model_sha256="9f" * 32,
    privacy="not private: no differential privacy, no secure aggregation",
    seed=7,
    workers=4,
    versions={"tacit": "0.1.0", "python": "3.11.7", "torch": "2.7.1", "numpy": "2.3.1"},
    machine="x86_64, Linux 6.1",
    job_sha256="ab" * 32,
    source_sha256="cd" * 32,
    source="examples/digits.py",
    overrides=("rounds=30",),
)


def write(
    path: Path,
    *,
    info: RunInfo = INFO,
    settings: Mapping[str, Any] | None = SETTINGS,
    rounds: Sequence[RoundRecord] = (),
    evaluations: Sequence[EvaluationRecord] = (),
    spends: Sequence[PrivacyRecord] = (),
) -> RunFolder:
    """Write a run folder; its final metrics are those of the last evaluation."""
    folder = RunFolder.create(path)
    if settings is not None:
        folder.write_job(settings)
    for position, record in enumerate(rounds):
        folder.note_round(record, spends[position] if spends else PrivacyRecord(round=record.round))
    for evaluation in evaluations:
        folder.note_evaluation(evaluation)
    if evaluations and info.outcome != "running":
        last = evaluations[-1]
        final = FinalMetrics(central=last.central, clients=last.clients)
        info = msgspec.structs.replace(info, metrics=final)
    folder.write_info(info)
    folder.close()
    return folder


def ids(clients: int) -> tuple[str, ...]:
    """Return names for that many clients."""
    return tuple(f"phone-{number:04d}" for number in range(clients))


def make_rounds(
    count: int, population: Sequence[str], *, cohort: int = 26, wanted: int = 20
) -> list[RoundRecord]:
    """Make rounds with stragglers, dropouts and failures; every eleventh is abandoned."""
    return [make_round(number, population, cohort, wanted) for number in range(1, count + 1)]


def make_round(number: int, population: Sequence[str], cohort: int, wanted: int) -> RoundRecord:
    """Make one round."""
    rng = np.random.default_rng(number)
    chosen = sorted(rng.choice(len(population), min(cohort, len(population)), replace=False))
    invited = [population[position] for position in chosen]
    abandoned = number % 11 == 0
    answered = invited[: wanted // 4 if abandoned else wanted]
    rest = invited[len(answered) :]
    late, failed = max(0, len(rest) - int(rng.integers(1, 5))), rest[-1:] if rng.random() < 0.3 else []
    return RoundRecord(
        round=number,
        outcome="abandoned" if abandoned else "committed",
        reason="5 of 20 clients answered, 10 are needed" if abandoned else "",
        invited=tuple(invited),
        answered=tuple(answered),
        partial_work=tuple(answered[: int(rng.integers(0, 4))]),
        failed=dict.fromkeys(failed, "out of memory after 12 of 40 steps"),
        dropped=tuple(name for name in rest[late:] if name not in failed),
        late=tuple(name for name in rest[:late] if name not in failed),
        opened_s=60.0 * number,
        closed_s=60.0 * number + 42.0,
        train_loss=None if abandoned else 2.2 * math.exp(-number / 8) + 0.12,
        seconds=0.29,
    )


def make_evaluation(
    number: int,
    clients: Sequence[str],
    metrics: Mapping[str, Callable[[int], float]],
    *,
    central: bool = True,
    per_client: bool = True,
    scatter: float = 0.06,
) -> EvaluationRecord:
    """Make one evaluation of metrics given as functions of the round."""
    rng = np.random.default_rng([number, 1])
    on_clients = {}
    for name, curve in metrics.items():
        noise = scatter * rng.standard_normal(len(clients))
        values = curve(number) * (1 + noise) - 0.02 * noise**2
        if higher_is_better(name):
            values = np.minimum(values, 1.0)
        on_clients[name] = dict(zip(clients, values.tolist(), strict=True))
    summaries = {
        name: summarise(values, higher_is_better=higher_is_better(name))
        for name, values in on_clients.items()
    }
    return EvaluationRecord(
        round=number,
        central={name: curve(number) for name, curve in metrics.items()} if central else {},
        clients={name: summary for name, summary in summaries.items() if summary is not None},
        per_client=on_clients if per_client and clients else {},
    )


def accuracy(number: int) -> float:
    """Return an accuracy that rises from chance to 0.94."""
    return 0.94 - 0.84 * math.exp(-number / 6)


def loss(number: int) -> float:
    """Return a loss that falls."""
    return 0.22 + 2.1 * math.exp(-number / 7)


CLASSIFICATION = {"loss": loss, "accuracy": accuracy}


def label_skew(clients: Sequence[str], labels: int = 10, *, population: int | None = None) -> Holding:
    """Make a population whose clients hold few labels each."""
    rng = np.random.default_rng(3)
    sizes = np.maximum(1, rng.lognormal(4, 0.6, len(clients))).astype(int)
    counts = [rng.multinomial(size, rng.dirichlet([0.3] * labels)) for size in sizes]
    return Holding(
        clients=population or len(clients),
        examples=int(sizes.sum()),
        ids=tuple(clients),
        sizes=tuple(sizes.tolist()),
        kind="labels",
        labels=tuple(str(label) for label in range(labels)),
        counts=tuple(tuple(map(float, row)) for row in counts),
    )


def target_spread(clients: Sequence[str]) -> Holding:
    """Make a population of numbers; the last client holds nothing."""
    rng = np.random.default_rng(4)
    rows: list[tuple[float | None, ...]] = []
    for _ in clients[:-1]:
        values = rng.normal(rng.uniform(-1, 1), rng.uniform(0.5, 2), 60)
        rows.append(tuple(np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist()))
    return Holding(
        clients=len(clients),
        examples=60 * (len(clients) - 1),
        ids=tuple(clients),
        sizes=(*[60] * (len(clients) - 1), 0),
        kind="quantiles",
        labels=("min", "25 %", "median", "75 %", "max"),
        counts=(*rows, (None,) * 5),
    )


def digits(path: Path, *, rounds: int = 30, clients: int = 100, info: RunInfo = INFO) -> RunFolder:
    """Write the run of a hundred phones."""
    names = ids(clients)
    info = msgspec.structs.replace(
        info, population=label_skew(names), rounds=rounds - rounds // 11, attempts=rounds
    )
    noted = make_rounds(rounds, names)
    measured = [
        make_evaluation(number, names[:100], CLASSIFICATION)
        for number in range(rounds + 1)
        if number % 11 or not number
    ]
    return write(path, info=info, rounds=noted, evaluations=measured)


def hospitals(path: Path) -> RunFolder:
    """Write the run of four hospitals that have no test set in common and all take part."""
    names = ("cleveland", "hungarian", "switzerland", "va")
    holding = msgspec.structs.replace(label_skew(names, 2), labels=("0", "1"))
    metrics = {
        "loss": lambda n: 0.7 - 0.012 * n,
        "accuracy": lambda n: 0.6 + 0.011 * n,
        "auc": lambda n: 0.6 + 0.013 * n,
    }
    info = msgspec.structs.replace(
        INFO, name="hospitals", rounds=20, attempts=20, population=holding, overrides=()
    )
    noted = [
        RoundRecord(
            round=n, outcome="committed", reason="", invited=names, answered=names, train_loss=0.7 - 0.014 * n
        )
        for n in range(1, 21)
    ]
    measured = [make_evaluation(n, names, metrics, central=False, scatter=0.12) for n in range(21)]
    settings = {**SETTINGS, "name": "hospitals", "rounds": 20, "cohort": {"type": "all"}}
    return write(path, info=info, settings=settings, rounds=noted, evaluations=measured)


# --- private runs -------------------------------------------------------------------------------

PRIVATE = Guarantee(
    unit="user",
    trust="central",
    adjacency="add_remove",
    epsilon=1.99931,
    delta=1e-4,
    steps=30,
    noise_multiplier=1.07,
    mechanism="gaussian",
    is_amplified=True,
    sampling="a Poisson sample: every user with probability 0.26 in each step, kept secret",
    covered=("the model after every step", "the clipping bound's path"),
    not_covered=("choosing settings by results on the same data",),
    randomness="system",
)
UNAMPLIFIED = msgspec.structs.replace(
    PRIVATE,
    adjacency="zero_out",
    is_amplified=False,
    sampling="about 26 of 100 users in each step; nothing is gained by it",
    zcdp=0.2394,
    mu_gdp=0.6919,
)


def promising(info: RunInfo, guarantee: Guarantee) -> RunInfo:
    """Return the record of a run that makes a promise."""
    seeded = "seeded, not private: " if guarantee.randomness == "seeded" else ""
    claim = f"{seeded}epsilon 2.000 at delta 0.0001 for each user ({guarantee.adjacency}, central)"
    return msgspec.structs.replace(
        info, privacy=claim, guarantee=guarantee, epsilon=guarantee.epsilon, overrides=()
    )


def make_spends(count: int, *, moving: bool = True) -> list[PrivacyRecord]:
    """Make what rounds spend, with a clipping bound that moves."""
    return [
        PrivacyRecord(
            round=number,
            step=number,
            epsilon=1.99931 * math.sqrt(number / count),
            noise_std=1.07,
            clipping_bound=0.97**number if moving else 1.0,
        )
        for number in range(1, count + 1)
    ]


def private(path: Path, guarantee: Guarantee = PRIVATE, *, info: RunInfo = INFO) -> RunFolder:
    """Write the run of a hundred phones as one that makes a promise."""
    names = ids(100)
    info = msgspec.structs.replace(info, population=label_skew(names), rounds=30, attempts=30)
    noted = [make_round(number, names, 17 + number % 5, 13) for number in range(1, 31) if number % 11]
    measured = [make_evaluation(number, names, CLASSIFICATION) for number in range(31)]
    return write(
        path,
        info=promising(info, guarantee),
        rounds=noted,
        evaluations=measured,
        spends=make_spends(len(noted), moving=guarantee.is_amplified),
    )
