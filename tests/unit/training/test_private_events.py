"""What a round costs the records of a site: a Poisson batch at the public rate for every step."""

import pytest

from tacit.core.errors import ConfigError, PlanError
from tacit.core.events import GaussianEvent, PoissonSampledEvent, RepeatedEvent
from tacit.core.local import LocalSGD
from tacit.core.part import decode, encode
from tacit.core.record_level import RecordLevel, events_of, expected_batch, sampling_rate

RECORD = RecordLevel(noise_multiplier=1.5, clipping_bound=0.5)
GAUSSIAN = GaussianEvent(noise_multiplier=1.5)


@pytest.mark.parametrize(
    ("local", "records", "rate", "steps"),
    [
        (LocalSGD(lr=1, epochs=2, batch_size=10), 100, 0.1, 20),
        (LocalSGD(lr=1, epochs=2, batch_size=10), 25, 0.4, 6),
        (LocalSGD(lr=1, steps=7, batch_size=32), 128, 0.25, 7),
    ],
)
def test_a_round_is_as_many_sampled_releases_as_it_has_steps(
    local: LocalSGD, records: int, rate: float, steps: int
) -> None:
    wanted = RepeatedEvent(event=PoissonSampledEvent(rate=rate, event=GAUSSIAN), count=steps)
    assert events_of(RECORD, local, records) == wanted
    assert sampling_rate(local, records) == rate


@pytest.mark.parametrize("batch", [50, 51, "all"])
def test_a_step_that_sees_all_records_is_no_sample(batch: int) -> None:
    local = LocalSGD(lr=1, steps=3, batch_size=batch)
    assert events_of(RECORD, local, 50) == RepeatedEvent(event=GAUSSIAN, count=3)
    assert (sampling_rate(local, 50), expected_batch(local, 50)) == (1.0, 50)


def test_a_site_without_records_is_refused() -> None:
    with pytest.raises(PlanError) as error:
        events_of(RECORD, LocalSGD(lr=1), 0)
    assert error.value.code == "T190"


def test_settings_are_positive_and_survive_a_file() -> None:
    assert decode(RecordLevel, encode(RECORD)) == RECORD
    for setting in ("noise_multiplier", "clipping_bound"):
        with pytest.raises(ConfigError):
            RecordLevel(**{"noise_multiplier": 1.0, "clipping_bound": 1.0, setting: 0.0})
