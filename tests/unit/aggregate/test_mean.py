"""The weighted mean against NumPy in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.aggregate import WeightedMean
from tacit.codec import Chain, ClipL2, Codec, Weigh
from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.core.rule import Grid, Partial
from tacit.core.spec import UpdateSpec
from tacit.core.stage import StageContext

SIZE = 6
SPEC = UpdateSpec.of(parameters=SIZE)


def mean_of(rows: np.ndarray, examples: np.ndarray, codec: Codec) -> np.ndarray | None:
    grid, rule = Grid.for_sum(codec.sent, len(rows)), WeightedMean()
    ctx = StageContext(SPEC, 0, 1, tuple(map(str, range(len(rows)))), examples)
    sent, _ = codec.encode(rows.astype(np.float32), {}, ctx)
    total = codec.decode(grid.to_float(rule.lift(sent, grid).total), ctx)
    return rule.finish(total, codec.sent)


def weighed(cap: int = 1_000_000) -> Codec:
    return Codec(Chain((Weigh(cap=cap),)), SPEC)


@given(clients=st.integers(1, 40), seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-4, 1.0, 300.0]))
def test_the_mean_is_numpys_weighted_average(clients: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    rows = np.clip(rng.standard_normal((clients, SIZE)) * scale, -1000, 1000).astype(np.float32)
    examples = rng.integers(1, 1000, clients)
    expected = np.average(rows.astype(np.float64), axis=0, weights=examples)
    # float32 products and a grid of 2^-62 times the largest sum: about 1e-7 of the largest coordinate.
    np.testing.assert_allclose(
        mean_of(rows, examples, weighed()), expected, rtol=1e-6, atol=3e-7 * np.abs(rows).max() + 1e-10
    )


def test_a_claim_of_a_trillion_examples_weighs_no_more_than_the_cap() -> None:
    honest = np.zeros((9, SIZE))
    rows = np.vstack([honest, np.full((1, SIZE), 1.0)])
    examples = np.array([100] * 9 + [10**12])
    np.testing.assert_allclose(mean_of(rows, examples, weighed(cap=100)), 0.1, rtol=1e-6)
    np.testing.assert_allclose(mean_of(rows, examples, weighed(cap=900)), 0.5, rtol=1e-6)


def test_with_clip_and_cap_one_client_moves_the_mean_by_no_more_than_its_share_of_the_bound() -> None:
    codec = Codec(Chain((ClipL2(bound=0.5), Weigh(cap=100))), SPEC)
    rng = np.random.default_rng(1)
    rows, examples = rng.standard_normal((10, SIZE)) * 0.01, np.full(10, 100)
    before = mean_of(rows, examples, codec)
    rows[3], examples[3] = 900.0, 10**12
    after = mean_of(rows, examples, codec)
    assert before is not None
    assert after is not None
    moved = np.linalg.norm((after - before).astype(np.float64))
    assert moved <= (0.5 + 0.03) * 100 / 1000
    assert moved > 0.4 * 100 / 1000  # it is clipped, not dropped


def test_a_sum_without_weight_has_no_mean() -> None:
    assert mean_of(np.zeros((2, SIZE)), np.array([0, 0]), weighed()) is None
    assert WeightedMean().finish(np.array([*[1.0] * SIZE, -3.0]), weighed().sent) is None
    assert WeightedMean().finish(np.array([*[1.0] * SIZE, np.nan]), weighed().sent) is None


def test_partial_sums_of_different_lengths_do_not_merge() -> None:
    a, b = (Partial(np.zeros(size, np.int64), 1) for size in (3, 4))
    with pytest.raises(LocalProtocolError) as caught:
        WeightedMean().merge(a, b)
    assert caught.value.code == "T503"


def test_a_sum_knows_how_many_updates_it_holds_and_leaves_its_parts_alone() -> None:
    grid, rule = Grid.for_sum(weighed().sent, 10), WeightedMean()
    rows = np.ones((3, SIZE + 1), np.float32)
    a, b = rule.lift(rows, grid), rule.lift(rows[:1], grid)
    kept = a.total.copy()
    both = rule.merge(a, b)
    assert (a.clients, b.clients, both.clients, rule.empty(grid).clients) == (3, 1, 4, 0)
    assert np.array_equal(a.total, kept)
    assert grid.to_float(both.total).tolist() == [4.0] * (SIZE + 1)


@pytest.mark.parametrize("size", [SIZE, SIZE + 2])
def test_an_encoded_row_of_another_length_is_refused(size: int) -> None:
    grid = Grid.for_sum(weighed().sent, 10)
    with pytest.raises(RemoteProtocolError) as caught:
        WeightedMean().lift(np.zeros((1, size), np.float32), grid)
    assert caught.value.code == "T501"


@pytest.mark.parametrize("claimed", [101.0, -101.0, np.nan, np.inf])
def test_a_weight_beyond_the_cap_is_refused_by_the_server_too(claimed: float) -> None:
    grid = Grid.for_sum(weighed(cap=100).sent, 10)
    row = np.zeros((1, SIZE + 1), np.float32)
    row[0, -1] = claimed
    with pytest.raises(RemoteProtocolError) as caught:
        WeightedMean().lift(row, grid)
    assert caught.value.code == "T502"
