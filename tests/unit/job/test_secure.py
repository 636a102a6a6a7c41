"""What a job with secure aggregation is compiled to, what it claims, and what it is refused for."""

import math
import re
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tacit
from tacit.aggregate import WeightedMean
from tacit.codec import AdaptiveClip, Chain, ClipL2, OnGrid, Weigh, Withhold
from tacit.core.errors import PlanError, RemoteProtocolError
from tacit.core.layout import Layout
from tacit.core.randomness import generator
from tacit.core.rule import Grid, Sees
from tacit.core.stage import StageContext
from tacit.job import Plan, SecurePlan, make_plan
from tacit.job.private import sampling_facts
from tacit.job.secure import secure_plan
from tacit.job.secure_lanes import WIDE_BITS, Lanes
from tacit.privacy.noise import check_lanes, lanes_of
from tacit.round.release import Release, keys_of
from tacit.secagg.messages import Advert, Roster, VectorHead, encode
from tacit.secagg.parameters import find_parameters
from tacit.training.executor import update_spec
from tests.rounds import worlds

CLIENTS = 40


def plan(
    size: int = 500, clients: int = CLIENTS, secure: dict[str, Any] | None = None, **settings: Any
) -> Plan:
    asked = tacit.SecureAggregation(**({"min_cohort": 5} | (secure or {})))
    known: dict[str, Any] = {
        "cohort": tacit.FixedSize(20),
        "clipping_bound": 1.0,
        "secure_aggregation": asked,
    }
    if "privacy" in settings:
        known["clipping_bound"] = None
    job = worlds.job(**(known | settings))
    return make_plan(job, Layout.of(parameters={"w": (size,)}), np.full(clients, 12))


def secure(**settings: Any) -> SecurePlan:
    made = plan(**settings).secure
    assert made is not None
    return made


def refused(**settings: Any) -> PlanError:
    with pytest.raises(PlanError) as caught:
        plan(**settings)
    return caught.value


def private(**settings: Any) -> tacit.Privacy:
    known = {
        "unit": "user",
        "delta": 1e-4,
        "randomness": "seeded",
        "clipping": tacit.FixedClipping(bound=1.0),
    }
    if "epsilon" not in settings:
        known["noise_multiplier"] = 2.0
    return tacit.Privacy(**(known | settings))  # type: ignore[arg-type]


def sent_by(made: Plan, rows: np.ndarray, bound: float | None = None) -> np.ndarray:
    """Return what clients send whose training gives these rows."""
    ids = tuple(f"c{i}" for i in range(len(rows)))
    ctx = StageContext(
        made.codec.spec, 0, 1, ids, np.full(len(rows), 12), is_bounded=False, clipping_bound=bound
    )
    return made.codec.encode(rows.astype(np.float32), {}, ctx)[0]


# --- the grid and the ring ---------------------------------------------------------------------


def test_the_last_stage_rounds_to_the_grid_on_which_sums_are_taken() -> None:
    made = plan(weighting=Weigh(cap=9))
    assert made.secure is not None
    *before, last = made.codec.chain.stages
    assert before == [ClipL2(bound=1.0), Weigh(cap=9)]
    assert last == made.secure.stage
    assert isinstance(last, OnGrid)
    assert [lane.step for lane in made.grid.lanes] == list(last.steps.values())
    assert made.grid == made.secure.grid
    assert [lane.bits for lane in made.secure.ring.lanes] == [32, WIDE_BITS, WIDE_BITS]
    assert made.secure.ring.size == made.codec.sent.size == made.grid.size
    assert plan(secure_aggregation=None).secure is None


@given(
    bits=st.integers(12, 63),
    group=st.integers(5, 300),
    bound=st.floats(1e-6, 1e6),
    cap=st.integers(1, 1000),
)
def test_the_largest_group_at_its_bounds_fits_the_lanes(
    bits: int, group: int, bound: float, cap: int
) -> None:
    spec = Chain((ClipL2(bound=bound), Weigh(cap=cap))).plan(update_spec(Layout.of(parameters={"w": (500,)})))
    _, grid, ring = Lanes(spec, group, Grid.for_sum(spec, group)).with_bits(bits)
    for lane, where in zip(ring.lanes, grid.lanes, strict=True):
        assert int(where.largest / where.step) * group <= 2 ** (lane.bits - 1) - 1
        assert lane.bits in (bits, WIDE_BITS)


@pytest.mark.parametrize("lane_bits", [16, 21, 32, 40])
def test_packed_rows_at_their_bounds_add_up_to_the_same_sum_as_rows_in_the_clear(lane_bits: int) -> None:
    made = plan(secure={"lane_bits": lane_bits}, weighting=Weigh(cap=9))
    assert made.secure is not None
    rows = np.random.default_rng(0).standard_normal((20, 501)) / 10
    rows[3, :500], rows[4, :500], rows[5, 7] = 0.0, 0.0, 900.0
    rows[3, 0], rows[4, 0] = 1.0, -1.0
    sent = sent_by(made, rows)
    words = np.zeros(made.secure.ring.words, np.uint64)
    for row in sent:
        words += made.secure.ring.pack(made.secure.integers(row))
    clear = made.rule.lift(sent, made.grid).total
    assert np.array_equal(made.secure.ring.unpack(words), clear)
    assert np.array_equal(clear, np.sum([made.secure.integers(row) for row in sent], axis=0))


def test_a_row_beyond_its_bound_is_no_summand() -> None:
    made = plan()
    assert made.secure is not None
    row = sent_by(made, np.zeros((1, 501)))[0]
    row[3] = made.grid.lanes[0].largest * 1.001
    with pytest.raises(RemoteProtocolError, match="T502"):
        made.secure.integers(row)


def test_the_grid_holds_the_sum_of_all_groups_and_follows_from_nobodys_data() -> None:
    made = plan(clients=5000, cohort=tacit.All(), secure={"group": 50})
    assert made.secure is not None
    assert made.secure.groups == 100
    for lane in made.grid.lanes:
        assert lane.largest / lane.step * 5000 < 2**62.1
    asked = made.job
    other = make_plan(asked, Layout.of(parameters={"w": (500,)}), np.arange(1, 5001))
    assert other.grid == made.grid


def test_a_segment_that_only_a_coarse_limit_bounds_gets_wide_lanes() -> None:
    layout = Layout.of(parameters={"w": (500,)}, buffers={"mean": (90,)})
    asked = tacit.SecureAggregation(min_cohort=5)
    job = worlds.job(cohort=tacit.FixedSize(20), clipping_bound=1.0, secure_aggregation=asked)
    made = make_plan(job, layout, np.full(CLIENTS, 12)).secure
    assert made is not None
    assert [(lane.size, lane.bits) for lane in made.ring.lanes] == [(500, 32), (90, 52), (1, 52), (1, 52)]


# --- groups, terms and costs -------------------------------------------------------------------


def test_groups_and_parameters_follow_from_the_largest_cohort_there_can_be() -> None:
    made = secure(clients=3000, cohort=tacit.Poisson(rate=0.2), secure={"group": 100})
    assert made.clients == 600 + math.ceil(10 * math.sqrt(600)) + 30
    assert (made.group, made.groups) == (100, 9)
    assert made.parameters == find_parameters(100, made.threat)
    assert secure(cohort=tacit.FixedSize(20)).group == 20
    over = secure(cohort=tacit.FixedSize(20, over_selection=1.2), secure={"dropout": 0.2})
    assert over.group == 24  # all who are invited are in it


def test_terms_say_what_was_planned() -> None:
    made = secure(secure={"corrupt": 0.2, "mode": "semi_honest", "post_quantum": True})
    terms = made.terms(3, bytes(32), 1, 4, b"k" * 32, base_round=2)
    assert (terms.job, terms.round, terms.base_round, terms.group, terms.groups) == ("small", 3, 2, 1, 4)
    assert (terms.mode, terms.corrupt, terms.dropout, terms.min_cohort) == ("semi_honest", 0.2, 0.1, 5)
    assert terms.post_quantum
    assert terms.lanes == ((500, 32), (1, 52), (1, 52))
    assert made.terms(3, bytes(32), 1, 4, b"k" * 32).base_round == 3
    assert terms.assignment_id != made.terms(3, b"m" * 32, 1, 4, b"k" * 32, base_round=2).assignment_id


@pytest.mark.parametrize(
    "other",
    [
        {"clipping_bound": 1.001},
        {"weighting": Weigh(cap=99)},
        {"secure": {"lane_bits": 31}},
        {"cohort": tacit.FixedSize(39)},  # another grid
        {"size": 501},
        {"privacy": private()},
    ],
)
def test_whatever_turns_an_update_into_lanes_is_in_the_digest(other: dict[str, Any]) -> None:
    assert secure(**other).settings_sha256 != secure().settings_sha256
    assert secure(seed=9).settings_sha256 == secure().settings_sha256


def test_stages_that_declare_the_same_are_told_apart_by_the_digest() -> None:
    by_one, uniform = (plan(weighting=weigh) for weigh in (Weigh(cap=1), Weigh(by="uniform")))
    assert by_one.codec.sent == uniform.codec.sent
    assert by_one.secure is not None
    assert uniform.secure is not None
    assert by_one.secure.settings_sha256 != uniform.secure.settings_sha256


def test_bytes_are_those_of_the_messages() -> None:
    made = secure(size=100_000, secure={"mode": "semi_honest"})
    assert made.costs.messages == 7
    advert = Advert(bytes(32), "c0", bytes(32), bytes(32), b"", bytes(16))
    members = tuple((f"c{i:02}", bytes(16), bytes(32)) for i in range(20))
    roster = Roster(bytes(32), members, 19, made.parameters.threshold, (advert,) * 19)
    down = len(encode(roster))
    assert down < made.costs.bytes_down < down + 20 * 200
    vector = 8 * made.ring.words
    assert vector == 8 * (50_000 + 2)
    small = len(encode(advert)) + len(encode(VectorHead(bytes(32), 0, 1)))
    assert vector + small < made.costs.bytes_up < vector + small + 20 * 200 + 1000


def test_costs_grow_with_neighbours_signatures_and_post_quantum_keys() -> None:
    semi, lying = (secure(secure={"mode": mode}).costs for mode in ("semi_honest", "malicious"))
    assert lying.messages == 9
    assert lying.bytes_up > semi.bytes_up
    assert lying.client_s > semi.client_s
    quantum = secure(secure={"post_quantum": True}).costs
    assert quantum.bytes_up > lying.bytes_up + 19 * 1000
    many = secure(clients=500, cohort=tacit.All())
    assert many.costs.bytes_down > lying.bytes_down
    assert many.as_dict()["server_s_per_round"] == pytest.approx(3 * many.costs.server_s)


def test_a_plan_counts_the_bytes_of_the_secure_sum() -> None:
    plain, made = plan(secure_aggregation=None), plan()
    assert made.secure is not None
    assert made.bytes_up_per_client == made.secure.costs.bytes_up
    assert made.bytes_down_per_client == plain.bytes_down_per_client + made.secure.costs.bytes_down
    assert made.as_dict()["secure_aggregation"]["threshold"] == made.secure.parameters.threshold
    assert "secure_aggregation" not in plain.as_dict()


# --- when a round counts -----------------------------------------------------------------------


def test_no_round_commits_with_fewer_than_a_sum_may_hold() -> None:
    made = plan(secure={"min_cohort": 15})
    assert made.run_settings().policy.least(20) == 15
    assert plan().run_settings().policy.least(20) == 10  # half of them, as ever
    assert plan(quorum=0.9).run_settings().policy.least(20) == 18


# --- what is claimed ---------------------------------------------------------------------------


def test_without_privacy_the_sums_are_all_that_is_protected() -> None:
    assert (
        plan().privacy
        == "not private: no differential privacy; the server sees sums of at least 5 clients only"
    )
    assert "no secure aggregation" in plan(secure_aggregation=None).privacy


def test_a_secret_sample_is_not_claimed_as_fellow_clients_see_who_takes_part() -> None:
    poisson = {"cohort": tacit.Poisson(rate=0.5), "privacy": private(epsilon=8.0)}
    alone, summed = plan(**poisson, secure_aggregation=None), plan(**poisson)
    assert alone.private is not None
    assert summed.private is not None
    assert alone.private.is_amplified
    assert not summed.private.is_amplified
    assert summed.private.adjacency == "zero_out"
    assert summed.private.noise_multiplier > alone.private.noise_multiplier
    assert summed.run_settings().policy.quorum > 0
    asked = private(epsilon=8.0, adjacency="add_remove")
    assert refused(cohort=tacit.Poisson(rate=0.5), privacy=asked).code == "T162"


def test_whether_rounds_are_given_up_or_not_no_sample_is_secret() -> None:
    job = plan(cohort=tacit.Poisson(rate=0.5), privacy=private(epsilon=8.0)).job
    facts = sampling_facts(job, CLIENTS)
    assert facts.has_quorum
    assert "abandoned" in replace(facts, is_participation_public=False).reveals()
    assert "shown to others" in replace(facts, has_quorum=False).reveals()
    assert not replace(facts, has_quorum=False, is_participation_public=False).reveals()


def test_the_statement_says_who_sees_sums_and_who_is_held_off_by_epsilon() -> None:
    made = plan(privacy=private(epsilon=8.0))
    assert made.guarantee is not None
    assert made.guarantee.least_sum == 5
    assert "the server is trusted with sums of at least 5 clients" in str(made.guarantee)
    assert not any("updates on their way" in what for what in made.guarantee.not_covered)
    assert any("sums of at least 5 clients, without noise" in what for what in made.guarantee.not_covered)
    assert "the server sees sums of at least 5" in made.privacy


# --- noise is measured against what is sent, after rounding ------------------------------------

COARSE_FIXED = {
    "size": 10_000,
    "secure": {"lane_bits": 12},
    "privacy": private(noise_multiplier=40.0),
}
COARSE_ADAPTIVE = {
    "size": 100,
    "secure": {"lane_bits": 28},
    "privacy": private(noise_multiplier=40.0, clipping=tacit.AdaptiveClipping(initial=1.0)),
}


@pytest.mark.parametrize("settings", [COARSE_FIXED, COARSE_ADAPTIVE], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("bound", [1.0, 0.6])
def test_one_client_moves_the_sum_by_at_most_the_bound_that_noise_is_scaled_by(
    settings: dict[str, Any], bound: float
) -> None:
    made = plan(**settings)
    assert made.private is not None
    release = Release(made.private, made.codec, made.grid, keys_of(made.private, 0))
    is_adaptive = made.private.privacy.clipping.is_adaptive
    state = replace(release.first(), clipping_bound=bound if is_adaptive else None)
    allowed = release.noise_std(state) / made.private.update_noise_multiplier
    rng, size = np.random.default_rng(0), made.parameters
    rows = rng.standard_normal((12, size + 1))
    rows[:4] *= 1e-3 / math.sqrt(size)
    rows[4:8, :] *= bound * (1 - 1e-7) / np.linalg.norm(rows[4:8, :-1], axis=1)[:, None]
    rows[8, 1:], rows[9, 0], rows[10] = 0.0, 700.0, np.full(size + 1, 0.999 * bound / math.sqrt(size))
    sent = sent_by(made, rows, state.clipping_bound)[:, made.codec.sent.slice("parameters")]
    norms = np.linalg.norm(sent.astype(np.float64), axis=1)
    assert norms.max() > 0.5 * bound  # the test would mean nothing otherwise
    assert (norms <= allowed * (1 + 1e-12)).all()


def test_noise_follows_the_bound_after_rounding() -> None:
    made = plan(**COARSE_FIXED)
    assert made.private is not None
    release = Release(made.private, made.codec, made.grid, keys_of(made.private, 0))
    added = made.grid.lanes[0].step * math.sqrt(10_000)
    assert release.noise_std(release.first()) == pytest.approx(40.0 * (1.0 + added))
    assert made.codec.sent.l2_bound == pytest.approx(1.0 + added)


@pytest.mark.parametrize("clipping", [tacit.FixedClipping(bound=0.3), tacit.AdaptiveClipping(initial=0.1)])
@pytest.mark.parametrize("lane_bits", [32, 40, 63])
def test_a_grid_that_was_planned_suits_its_noise(clipping: Any, lane_bits: int) -> None:
    made = plan(secure={"lane_bits": lane_bits}, privacy=private(clipping=clipping))
    assert made.private is not None
    release = Release(made.private, made.codec, made.grid, keys_of(made.private, 0))
    scale = release.noise_std(release.first())
    bits = made.private.bit_noise or 0.0
    scales = [bits if name == "within_bound" else scale for name in made.codec.sent.names]
    check_lanes(lanes_of(made.grid, scales), 12.0)


@pytest.mark.parametrize(
    "clipping",
    [tacit.FixedClipping(bound=1.0), tacit.AdaptiveClipping(initial=1.0)],
    ids=["fixed", "adaptive"],
)
def test_lanes_too_narrow_for_the_noise_are_refused_with_the_width_that_does(clipping: Any) -> None:
    asked = private(clipping=clipping, noise_multiplier=0.5)
    error = refused(privacy=asked, secure={"lane_bits": 12})
    assert (error.code, error.where) == ("T189", "$.secure_aggregation.lane_bits")
    (enough,) = re.findall(r"lane_bits to at least (\d+)", error.fix)
    assert plan(privacy=asked, secure={"lane_bits": int(enough)}).private is not None
    assert refused(privacy=asked, secure={"lane_bits": int(enough) - 1}).code == "T189"


def test_a_moving_bound_that_rounding_would_eat_up_is_refused_though_the_noise_has_room() -> None:
    asked = private(clipping=tacit.AdaptiveClipping(initial=1.0), noise_multiplier=1000.0)
    error = refused(size=100_000, privacy=asked, secure={"lane_bits": 22})
    (enough,) = re.findall(r"lane_bits to at least (\d+)", error.fix)
    made = secure(size=100_000, privacy=asked, secure={"lane_bits": int(enough)})
    assert made.stage.steps["parameters"] * math.sqrt(100_000) <= 0.25


def test_a_clip_that_cannot_fall_far_is_warned_of() -> None:
    asked = private(clipping=tacit.AdaptiveClipping(initial=1.0))
    narrow, wide = (secure(privacy=asked, secure={"lane_bits": bits}).warnings for bits in (32, 48))
    assert any("cannot fall below" in warning for warning in narrow)
    assert wide == ()


def test_what_a_client_sends_with_privacy_is_clipped_rounded_parameters_alone() -> None:
    made = plan(privacy=private(clipping=tacit.AdaptiveClipping()))
    assert [type(stage) for stage in made.codec.chain.stages] == [Withhold, AdaptiveClip, OnGrid]
    assert made.codec.sent.names == ("parameters", "within_bound")


def test_clients_that_add_all_noise_themselves_may_be_summed_securely_too() -> None:
    made = plan(privacy=private(trust="local"))
    rows = np.zeros((3, 501))
    rows[1] = np.nan
    sent = sent_by(made, rows)
    assert (np.count_nonzero(sent, axis=1) > 400).all()
    assert made.rule.lift(sent, made.grid).clients == 3


def test_sites_that_protect_records_may_bound_what_they_add() -> None:
    asked = tacit.Privacy(unit="record", epsilon=8.0, delta=1e-3, clipping=tacit.FixedClipping(bound=1.0))
    made = plan(privacy=asked, clipping_bound=1.0)
    assert made.sites is not None
    assert [type(stage) for stage in made.codec.chain.stages] == [ClipL2, Weigh, OnGrid]
    assert refused(privacy=asked).code == "T188"
    assert refused(privacy=asked, clipping_bound=1.0, secure_aggregation=None).code == "T176"
    assert refused(privacy=private(), clipping_bound=1.0).code == "T176"


# --- what is refused ---------------------------------------------------------------------------


def test_what_nothing_bounds_is_refused() -> None:
    error = refused(clipping_bound=None)
    assert error.code == "T188"
    assert "clipping_bound" in error.fix


def test_rounding_that_would_drown_the_mean_is_refused_and_what_is_noticeable_is_told() -> None:
    assert refused(secure={"lane_bits": 8}, size=100_000).code == "T189"
    assert refused(secure={"lane_bits": 16}, size=100_000, weighting=Weigh(cap=10_000)).code == "T189"
    fine = secure(size=100_000, weighting=Weigh(cap=100))
    assert fine.rounding < 1e-3
    assert fine.warnings == ()
    coarse = secure(secure={"lane_bits": 16}, size=100_000, weighting=Weigh(cap=100))
    assert 0.1 < coarse.rounding < 1.0
    assert any("rounding" in warning for warning in coarse.warnings)


def test_the_rounding_that_is_told_is_the_rounding_there_is() -> None:
    made = plan(size=20_000, secure={"lane_bits": 14}, weighting=Weigh(by="uniform"))
    assert made.secure is not None
    rows = np.random.default_rng(1).standard_normal((20, 20_001)) / 1000
    sent = sent_by(made, rows.copy())[:, :20_000].astype(np.float64)
    error = np.linalg.norm((sent - rows[:, :20_000].astype(np.float32)).mean(axis=0))
    assert error == pytest.approx(made.secure.rounding, rel=0.1)


def test_lanes_that_cannot_count_the_group_are_refused() -> None:
    error = refused(clients=200, cohort=tacit.All(), secure={"lane_bits": 8})
    assert error.code == "T189"
    assert "9 bits" in error.fix


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"cohort": tacit.FixedSize(4)}, "$.secure_aggregation.min_cohort"),
        ({"cohort": tacit.Poisson(rate=0.1)}, "$.secure_aggregation.min_cohort"),
        ({"clients": 9, "cohort": tacit.All(), "secure": {"group": 8}}, "$.secure_aggregation.min_cohort"),
        ({"quorum": 0.2}, "$.quorum"),
        ({"quorum": 0.0}, "$.quorum"),
    ],
)
def test_cohorts_and_quorums_below_the_least_sum_are_refused(settings: dict[str, Any], where: str) -> None:
    error = refused(**settings)
    assert (error.code, error.where) == ("T191", where)


def test_two_clients_are_no_group() -> None:
    settings = {"clients": 2, "cohort": tacit.All(), "secure": {"min_cohort": 3}}
    assert refused(**settings).code == "T191"
    assert secure(**(settings | {"clients": 3})).parameters.clients == 3


def test_dropouts_that_leave_too_few_are_warned_of() -> None:
    lost = secure(cohort=tacit.FixedSize(10), secure={"min_cohort": 10})
    assert any("rounds are lost" in warning for warning in lost.warnings)


def test_over_selection_counts_as_dropout() -> None:
    error = refused(cohort=tacit.FixedSize(20, over_selection=1.5))
    assert error.code == "T193"
    (needed,) = re.findall(r"at least (0\.\d+)", error.fix)
    assert secure(cohort=tacit.FixedSize(20, over_selection=1.5), secure={"dropout": float(needed)})


def test_noise_that_rounding_would_undermine_or_nobody_can_add_is_refused() -> None:
    assert refused(privacy=private(mechanism=tacit.Laplace())).code == "T194"
    error = refused(privacy=private(trust="distributed"))
    assert error.code == "T163"
    assert "without noise" in error.what


class _Median(WeightedMean, frozen=True, tag="test_median"):
    """A rule that looks at single updates."""

    sees: ClassVar[Sees] = "individuals"


def test_a_rule_that_sees_individuals_is_refused() -> None:
    made = plan()
    layout = Layout.of(parameters={"w": (500,)})
    chain = Chain(made.codec.chain.stages[:-1])
    with pytest.raises(PlanError) as caught:
        secure_plan(made.job, update_spec(layout), chain, _Median(), np.full(CLIENTS, 12), None)
    assert caught.value.code == "T192"


# --- rows on the grid in one round -------------------------------------------------------------


def test_groups_summed_apart_and_together_give_the_same_mean_to_the_bit() -> None:
    made = plan(weighting=Weigh(cap=50))
    rows = generator(0, "rows").standard_normal((20, 501)) / 30
    sent = sent_by(made, rows)
    together = made.rule.lift(sent, made.grid)
    apart = made.rule.merge(made.rule.lift(sent[13:], made.grid), made.rule.lift(sent[:13], made.grid))
    one_by_one = made.rule.empty(made.grid)
    for row in sent[::-1]:
        one_by_one = made.rule.merge(made.rule.lift(row[None], made.grid), one_by_one)
    assert np.array_equal(together.total, apart.total)
    assert np.array_equal(together.total, one_by_one.total)
