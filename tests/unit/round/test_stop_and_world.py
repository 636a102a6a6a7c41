"""Stop rules on made-up histories, the round's policy, and the statistics of the virtual world."""

import math

import numpy as np
import pytest
from scipy import stats

from tacit.core.errors import ConfigError
from tacit.core.metrics import ClientSummary
from tacit.round import (
    EvaluationRecord,
    LogNormalDuration,
    Patience,
    RandomDropout,
    RoundPolicy,
    TargetMetric,
    UnreliableClients,
    World,
)
from tacit.round.world import VirtualWorld

CLIENTS = 400


def history(*values: float | None, metric: str = "accuracy", every: int = 1) -> tuple[EvaluationRecord, ...]:
    return tuple(
        EvaluationRecord(round=index * every, central={} if value is None else {metric: value})
        for index, value in enumerate(values)
    )


# --- stop rules --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "value", "stops"),
    [
        *(("accuracy", 0.9, True), ("accuracy", 0.91, True), ("accuracy", 0.89, False)),
        *(("loss", 0.9, True), ("loss", 0.89, True), ("loss", 0.91, False)),
        *(("accuracy", math.nan, False), ("loss", math.nan, False), ("loss", math.inf, False)),
    ],
)
def test_a_target_is_reached_from_the_side_that_is_worse(metric: str, value: float, stops: bool) -> None:
    rule = TargetMetric(metric=metric, value=0.9)
    assert (rule.stop(history(value, metric=metric)) is not None) is stops


def test_only_the_newest_measurement_reaches_a_target() -> None:
    assert TargetMetric(metric="accuracy", value=0.9).stop(history(0.95, 0.8)) is None


def test_a_target_on_clients_is_their_mean() -> None:
    summary = ClientSummary(mean=0.8, worst_10=0.1, spread=0.2, clients=9)
    record = EvaluationRecord(round=1, central={"accuracy": 0.1}, clients={"accuracy": summary})
    assert TargetMetric(metric="accuracy", value=0.8, on="clients").stop((record,))
    assert TargetMetric(metric="accuracy", value=0.8, on="central").stop((record,)) is None


@pytest.mark.parametrize(
    ("values", "since"),
    [
        ((0.1, 0.2, 0.3, 0.4), None),
        ((0.5, 0.4, 0.4), None),
        ((0.5, 0.4, 0.4, 0.4), 0),
        ((0.1, 0.5, 0.5, 0.5, 0.5), 1),
        ((0.1, 0.5, 0.2, 0.6), None),
        ((math.nan, 0.2, 0.3, 0.4), None),
        ((math.nan, 0.2, 0.1, 0.1, 0.1), 1),
        ((0.5, math.nan, math.nan, math.nan), 0),
        ((math.nan, math.nan, math.nan, math.nan), None),
    ],
)
def test_patience_counts_rounds_since_the_best(values: tuple[float, ...], since: int | None) -> None:
    reason = Patience(metric="accuracy", rounds=3).stop(history(*values))
    assert reason == (None if since is None else f"accuracy has not improved since round {since}")


def test_patience_counts_rounds_not_measurements() -> None:
    assert Patience(metric="accuracy", rounds=4).stop(history(0.5, 0.4, every=2)) is None
    assert Patience(metric="accuracy", rounds=4).stop(history(0.5, 0.4, 0.4, every=2)) is not None


def test_a_gain_must_exceed_the_least_gain() -> None:
    rising = history(0.5, 0.55, 0.6, 0.65)
    assert Patience(metric="accuracy", rounds=3, least_gain=0.0).stop(rising) is None
    assert Patience(metric="accuracy", rounds=3, least_gain=0.2).stop(rising) is not None
    assert Patience(metric="accuracy", rounds=3, least_gain=0.08).stop(rising) is None  # twice a small one


def test_a_falling_loss_is_an_improvement() -> None:
    assert Patience(rounds=2).stop(history(3.0, 2.0, 1.0, metric="loss")) is None
    assert Patience(rounds=2).stop(history(1.0, 2.0, 3.0, metric="loss")) is not None


@pytest.mark.parametrize(
    ("quorum", "wanted", "least"),
    [(0.5, 5, 3), (0.5, 4, 2), (0.1, 10, 1), (0.7, 10, 7), (1.0, 3, 3), (0.01, 3, 1), (0.5, 0, 1)],
)
def test_a_quorum_is_rounded_up_and_never_nobody(quorum: float, wanted: int, least: int) -> None:
    assert RoundPolicy(quorum=quorum).least(wanted) == least


# --- the virtual world -------------------------------------------------------------------------


def world_of(seed: int = 0, **world: object) -> VirtualWorld:
    return VirtualWorld(World(**world), np.full(CLIENTS, 100), seed)  # type: ignore[arg-type]


def everybody(world: VirtualWorld, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = [world.arrivals(number, np.arange(CLIENTS)) for number in range(rounds)]
    return np.stack([a.seconds for a in drawn]), np.stack([a.dropped for a in drawn])


def test_without_assumptions_everybody_answers_at_once() -> None:
    seconds, dropped = everybody(world_of(), 3)
    assert not seconds.any()
    assert not dropped.any()


def test_durations_are_lognormal_between_clients_and_within_one() -> None:
    duration = LogNormalDuration(median_s=20.0, per_example_s=0.1, client_sigma=0.5, round_sigma=0.1)
    logs = np.log(everybody(world_of(duration=duration), 60)[0])
    assert np.median(np.exp(logs)) == pytest.approx(30.0, rel=0.1)
    assert logs.mean(axis=0).std() == pytest.approx(0.5, rel=0.1)
    assert (logs - logs.mean(axis=0)).std() == pytest.approx(0.1, rel=0.05)
    assert stats.kstest((logs.mean(axis=0) - np.log(30.0)) / 0.5, "norm").pvalue > 0.01


def test_larger_clients_take_longer() -> None:
    world = World(duration=LogNormalDuration(median_s=1.0, per_example_s=0.5, client_sigma=0, round_sigma=0))
    seconds = VirtualWorld(world, np.array([10, 20]), 0).arrivals(1, np.array([0, 1])).seconds
    assert seconds.tolist() == [6.0, 11.0]


def test_a_client_stays_slow_whoever_else_is_invited() -> None:
    world = world_of(duration=LogNormalDuration(round_sigma=0.0))
    all_of_them = world.arrivals(1, np.arange(CLIENTS)).seconds
    some = world.arrivals(9, np.array([3, 77])).seconds
    assert np.array_equal(some, all_of_them[[3, 77]])


def test_random_dropout_takes_everybody_alike() -> None:
    dropped = everybody(world_of(dropout=RandomDropout(0.3)), 100)[1]
    assert dropped.mean() == pytest.approx(0.3, abs=0.01)
    counts = dropped.sum(axis=0)
    variance = 100 * 0.3 * 0.7
    chi_square = float(((counts - 30) ** 2 / variance).sum())
    assert 0.001 < stats.chi2(CLIENTS).sf(chi_square) < 0.999


def test_unreliable_clients_are_a_share_that_stays_the_same() -> None:
    dropped = everybody(world_of(dropout=UnreliableClients(share=0.25, rate=0.5)), 60)[1]
    ever = dropped.any(axis=0)
    assert ever.mean() == pytest.approx(0.25, abs=0.06)
    assert dropped[:, ever].mean() == pytest.approx(0.5, abs=0.03)


def test_the_world_follows_from_its_seed_and_the_round() -> None:
    assumed = {"duration": LogNormalDuration(), "dropout": RandomDropout(0.5)}
    a, b, other = (world_of(seed, **assumed) for seed in (0, 0, 1))
    b.arrivals(1, np.arange(5))  # what was asked before plays no part
    one, two = (w.arrivals(2, np.arange(CLIENTS)) for w in (a, b))
    assert np.array_equal(one.seconds, two.seconds)
    assert np.array_equal(one.dropped, two.dropped)
    assert not np.array_equal(one.seconds, other.arrivals(2, np.arange(CLIENTS)).seconds)
    assert not np.array_equal(one.dropped, a.arrivals(3, np.arange(CLIENTS)).dropped)


@pytest.mark.parametrize("rate", [0.0, 1.5, -0.1, math.nan])
def test_a_rate_of_unreliable_clients_is_a_probability(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"UnreliableClients\.rate"):
        UnreliableClients(rate=rate)
