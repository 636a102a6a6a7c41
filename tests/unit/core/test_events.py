"""Privacy events: data that survives a file and counts as equal when it says the same."""

import pytest

from tacit.core.errors import ConfigError
from tacit.core.events import (
    ComposedEvent,
    CorrelatedEvent,
    GaussianEvent,
    LaplaceEvent,
    NonPrivateEvent,
    PoissonSampledEvent,
    PrivacyEvent,
    RepeatedEvent,
    TruncatedPoissonSampledEvent,
)
from tacit.core.part import decode, encode

GAUSSIAN = GaussianEvent(noise_multiplier=1.5)
EVENTS = (
    NonPrivateEvent(),
    GAUSSIAN,
    LaplaceEvent(noise_multiplier=1.5),
    PoissonSampledEvent(rate=0.1, event=GAUSSIAN),
    TruncatedPoissonSampledEvent(rate=0.1, cap=20, population=100, event=GAUSSIAN),
    CorrelatedEvent(noise_multiplier=1.5, steps=200, min_separation=20, mechanism="banded_inverse"),
    RepeatedEvent(event=PoissonSampledEvent(rate=0.1, event=GAUSSIAN), count=3),
    ComposedEvent(events=(GAUSSIAN, NonPrivateEvent())),
)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_read_from_a_file_is_the_one_that_was_written(event: PrivacyEvent) -> None:
    assert decode(PrivacyEvent, encode(event)) == event  # type: ignore[arg-type]


def test_no_two_events_are_equal_and_each_can_be_counted_in_a_mapping() -> None:
    assert len(dict.fromkeys(EVENTS, 1)) == len(EVENTS)
    assert {GAUSSIAN: 1, GaussianEvent(noise_multiplier=1.5): 2} == {GAUSSIAN: 2}


@pytest.mark.parametrize(
    "plain",
    [
        {"type": "gaussian_event", "noise_multiplier": 0},
        {"type": "laplace_event", "noise_multiplier": -1},
        {"type": "poisson_sampled", "rate": 1.5, "event": {"type": "gaussian_event", "noise_multiplier": 1}},
        {"type": "correlated", "noise_multiplier": 1, "steps": 0, "min_separation": 1, "mechanism": "x"},
        {"type": "repeated", "event": {"type": "non_private"}, "count": 0},
    ],
)
def test_an_event_that_cannot_be_is_refused(plain: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(PrivacyEvent, plain)  # type: ignore[arg-type]
    assert caught.value.code == "T103"
