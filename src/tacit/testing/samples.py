"""One or more values of every part that tacit exports: the rows of the law tests."""

from pathlib import Path

from tacit.aggregate import WeightedMean
from tacit.algorithms import FedAvg, ServerAdagrad, ServerAdam, ServerSGD, ServerYogi
from tacit.codec import ClipL2, Weigh
from tacit.core.cohort import All, FixedSize, Poisson
from tacit.core.events import (
    ComposedEvent,
    GaussianEvent,
    NonPrivateEvent,
    PoissonSampledEvent,
    RepeatedEvent,
)
from tacit.core.local import LocalSGD
from tacit.core.part import Part
from tacit.data import (
    CSV,
    IID,
    MNIST,
    SMS,
    BreastCancer,
    CreditDefault,
    Digits,
    Dirichlet,
    HeartDisease,
    Natural,
    Parquet,
    QuantitySkew,
    Shakespeare,
    Shards,
)
from tacit.round import LogNormalDuration, Patience, RandomDropout, TargetMetric, UnreliableClients

_GAUSSIAN = GaussianEvent(noise_multiplier=1.5)


def samples() -> tuple[Part, ...]:
    """Return a value of every part; a part that is missing here fails the law tests."""
    return (
        *_codec(),
        *_learning(),
        *_events(),
        *(IID(), Dirichlet(alpha=0.3), Shards(classes_per_client=2), QuantitySkew(alpha=1.0), Natural()),
        *_sources(),
        *(TargetMetric(metric="accuracy", value=0.9), Patience(rounds=3)),
        *(LogNormalDuration(), RandomDropout(0.1), UnreliableClients()),
    )


def _codec() -> tuple[Part, ...]:
    return (
        ClipL2(bound=1.0),
        ClipL2(bound=0.01, segment="buffers"),
        Weigh(),
        Weigh(by="uniform"),
        Weigh(cap=10),
    )


def _sources() -> tuple[Part, ...]:
    return (
        *(Digits(), BreastCancer(), MNIST(), HeartDisease(), CreditDefault(), Shakespeare(), SMS()),
        *(
            CSV(path=Path("patients.csv"), target="ill"),
            Parquet(path=Path("loans.parquet"), target="default"),
        ),
    )


def _learning() -> tuple[Part, ...]:
    local = LocalSGD(lr=0.1)
    return (
        WeightedMean(),
        local,
        LocalSGD(lr=0.1, batch_size="all", steps=3, momentum=0.9),
        FedAvg(local=local, server=ServerAdam()),
        *(ServerSGD(), ServerSGD(lr=0.5, momentum=0.9), ServerAdam(), ServerYogi(), ServerAdagrad()),
        *(All(), FixedSize(5), FixedSize(5, over_selection=1.4), Poisson(rate=0.2)),
    )


def _events() -> tuple[Part, ...]:
    return (
        NonPrivateEvent(),
        _GAUSSIAN,
        PoissonSampledEvent(rate=0.1, event=_GAUSSIAN),
        RepeatedEvent(event=_GAUSSIAN, count=3),
        ComposedEvent(events=(_GAUSSIAN, NonPrivateEvent())),
    )
