"""What one client can do to a run: move the sum by the bound it is clipped to, and nothing else."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.codec import Chain, Codec
from tacit.core.errors import PlanError
from tacit.core.layout import Vector
from tacit.core.rule import Grid
from tests.attacks.privacy_checks import (
    check_dropouts,
    check_nothing_else_leaves,
    check_sensitivity,
    differences,
    hostile,
)
from tests.rounds.private_runs import FIXED, Machines, Played, RowOf, plan_of, play, private

CLIPPINGS = [
    FIXED,
    tacit.AdaptiveClipping(initial=1.5),
    tacit.SegmentClipping(bounds={"parameters": 1.5}),
    tacit.FixedClipping(bound=1e-4),
    tacit.FixedClipping(bound=900.0),
]
SETTINGS: list[dict[str, Any]] = [
    *({"clipping": clipping} for clipping in CLIPPINGS),
    {"mechanism": tacit.Laplace()},
    {"mechanism": tacit.BandedInverse(bands=2), "min_separation": 1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
def test_one_client_moves_the_sum_by_at_most_the_bound_and_the_bit_by_a_half(
    settings: dict[str, Any],
) -> None:
    check_sensitivity(plan_of(private(**settings), clients=8, rounds=1))


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
@pytest.mark.parametrize("cohort", [tacit.All(), tacit.Poisson(rate=1.0)], ids=repr)
def test_the_mean_is_taken_over_a_constant_whoever_has_vanished(settings: Any, cohort: Any) -> None:
    check_dropouts(plan_of(private(**settings), clients=8, rounds=1, quorum=0.1, cohort=cohort))


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
def test_nothing_but_what_is_protected_leaves_a_client(settings: dict[str, Any]) -> None:
    check_nothing_else_leaves(plan_of(private(**settings), clients=8, rounds=2))


def test_every_client_weighs_the_same_whatever_it_holds() -> None:
    sizes = [1, 10, 100_000, 3]
    plan = plan_of(private(), sizes=sizes, rounds=1, weighting=tacit.Weigh(cap=1000))
    row = np.append(np.full(plan.parameters, 0.1), 1.0).astype(np.float32)
    played = play(plan, row_of=lambda client, number: row, examples=lambda client: sizes[int(client[1:])])
    assert played.totals[0] is not None
    np.testing.assert_allclose(plan.grid.to_float(played.totals[0]), 0.4, rtol=1e-5)


def test_a_client_that_fails_counts_as_zero() -> None:
    plan = plan_of(private(), clients=6, rounds=1)
    bad = hostile(plan.parameters)["not a number"]
    fine = np.append(np.full(plan.parameters, 0.1), 1.0).astype(np.float32)
    failed = play(plan, row_of=lambda client, number: bad if client == "c0" else fine)
    absent = play(plan, row_of=lambda client, number: fine, answers=lambda client, number: client != "c0")
    assert set(failed.rounds[0].failed) == {"c0"}
    assert not any(moved.any() for moved in differences(plan, failed, absent))
    assert np.array_equal(failed.means[0], absent.means[0])


def test_a_stage_that_makes_updates_longer_makes_the_noise_larger() -> None:
    plan = plan_of(private(), clients=6, rounds=1)
    chain = Chain((*plan.codec.chain.stages, _Doubled()))
    codec = Codec(chain, plan.codec.spec)
    played = play(dataclasses.replace(plan, codec=codec, grid=Grid.for_sum(codec.sent, 100)))
    assert played.spends[0].noise_std == pytest.approx(2 * 2.0 * 1.5)
    assert played.released[0].std() == pytest.approx(6.0, rel=0.4)


def test_a_part_of_an_update_that_nothing_bounds_is_refused() -> None:
    plan = plan_of(private(), clients=6, rounds=1)
    codec = Codec(Chain(plan.codec.chain.stages[:1]), plan.codec.spec)
    with pytest.raises(PlanError, match="nothing bounds") as caught:
        Machines(dataclasses.replace(plan, codec=codec))
    assert caught.value.code == "T182"


@dataclasses.dataclass(frozen=True)
class _Doubled:
    """A stage that may double what it is given, and says so."""

    def plan(self, spec: Any) -> Any:
        return spec.change("parameters", l2_bound=2 * spec.segment("parameters").l2_bound)

    def encode(self, rows: Any, memory: Any, ctx: Any) -> Any:
        return rows * 2, memory

    def decode(self, total: Any, sent: Any, ctx: Any) -> Any:
        return total


# --- the adaptive clip -------------------------------------------------------------------------


def spread_norms(size: int, clients: int = 40) -> tuple[RowOf, Vector]:
    """Return clients whose updates' norms are spread log-normally around 1, and the norms."""
    rng = np.random.default_rng(11)
    norms = np.exp(rng.standard_normal(clients) * 0.7).astype(np.float32)
    rows = rng.standard_normal((clients, size + 1))
    rows[:, :-1] *= (norms / np.linalg.norm(rows[:, :-1], axis=1))[:, None]
    return lambda client, number: rows[int(client[1:])].astype(np.float32), norms


def adapted(initial: float, quantile: float, rounds: int = 100, **settings: Any) -> tuple[Played, Vector]:
    clipping = tacit.AdaptiveClipping(initial=initial, quantile=quantile, learning_rate=0.5)
    plan = plan_of(private(clipping=clipping, noise_multiplier=0.7), clients=40, rounds=rounds)
    row_of, norms = spread_norms(plan.parameters)
    return play(plan, row_of=row_of, **settings), norms


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("initial", [300.0, 1.0, 0.003])
def test_the_bound_moves_to_the_quantile_from_both_sides(initial: float, quantile: float) -> None:
    played, norms = adapted(initial, quantile)
    bounds = [spend.clipping_bound for spend in played.spends]
    assert bounds[0] == initial
    share = np.mean([np.mean(norms <= bound) for bound in bounds[-20:]])
    assert share == pytest.approx(quantile, abs=0.08)


def test_clients_clip_to_the_rounds_own_bound_and_noise_moves_with_it() -> None:
    played, _ = adapted(300.0, 0.5, rounds=40)
    assert len({spend.clipping_bound for spend in played.spends}) == 40
    for sent, spend in zip(played.sent, played.spends, strict=True):
        assert spend.clipping_bound is not None
        longest = max(np.linalg.norm(rows[:, :-1].astype(np.float64), axis=1).max() for rows in sent)
        assert longest <= spend.clipping_bound
    ratios = {round(spend.noise_std / spend.clipping_bound, 9) for spend in played.spends}  # type: ignore[operator]
    assert len(ratios) == 1


def test_the_bound_follows_the_noisy_bits_alone() -> None:
    clipping = tacit.AdaptiveClipping(initial=1.0, quantile=0.4, learning_rate=0.3)
    plan = plan_of(private(clipping=clipping), clients=40, rounds=6)
    row_of, _ = spread_norms(plan.parameters)
    played = play(plan, row_of=row_of)
    bounds = [spend.clipping_bound for spend in played.spends]
    for released, before, after in zip(played.released, bounds, bounds[1:], strict=False):
        share = min(1.0, max(0.0, 0.5 + released[-1] / 40))
        assert before is not None
        assert after == pytest.approx(before * np.exp(-0.3 * (share - 0.4)), rel=1e-12)


@pytest.mark.parametrize(("initial", "value"), [(1.0, 0.0), (1e-3, 900.0), (500.0, 1000.0)])
def test_a_bound_that_is_driven_to_its_limit_leaves_room_for_its_noise(initial: float, value: float) -> None:
    clipping = tacit.AdaptiveClipping(initial=initial, learning_rate=1.0, quantile=0.99)
    if not value:
        clipping = tacit.AdaptiveClipping(initial=initial, learning_rate=1.0, quantile=0.01)
    plan = plan_of(private(clipping=clipping, noise_multiplier=200.0), clients=3, rounds=60)
    row = np.append(np.full(plan.parameters, value), 1.0).astype(np.float32)
    played = play(plan, row_of=lambda client, number: row)
    assert played.end is not None
    assert played.end.outcome == "completed"
    assert len(played.released) == 60
    last = [spend.clipping_bound for spend in played.spends[-10:]]
    assert all(bound is not None and 2.0**-16 <= bound / initial <= 2.0**16 for bound in last)


# --- clients that trust nobody -----------------------------------------------------------------


def test_under_local_trust_every_client_hides_behind_noise_of_its_own() -> None:
    plan = plan_of(private(trust="local"), clients=8, rounds=2)
    row = np.append(np.full(plan.parameters, 5.0), 1.0).astype(np.float32)
    played = play(plan, row_of=lambda client, number: row)
    sent = np.concatenate([rows for rounds in played.sent for rows in rounds])
    assert len(np.unique(sent)) == sent.size
    noise = sent - 1.5 / np.sqrt(plan.parameters)
    assert noise.std() == pytest.approx(3.0, rel=0.1)
    assert np.abs(np.corrcoef(noise)[np.triu_indices(len(noise), 1)]).max() < 0.8


@pytest.mark.parametrize("name", ["not a number", "infinite", "spike", "a loss that is no number", "nothing"])
def test_under_local_trust_a_broken_update_looks_like_any_other(name: str) -> None:
    plan = plan_of(private(trust="local"), clients=8, rounds=1)
    rows = hostile(plan.parameters)
    with np.errstate(invalid="ignore", over="ignore"):
        played = play(plan, row_of=lambda client, number: rows[name if client == "c3" else "small"])
    (sent,) = played.sent[0]
    assert played.rounds[0].failed == {}
    assert len(sent) == 8
    assert np.isfinite(sent).all()
    assert sent[3].std() == pytest.approx(3.0, rel=0.4)


def test_under_local_trust_an_abandoned_round_has_cost_its_step() -> None:
    plan = plan_of(private(trust="local"), clients=8, rounds=3)
    played = play(plan, answers=lambda client, number: number != 2)
    assert [record.outcome[0] for record in played.rounds] == list("cacc")
    assert [spend.step for spend in played.spends] == [1, 2, 3, 4]
    assert all(spend.event is not None for spend in played.spends)


def test_under_central_trust_an_abandoned_round_costs_nothing() -> None:
    played = play(plan_of(private(), clients=8, rounds=3), answers=lambda client, number: number != 2)
    assert [spend.step for spend in played.spends] == [1, None, 2, 3]
    assert played.spends[1].event is None
