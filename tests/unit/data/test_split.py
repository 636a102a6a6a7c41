"""From settings to a population: test rows, held-out rows, scaling."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import ConfigError, DataError
from tacit.core.examples import Array, Examples
from tacit.core.part import decode, encode
from tacit.data import IID, Dirichlet, Natural, Population, Shards, Split, Table, breast_cancer, digits
from tacit.data.files import RemoteFile
from tacit.data.scaling import Scaler


class Given:
    """A source that holds its table."""

    files: tuple[RemoteFile, ...] = ()

    def __init__(self, table: Table) -> None:
        self.table = table

    def load(self, folder: Path) -> Table:
        return self.table


def rows_of(examples: Examples | None) -> list[int]:
    return [] if examples is None else examples.inputs[0][:, 0].astype(int).tolist()


def everything(population: Population) -> list[int]:
    held = [rows_of(population.train(i)) + rows_of(population.holdout(i)) for i in range(len(population))]
    return sorted(sum(held, rows_of(population.test)))


@given(
    by=st.sampled_from([IID(), Dirichlet(alpha=0.2), Shards(), Natural()]),
    clients=st.integers(1, 3),
    test=st.floats(0, 0.6),
    holdout=st.floats(0, 0.99),
    seed=st.integers(-5, 2**40),
)
def test_training_held_out_and_test_rows_are_all_rows_once(
    by: IID, clients: int, test: float, holdout: float, seed: int
) -> None:
    rows = np.arange(60)
    table = Table((rows[:, None].astype(np.float32),), rows % 4, {"site": rows % 3})
    population = Split(
        source=Given(table), by=by, clients=clients, test=test, holdout=holdout, seed=seed
    ).open()
    expected = [row for row in range(60) if clients == 3 or not by.stratified or row % 3 < clients]
    assert everything(population) == expected
    sizes = [len(population.train(index)) for index in range(clients)]
    assert population.sizes.tolist() == sizes
    assert min(sizes) >= 1


def test_a_split_is_the_same_every_time_and_another_with_another_seed() -> None:
    def rows(seed: int) -> list[list[float]]:
        population = digits().split(Dirichlet(alpha=0.3), clients=10, seed=seed).open()
        return [population.train(i).inputs[0].sum(axis=1).tolist() for i in (3, 1)]

    assert rows(0) == rows(0) != rows(1)


def test_a_split_survives_its_file() -> None:
    split = digits().split(Dirichlet(alpha=0.3), clients=100, scaling="global")
    written = {
        "source": {"type": "digits"},
        "by": {"type": "dirichlet", "alpha": 0.3},
        "clients": 100,
        "scaling": "global",
    }
    assert decode(Split, written) == split
    assert decode(Split, encode(split)) == split


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"source": {"type": "digit"}}, "did you mean `digits`"),
        ({"source": {"type": "digits"}, "klients": 1}, "did you mean `clients`"),
        ({"source": {"type": "digits"}, "by": {"type": "dirichlet", "alpha": -1}}, r"\$\.by\.alpha"),
        ({"source": {"type": "digits"}, "by": {"type": "digits"}}, "Unknown partitioner `digits`"),
        ({"source": {"type": "digits"}, "holdout": 1.0}, r"\$\.holdout"),
        ({"source": {"type": "digits"}, "scaling": "locally"}, r"\$\.scaling"),
        ({"source": {"type": "sms", "min_messages": 1}}, "min_messages"),
    ],
)
def test_a_wrong_setting_is_explained(written: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decode(Split, written)


def test_without_a_partitioner_natural_groups_are_taken_where_there_are_some(table: Table) -> None:
    assert len(Split(source=Given(table)).open()) == 3
    assert len(digits().split(clients=4).open()) == 4


def test_the_official_test_set_is_used_unless_a_share_is_given(table: Table) -> None:
    official = Table((np.full((7, 1), -1.0, np.float32),), np.zeros(7, int))
    source = Given(replace(table, test=official))
    standard = Split(source=source, by=IID(), clients=2)
    assert rows_of(standard.open().test) == [-1] * 7
    assert standard.open().sizes.sum() == 80
    assert len(rows_of(Split(source=source, by=IID(), clients=2, test=0.5).open().test)) == 50
    assert Split(source=source, by=IID(), clients=2, test=0.0).open().test is None


def test_test_rows_are_taken_within_natural_groups(table: Table) -> None:
    test = rows_of(Split(source=Given(table), test=0.1).open().test)
    assert [sum(a <= row < b for row in test) for a, b in ((0, 50), (50, 80), (80, 100))] == [5, 3, 2]


def test_global_scaling_centres_the_training_rows_of_all_clients_together() -> None:
    population = breast_cancer().split(Dirichlet(alpha=0.5), clients=5, scaling="global").open()
    train = np.concatenate([population.train(i).inputs[0] for i in range(5)])
    assert np.abs(train.mean(axis=0)).max() < 1e-5
    assert train.std(axis=0) == pytest.approx(1, abs=1e-5)
    assert train.dtype == np.float32
    assert population.test is not None
    assert 0 < np.abs(population.test.inputs[0].mean(axis=0)).max() < 0.5


def test_client_scaling_centres_each_client_and_its_own_test_rows(table: Table) -> None:
    plain, scaled = (
        Split(source=Given(table), scaling=scaling, test=0.5, holdout=0.2).open()
        for scaling in ("none", "client")
    )
    assert plain.test is not None
    assert scaled.test is not None
    for index, (first, last) in enumerate(((80, 100), (0, 50), (50, 80))):
        train = plain.train(index).inputs[0]
        assert scaled.train(index).inputs[0] == pytest.approx((train - train.mean()) / train.std(), abs=1e-5)
        raw = plain.test.inputs[0]
        own = (first <= raw[:, 0]) & (raw[:, 0] < last)
        expected = (raw[own] - train.mean()) / train.std()
        assert scaled.test.inputs[0][own] == pytest.approx(expected, abs=1e-5)


def test_client_scaling_scales_a_test_set_that_is_nobodys_globally(table: Table) -> None:
    population = Split(source=Given(table), by=IID(), clients=4, scaling="client").open()
    other = Split(source=Given(table), by=IID(), clients=4, scaling="global").open()
    assert population.test is not None
    assert other.test is not None
    assert np.array_equal(population.test.inputs[0], other.test.inputs[0])


def test_constant_features_become_zero_and_nan_spoils_nothing() -> None:
    x = np.array([[1, 0.1, np.nan], [3, 0.1, 5], [5, 0.1, 7]], np.float32)
    scaled = Scaler.of([(x[:1],), (x[1:],)]).apply(Examples.of(x, np.zeros(3))).inputs[0]
    assert scaled[:, 0] == pytest.approx([-1.2247449, 0, 1.2247449])
    assert (scaled[:, 1] == 0).all()
    assert np.isnan(scaled[0, 2])
    assert scaled[1:, 2] == pytest.approx([-1, 1])


@given(st.integers(1, 30), st.integers(1, 7))
def test_measuring_in_chunks_is_measuring_at_once(rows: int, chunk: int) -> None:
    x = np.random.default_rng(rows).normal(5, 3, (rows, 2))
    pieces = Scaler.of((x[i : i + chunk],) for i in range(0, rows, chunk))
    assert pieces.means[0] == pytest.approx(x.mean(axis=0))
    assert pieces.factors[0] == pytest.approx(1 / x.std(axis=0) if rows > 1 else 0)


def test_tokens_cannot_be_scaled() -> None:
    table = Table((np.zeros((9, 3), np.int64),), np.zeros(9, int))
    with pytest.raises(DataError, match=r"T213.*int64"):
        Split(source=Given(table), by=IID(), clients=2, scaling="global").open()


def halved(inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple((array / 2).astype(np.float32) for array in inputs)


def test_the_transform_is_applied_when_a_client_loads(table: Table) -> None:
    population = Split(source=Given(replace(table, transform=halved)), by=IID(), clients=1, test=0.5).open()
    assert population.train(0).inputs[0].max() <= 49.5
    assert population.test is not None
    assert population.test.inputs[0].max() <= 49.5


def test_a_source_without_examples_is_refused() -> None:
    with pytest.raises(DataError, match="T202"):
        Split(source=Given(Table((np.zeros((0, 1)),), np.zeros(0))), by=IID(), clients=1).open()
    with pytest.raises(DataError, match="T201"):
        Table((np.zeros((2, 1)),), np.zeros(3))


def test_clients_without_data_are_allowed_when_asked_for() -> None:
    population = digits().split(Dirichlet(alpha=0.01, min_examples=0), clients=200).open()
    empty = int(np.flatnonzero(population.sizes == 0)[0])
    assert len(population.train(empty)) == 0
    assert population.train(empty).inputs[0].shape == (0, 64)
    assert population.holdout(empty) is None


def test_a_hundred_thousand_clients_open_and_load_one_by_one() -> None:
    rng = np.random.default_rng(0)
    table = Table((rng.normal(size=(1_000_000, 4)).astype(np.float32),), rng.integers(0, 10, 1_000_000))
    population = Split(source=Given(table), by=Dirichlet(alpha=0.1), clients=100_000).open()
    for index in range(0, 100_000, 100):
        population.train(index)
    assert population.sizes.min() >= 1
