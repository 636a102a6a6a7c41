"""One or more values of every part that tacit exports: the rows of the law tests."""

from pathlib import Path

from tacit.aggregate import FixedMean, WeightedMean
from tacit.algorithms import FedAvg, ServerAdagrad, ServerAdam, ServerSGD, ServerYogi
from tacit.codec import AdaptiveClip, ClipL1, ClipL2, Discount, OnGrid, Weigh, Withhold
from tacit.core.cohort import All, FixedSize, Poisson, TruncatedPoisson
from tacit.core.events import (
    ComposedEvent,
    CorrelatedEvent,
    GaussianEvent,
    LaplaceEvent,
    NonPrivateEvent,
    PoissonSampledEvent,
    RepeatedEvent,
    TruncatedPoissonSampledEvent,
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
from tacit.privacy import AdaptiveClipping, FixedClipping, LocalNoise, SegmentClipping
from tacit.privacy.mechanisms import BandedInverse, BandedSquareRoot, Gaussian, Laplace
from tacit.round import LogNormalDuration, Patience, RandomDropout, TargetMetric, UnreliableClients

_GAUSSIAN = GaussianEvent(noise_multiplier=1.5)


def samples() -> tuple[Part, ...]:
    """Return a value of every part; a part that is missing here fails the law tests."""
    return (
        *_codec(),
        *_learning(),
        *_events(),
        *_privacy(),
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
        ClipL1(bound=1.0),
        Withhold(),
        AdaptiveClip(initial=1.0),
        Discount(),
        Discount(exponent=0.0),
        OnGrid(steps={"parameters": 2.0**-8, "buffers": 2.0**-20, "metrics": 1.0}),
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
        FixedMean(denominator=5.0),
        local,
        LocalSGD(lr=0.1, batch_size="all", steps=3, momentum=0.9),
        FedAvg(local=local, server=ServerAdam()),
        *(ServerSGD(), ServerSGD(lr=0.5, momentum=0.9), ServerAdam(), ServerYogi(), ServerAdagrad()),
        *(
            All(),
            FixedSize(5),
            FixedSize(5, over_selection=1.4),
            Poisson(rate=0.2),
            TruncatedPoisson(rate=0.2, cap=7),
        ),
    )


def _privacy() -> tuple[Part, ...]:
    return (
        *(FixedClipping(bound=1.0), AdaptiveClipping(), SegmentClipping(bounds={"parameters": 1.0})),
        *(Gaussian(), Laplace(), BandedInverse(), BandedSquareRoot(bands=4)),
        LocalNoise(scale=1.0, randomness="seeded"),
    )


def _events() -> tuple[Part, ...]:
    return (
        NonPrivateEvent(),
        _GAUSSIAN,
        PoissonSampledEvent(rate=0.1, event=_GAUSSIAN),
        RepeatedEvent(event=_GAUSSIAN, count=3),
        ComposedEvent(events=(_GAUSSIAN, NonPrivateEvent())),
        LaplaceEvent(noise_multiplier=2.0),
        TruncatedPoissonSampledEvent(rate=0.1, cap=20, population=100, event=_GAUSSIAN),
        CorrelatedEvent(noise_multiplier=1.0, steps=10, min_separation=5, mechanism="banded_inverse"),
    )
