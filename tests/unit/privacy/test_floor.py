"""What an owner demands holds, whatever a job says."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import ConfigError, RemoteProtocolError
from tacit.core.events import (
    ComposedEvent,
    CorrelatedEvent,
    GaussianEvent,
    LaplaceEvent,
    NonPrivateEvent,
    PoissonSampledEvent,
    PrivacyEvent,
    RepeatedEvent,
)
from tacit.core.part import decode, encode
from tacit.privacy.accounting import epsilon
from tacit.privacy.floor import DeviceRecord, Floor, Offer, Participation, spent_by

DELTA = 1e-6
NOISY = GaussianEvent(noise_multiplier=40.0)
SAMPLED = PoissonSampledEvent(rate=0.1, event=GaussianEvent(noise_multiplier=2.0))
CORRELATED = CorrelatedEvent(noise_multiplier=3.0, steps=60, min_separation=5, mechanism="banded_inverse")
FLOOR = Floor(max_epsilon=4.0, max_delta=DELTA, unit="user", trust=("central",), min_cohort=20)
NEW = DeviceRecord()
TODAY = 1000


def offer(**changes: Any) -> Offer:
    facts: dict[str, Any] = {
        "population": "ward-7",
        "run": "run-1",
        "step": 0,
        "steps": 100,
        "event": NOISY,
        "delta": DELTA,
        "adjacency": "zero_out",
        "unit": "user",
        "trust": "central",
        "smallest_cohort": 20,
    }
    return Offer(**{**facts, **changes})


def took(*offers: Offer, day: int = TODAY) -> DeviceRecord:
    return DeviceRecord(participations=tuple(Participation(offer=one, day=day) for one in offers))


def refused(floor: Floor, offered: Offer, record: DeviceRecord = NEW, day: int = TODAY) -> tuple[str, str]:
    with pytest.raises(RemoteProtocolError) as caught:
        floor.check(offered, record, day, epsilon)
    assert caught.value.fix
    return caught.value.code, caught.value.where


def accepted(floor: Floor, offered: Offer, record: DeviceRecord = NEW, day: int = TODAY) -> None:
    floor.check(offered, record, day, epsilon)


def test_what_meets_every_demand_is_accepted() -> None:
    accepted(FLOOR, offer())
    accepted(Floor(), offer(event=NonPrivateEvent(), smallest_cohort=1))


@pytest.mark.parametrize(
    ("changes", "code", "rule"),
    [
        ({"event": NonPrivateEvent()}, "T520", "guarantee"),
        ({"event": ComposedEvent(events=(NOISY, NonPrivateEvent()))}, "T520", "guarantee"),
        ({"unit": "record"}, "T525", "unit"),
        ({"trust": "local"}, "T525", "trust"),
        ({"delta": 2e-6}, "T526", "max_delta"),
        ({"event": GaussianEvent(noise_multiplier=10.0)}, "T526", "max_epsilon"),
        ({"steps": 2000}, "T526", "max_epsilon"),
        ({"adjacency": "replace_one", "steps": 900}, "T526", "max_epsilon"),
        ({"smallest_cohort": 19}, "T528", "min_cohort"),
        ({"step": 100}, "T529", "steps"),
    ],
)
def test_what_falls_short_of_a_demand_is_refused_and_the_demand_named(
    changes: dict[str, Any], code: str, rule: str
) -> None:
    assert refused(FLOOR, offer(**changes)) == (code, f"floor.{rule}")


def test_what_nobody_can_account_for_is_no_guarantee() -> None:
    laplace = PoissonSampledEvent(rate=0.1, event=LaplaceEvent(noise_multiplier=30.0))
    accepted(FLOOR, offer(event=laplace, steps=10, adjacency="add_remove"))
    assert refused(FLOOR, offer(event=laplace, steps=10, adjacency="replace_one"))[0] == "T520"
    assert refused(FLOOR, offer(event=SAMPLED, adjacency="zero_out"))[0] == "T520"


@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: RepeatedEvent(event=e, count=1)])
def test_a_mechanism_that_this_device_does_not_know_is_no_guarantee(
    wrap: Callable[[PrivacyEvent], PrivacyEvent],
) -> None:
    accepted(FLOOR, offer(event=wrap(CORRELATED), steps=1))
    for name in ("tree", "gaussian", ""):
        strange = CorrelatedEvent(noise_multiplier=3.0, steps=60, min_separation=5, mechanism=name)
        assert refused(FLOOR, offer(event=wrap(strange), steps=1))[0] == "T520"


@pytest.mark.parametrize(
    "floor",
    [
        Floor(trust=("central",)),
        Floor(unit="record"),
        Floor(max_delta=0.5),
        Floor(max_epsilon=1e9, max_delta=0.5),
    ],
)
def test_any_demand_for_privacy_refuses_a_job_without(floor: Floor) -> None:
    assert refused(floor, offer(event=NonPrivateEvent()))[0] == "T520"


def test_who_demands_records_accepts_users_and_not_the_other_way_round() -> None:
    accepted(Floor(unit="record"), offer(unit="user"))
    accepted(Floor(unit="record"), offer(unit="record"))
    assert refused(Floor(unit="user"), offer(unit="record"))[0] == "T525"


@given(noise=st.floats(5.0, 100.0), steps=st.integers(1, 300), most=st.floats(0.2, 10.0))
def test_the_device_computes_the_epsilon_of_the_whole_run_itself(
    noise: float, steps: int, most: float
) -> None:
    event = GaussianEvent(noise_multiplier=noise)
    floor = Floor(max_epsilon=most, max_delta=DELTA)
    if epsilon({event: steps}, DELTA, "zero_out") <= most:
        accepted(floor, offer(event=event, steps=steps))
    else:
        assert refused(floor, offer(event=event, steps=steps)) == ("T526", "floor.max_epsilon")


# --- separation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "is_fine"), [(14, False), (10, False), (9, False), (15, True)])
def test_the_separation_that_correlated_noise_relies_on_is_kept_whoever_asks(
    step: int, is_fine: bool
) -> None:
    record = took(offer(event=CORRELATED, step=3), offer(event=CORRELATED, step=10))
    again = offer(event=CORRELATED, step=step)
    for floor in (Floor(), FLOOR):
        if is_fine:
            accepted(floor, again, record)
        else:
            assert refused(floor, again, record) == ("T529", "floor.min_separation")


def test_a_separation_hidden_inside_another_event_is_kept_too() -> None:
    hidden = ComposedEvent(events=(RepeatedEvent(event=CORRELATED, count=1), NOISY))
    record = took(offer(event=hidden, step=10))
    assert refused(Floor(), offer(event=hidden, step=14), record)[0] == "T529"


def test_a_step_beyond_those_that_correlated_noise_covers_is_refused() -> None:
    assert refused(Floor(), offer(event=CORRELATED, step=60, steps=500)) == ("T529", "floor.steps")


def test_the_owners_separation_counts_where_it_is_larger() -> None:
    floor, record = Floor(min_separation=3), took(offer(step=10))
    assert refused(floor, offer(step=12), record)[0] == "T529"
    assert refused(floor, offer(step=10), record)[0] == "T529"
    accepted(floor, offer(step=13), record)
    accepted(Floor(), offer(step=10), record)


def test_runs_and_populations_have_steps_of_their_own() -> None:
    record = took(offer(event=CORRELATED, step=10))
    accepted(Floor(), offer(event=CORRELATED, step=11, run="run-2"), record)
    accepted(Floor(), offer(event=CORRELATED, step=11, population="ward-8"), record)


# --- what adds up ---------------------------------------------------------------------------------


def period(most: float, days: int = 30) -> Floor:
    return Floor(max_delta=DELTA, period_epsilon=most, period_days=days)


@pytest.mark.parametrize("times", [1, 2, 7])
def test_the_period_is_refused_at_the_exact_round(times: int) -> None:
    floor = period(epsilon({NOISY: times}, DELTA, "zero_out"))
    record = NEW
    for step in range(times):
        accepted(floor, offer(step=step), record)
        record = took(*(offer(step=done) for done in range(step + 1)))
    assert refused(floor, offer(step=times), record) == ("T527", "floor.period_epsilon")


def test_jobs_and_populations_add_up() -> None:
    floor = period(epsilon({NOISY: 2}, DELTA, "zero_out"))
    record = took(offer(run="a"), offer(population="ward-8", run="b"))
    assert refused(floor, offer(run="c"), record)[0] == "T527"


def test_what_is_older_than_the_period_is_forgiven() -> None:
    floor = period(epsilon({NOISY: 1}, DELTA, "zero_out"), days=30)
    record = took(offer(), day=TODAY - 29)
    assert refused(floor, offer(step=1), record)[0] == "T527"
    accepted(floor, offer(step=1), record, day=TODAY + 1)


def test_a_retried_step_counts_twice() -> None:
    assert spent_by(took(offer(), offer()).participations).events == {NOISY: 2}


def test_a_run_amplified_by_sampling_counts_whole_whoever_was_drawn() -> None:
    drawn = offer(event=SAMPLED, adjacency="add_remove", step=40)
    assert spent_by(took(drawn).participations).events == {SAMPLED: 100}
    later = offer(event=SAMPLED, adjacency="add_remove", step=70)
    assert spent_by(took(drawn, later).participations).events == {SAMPLED: 100}
    whole = epsilon({SAMPLED: 100}, DELTA, "add_remove")
    accepted(period(whole), drawn)
    assert refused(period(whole * 0.99), drawn)[0] == "T527"


def test_a_server_that_shortens_a_run_afterwards_does_not_shorten_what_was_spent() -> None:
    first, shorter = (offer(event=SAMPLED, adjacency="add_remove", steps=steps) for steps in (100, 2))
    assert spent_by(took(first, shorter).participations).events == {SAMPLED: 100}


def test_a_run_with_correlated_noise_is_one_event() -> None:
    record = took(*(offer(event=CORRELATED, step=step) for step in (0, 5, 10)))
    assert spent_by(record.participations).events == {CORRELATED: 1}
    other = took(offer(event=CORRELATED), offer(event=CORRELATED, run="run-2"))
    assert spent_by(other.participations).events == {CORRELATED: 2}


def test_a_refusal_tells_the_server_nothing_of_the_record() -> None:
    floor = period(epsilon({NOISY: 2}, DELTA, "zero_out"))
    texts = []
    for record in (took(offer(run="a"), offer(run="b")), took(*(offer(run=str(n)) for n in range(9)))):
        with pytest.raises(RemoteProtocolError) as caught:
            floor.check(offer(), record, TODAY, epsilon)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]


# --- a value --------------------------------------------------------------------------------------


def test_an_epsilon_without_delta_is_refused() -> None:
    for demand in ({"max_epsilon": 2.0}, {"period_epsilon": 2.0}):
        with pytest.raises((ConfigError, ValueError), match="max_delta"):
            Floor(**demand)  # type: ignore[arg-type]


def test_a_floor_is_read_from_a_file_as_it_was_written() -> None:
    floor = Floor(max_epsilon=4.0, max_delta=DELTA, period_epsilon=8.0, unit="user", trust=("local",))
    assert decode(Floor, encode(floor)) == floor
    with pytest.raises(ConfigError, match="max_epsilom"):
        decode(Floor, {"max_epsilom": 4.0})


def test_an_offer_is_refused_whose_numbers_make_no_sense() -> None:
    for lie in ({"steps": 0}, {"step": -1}, {"delta": 0.0}, {"delta": 1.0}, {"unit": "nobody"}):
        with pytest.raises(ConfigError):
            decode(Offer, {**encode(offer()), **lie})
