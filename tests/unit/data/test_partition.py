"""Laws that hold for every partitioner, and what each promises beyond them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import ConfigError, DataError
from tacit.core.part import decode, encode, parts
from tacit.data import IID, Dirichlet, Natural, Partitioner, QuantitySkew, Shards, Table
from tacit.data.partition import Assignment, at_least, cut, dirichlet

PARTITIONERS: list[Partitioner] = [
    IID(),
    Dirichlet(alpha=0.3),
    Dirichlet(alpha=1e-9),
    Dirichlet(alpha=1e17),
    Dirichlet(alpha=0.5, min_examples=0),
    Shards(classes_per_client=1),
    Shards(),
    QuantitySkew(alpha=0.2),
    QuantitySkew(alpha=1e-9, min_examples=0),
    Natural(),
]
partitioners = st.sampled_from(PARTITIONERS)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    rows, labels, sites = draw(st.integers(40, 200)), draw(st.integers(1, 12)), draw(st.integers(10, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    site = np.concatenate([np.arange(sites), rng.integers(sites, size=rows - sites)])  # no site is empty
    return Table((np.arange(rows)[:, None],), rng.integers(labels, size=rows), {"site": site})


def same(a: Assignment, b: Assignment) -> bool:
    return (
        list(a.ids) == list(b.ids)
        and np.array_equal(a.order, b.order)
        and np.array_equal(a.offsets, b.offsets)
    )


@given(by=partitioners, table=tables(), clients=st.integers(1, 10), seed=st.integers(0, 2**40))
def test_a_row_goes_to_exactly_one_client(by: Partitioner, table: Table, clients: int, seed: int) -> None:
    dealt = by.assign(table, clients, seed)
    assert len(dealt.ids) == len(set(dealt.ids)) == clients
    assert dealt.offsets[0] == 0
    assert dealt.offsets[-1] == len(dealt.order)
    assert (dealt.sizes >= getattr(by, "min_examples", 1)).all()
    assert len(np.unique(dealt.order)) == len(dealt.order)
    if not by.stratified:  # natural groups beyond the largest `clients` belong to nobody
        assert np.array_equal(np.sort(dealt.order), np.arange(len(table)))


@given(by=partitioners, table=tables(), clients=st.integers(1, 10), seed=st.integers(0, 2**40))
def test_the_assignment_follows_from_the_seed_alone(
    by: Partitioner, table: Table, clients: int, seed: int
) -> None:
    first = by.assign(table, clients, seed)
    by.assign(table, 7, seed + 1)
    assert same(by.assign(table, clients, seed), first)


@pytest.mark.parametrize("by", [by for by in PARTITIONERS if not by.stratified], ids=repr)
def test_another_seed_deals_otherwise(by: Partitioner, table: Table) -> None:
    assert not same(by.assign(table, 10, 0), by.assign(table, 10, 1))


@pytest.mark.parametrize("by", PARTITIONERS, ids=repr)
def test_a_partitioner_survives_its_file(by: Partitioner) -> None:
    assert decode(Partitioner, encode(by)) == by


def test_every_registered_partitioner_is_under_these_laws() -> None:
    assert {"iid", "dirichlet", "shards", "quantity_skew", "natural"} <= set(parts(Partitioner))
    here = {type(by) for by in PARTITIONERS}
    assert {kind for kind in parts(Partitioner).values() if kind.__module__.startswith("tacit.")} == here


@pytest.mark.parametrize("by", PARTITIONERS, ids=repr)
def test_one_client_holds_everything(by: Partitioner, table: Table) -> None:
    assert by.assign(table, 1, 0).sizes.tolist() == [50 if by.stratified else 100]


def test_iid_sizes_differ_by_at_most_one(table: Table) -> None:
    assert set(IID().assign(table, 7, 0).sizes) == {14, 15}


def test_a_small_alpha_gives_clients_few_labels_and_a_large_one_all(table: Table) -> None:
    def labels_held(alpha: float) -> float:
        dealt = Dirichlet(alpha=alpha).assign(table, 5, 0)
        return float(np.mean([len(set(table.target[dealt.rows(client)])) for client in range(5)]))

    assert labels_held(0.01) < 4
    assert labels_held(1000) == 10


def test_dirichlet_shares_have_the_variance_of_the_law() -> None:
    # Var of one share of Dir(alpha) over n is (1/n)(1 - 1/n) / (n alpha + 1).
    draws = np.stack([dirichlet(0.5, 10, np.random.default_rng(seed)) for seed in range(4000)])
    assert draws.var() == pytest.approx(0.1 * 0.9 / (10 * 0.5 + 1), rel=0.05)


def test_a_least_size_that_only_equal_shares_meet_is_met(table: Table) -> None:
    assert set(Dirichlet(alpha=0.01, min_examples=10).assign(table, 10, 0).sizes) == {10}
    assert set(QuantitySkew(alpha=0.01, min_examples=10).assign(table, 10, 0).sizes) == {10}


def test_who_has_most_gives_to_who_has_too_little() -> None:
    owners = np.array([0] * 6 + [1] * 3)
    assert np.bincount(at_least(owners, 4, 2), minlength=4).tolist() == [2, 3, 2, 2]
    assert at_least(owners, 2, 3) is owners


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=30), st.integers(0, 10_000))
def test_cutting_loses_no_row(weights: list[float], total: int) -> None:
    shares = np.array(weights) / np.sum(weights)
    counts = cut(shares, total)
    assert counts.sum() == total
    assert (counts >= 0).all()
    assert (np.abs(counts - shares * total) < len(weights) + 1).all()


def test_two_shards_of_sorted_labels_hold_two_labels(table: Table) -> None:
    dealt = Shards().assign(table, 5, 3)
    assert dealt.sizes.tolist() == [20] * 5
    assert all(len(set(table.target[dealt.rows(client)])) == 2 for client in range(5))


def test_quantity_skew_makes_some_clients_large(table: Table) -> None:
    assert QuantitySkew(alpha=0.1).assign(table, 10, 0).sizes.max() > 30


def test_natural_takes_the_largest_groups_in_the_order_of_their_names(table: Table) -> None:
    assert list(Natural().assign(table, None, 0).ids) == ["aarau", "basel", "zurich"]
    largest = Natural().assign(table, 2, 0)
    assert list(largest.ids) == ["basel", "zurich"]
    assert largest.rows(1).tolist() == list(range(50, 80))
    assert list(Natural(min_examples=21).assign(table, None, 0).ids) == ["basel", "zurich"]


def test_groups_that_are_numbers_become_text() -> None:
    table = Table((np.zeros((4, 1)),), np.zeros(4), {"sender": np.array([10, 9, 9, 10])})
    assert list(Natural().assign(table, None, 0).ids) == ["9", "10"]


@pytest.mark.parametrize("by", [IID(), Dirichlet(alpha=1), Shards(), QuantitySkew(alpha=1)], ids=repr)
def test_the_number_of_clients_has_to_be_said(by: Partitioner, table: Table) -> None:
    with pytest.raises(ConfigError, match=r"T212.*how many clients"):
        by.assign(table, None, 0)


@pytest.mark.parametrize("by", [IID(), Dirichlet(alpha=1), Shards(), QuantitySkew(alpha=1)], ids=repr)
def test_too_few_examples_are_refused(by: Partitioner, table: Table) -> None:
    with pytest.raises(DataError, match="T209"):
        by.assign(table, 101, 0)


@pytest.mark.parametrize(
    "target", [np.linspace(0, 1, 100), np.zeros((100, 5), int)], ids=["numbers", "sequences"]
)
def test_label_skew_needs_labels(target: np.ndarray) -> None:
    table = Table((np.zeros((100, 1)),), target)
    for by in (Dirichlet(alpha=1), Shards()):
        with pytest.raises(DataError, match="T210"):
            by.assign(table, 5, 0)


def test_an_unknown_natural_column_is_named_with_its_nearest_match(table: Table) -> None:
    with pytest.raises(DataError, match=r"T211.*did you mean 'site'"):
        Natural(column="sites").assign(table, None, 0)
    with pytest.raises(DataError, match=r"T211.*no natural groups"):
        Natural().assign(Table(table.inputs, table.target), None, 0)
    with pytest.raises(DataError, match=r"T209.*4 clients are wanted"):
        Natural().assign(table, 4, 0)
    with pytest.raises(DataError, match="T209"):
        Natural(min_examples=1000).assign(table, None, 0)
