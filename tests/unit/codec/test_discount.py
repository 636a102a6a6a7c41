"""What is stale counts for less, its weight along with it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.codec import AdaptiveClip, Chain, ClipL2, Codec, Discount, OnGrid, Weigh
from tacit.core.errors import ConfigError, PlanError
from tacit.core.layout import Rows
from tacit.core.spec import UpdateSpec
from tacit.core.stage import StageContext
from tacit.core.staleness import staleness_weight
from tacit.privacy import LocalNoise

SPEC = UpdateSpec.of(parameters=4, metrics=1)
EXAMPLES = (7, 300, 20)


def encoded(chain: Chain, rows: Rows, staleness: int, examples: tuple[int, ...] = EXAMPLES) -> Rows:
    clients = tuple(f"c{i}" for i in range(len(rows)))
    ctx = StageContext(SPEC, 0, 1, clients, np.array(examples[: len(rows)]), staleness=staleness)
    return Codec(chain, SPEC).encode(rows.copy(), {}, ctx)[0]


def drawn(clients: int = 3) -> Rows:
    return np.random.default_rng(5).normal(size=(clients, SPEC.size)).astype(np.float32)


def test_the_weight_is_that_of_the_papers() -> None:
    assert staleness_weight(0, 0.5) == 1.0
    assert staleness_weight(8, 0.5) == pytest.approx(1 / 3)  # FedBuff: 1 / sqrt(1 + staleness)
    assert staleness_weight(4, 1.0) == pytest.approx(0.2)
    assert staleness_weight(1000, 0.0) == 1.0


@pytest.mark.parametrize(
    ("staleness", "exponent"), [(-1, 0.5), (1, -0.5), (1, float("nan")), (1, float("inf"))]
)
def test_no_update_counts_for_more_because_it_is_old(staleness: int, exponent: float) -> None:
    with pytest.raises(ValueError, match="no weight"):
        staleness_weight(staleness, exponent)


def test_the_whole_row_is_multiplied_and_the_weight_lane_with_it() -> None:
    rows = drawn()
    fresh, stale = (encoded(Chain((Weigh(), Discount())), rows, staleness) for staleness in (0, 3))
    assert np.array_equal(stale, fresh * np.float32(0.5))
    assert stale[:, -1].tolist() == [3.5, 150.0, 10.0]


def test_a_fresh_update_keeps_every_bit() -> None:
    rows = drawn()
    with_it, without = (encoded(Chain(stages), rows, 0) for stages in ((Weigh(), Discount()), (Weigh(),)))
    assert with_it.tobytes() == without.tobytes()


def test_a_mean_of_stale_and_fresh_updates_is_the_mean_with_those_weights() -> None:
    rows, staleness = drawn(), (0, 3, 8)
    chain = Chain((Weigh(), Discount(exponent=0.5)))
    sent = [encoded(chain, rows[i : i + 1], staleness[i], EXAMPLES[i : i + 1])[0] for i in range(3)]
    total = np.stack(sent).astype(np.float64).sum(axis=0)
    weights = np.array([n * (1 + s) ** -0.5 for n, s in zip(EXAMPLES, staleness, strict=True)])
    assert np.allclose(total[:-1] / total[-1], weights @ rows / weights.sum(), rtol=1e-6)


@given(
    staleness=st.integers(0, 10**6),
    exponent=st.floats(0, 8),
    scale=st.sampled_from([1e-42, 1e-20, 1.0, 1e10]),
    seed=st.integers(0, 999),
)
def test_what_is_declared_behind_a_clip_still_holds(
    staleness: int, exponent: float, scale: float, seed: int
) -> None:
    rows = (np.random.default_rng(seed).normal(size=(3, SPEC.size)) * scale).astype(np.float32)
    rows[:, -1] = 1.0
    chain = Chain((ClipL2(bound=1.0), Weigh(cap=50), Discount(exponent=exponent)))
    sent, declared = encoded(chain, rows, staleness), chain.plan(SPEC)
    undiscounted = encoded(Chain(chain.stages[:2]), rows, staleness)
    assert (np.abs(sent) <= np.abs(undiscounted)).all()
    norms = np.linalg.norm(sent[:, :4].astype(np.float64), axis=1)
    assert norms.max() <= (declared.segment("parameters").l2_bound or 0)
    assert (sent[:, -1] >= 0).all()


def test_the_rounding_to_the_grid_comes_after_it() -> None:
    steps = {"parameters": 2.0**-10, "metrics": 2.0**-10, "weight": 2.0**-10}
    sent = encoded(Chain((ClipL2(bound=1.0), Weigh(), Discount(), OnGrid(steps=steps))), drawn(), 2)
    assert np.array_equal(sent * 1024, np.round(sent * 1024))


def test_the_bit_that_the_clipping_bound_follows_is_not_faded() -> None:
    with pytest.raises(PlanError) as caught:
        Chain((AdaptiveClip(initial=1.0), Discount())).plan(UpdateSpec.of(parameters=4))
    assert caught.value.code == "T153"


def test_a_row_that_noise_has_hidden_is_not_made_zero_behind_it() -> None:
    rows = drawn()
    rows[1, 0] = np.nan
    noise = LocalNoise(scale=1.0, randomness="seeded")
    sent = encoded(Chain((ClipL2(bound=1.0), noise, Discount())), rows, 3)
    rows[1] = 0.0
    assert sent[1].any()
    assert np.array_equal(sent, encoded(Chain((ClipL2(bound=1.0), noise, Discount())), rows, 3))


def test_the_exponent_is_not_negative() -> None:
    with pytest.raises(ConfigError):
        Discount(exponent=-0.1)
