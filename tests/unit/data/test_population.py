"""Populations made of a mapping, their summary, and how they travel."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from tacit.core.errors import ConfigError, DataError
from tacit.core.examples import Examples
from tacit.data import Dirichlet, Population, digits
from tacit.data.ids import Named, Numbered
from tacit.data.shares import taken


def arrays(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(size * 2).reshape(size, 2).astype(np.float32), np.arange(size)


def ten() -> tuple[np.ndarray, np.ndarray]:
    return arrays(10)


def test_every_form_of_a_clients_data_gives_the_same_examples() -> None:
    x, y = arrays(3)
    dataset = TensorDataset(torch.tensor(x), torch.tensor(y))
    forms: dict[str, Any] = {
        "examples": Examples.of(x, y),
        "arrays": (x, y),
        "tensors": (torch.tensor(x), torch.tensor(y)),
        "dataset": dataset,
        "list": list(zip(x, y, strict=True)),
        "function": lambda: (x, y),
        "function of a dataset": lambda: dataset,
    }
    population = Population.of(forms)
    assert population.sizes.tolist() == [3] * len(forms)
    for index in range(len(population)):
        examples = population.train(index)
        assert np.array_equal(examples.inputs[0], x)
        assert examples.inputs[0].dtype == np.float32
        assert np.array_equal(examples.target, y)


def test_several_inputs_come_as_a_tuple() -> None:
    x, y = arrays(3)
    for data in (((x, x), y), [((a, a), b) for a, b in zip(x, y, strict=True)]):
        assert len(Population.of({"ann": data}).train(0).inputs) == 2


def test_doubles_become_single_precision() -> None:
    examples = Population.of({"ann": (np.zeros((2, 2)), np.zeros(2))}).train(0)
    assert examples.inputs[0].dtype == examples.target.dtype == np.float32


def test_nan_is_left_for_the_driver_to_see() -> None:
    assert np.isnan(Population.of({"ann": (np.full((2, 2), np.nan), np.zeros(2))}).train(0).inputs[0]).all()


def test_held_out_examples_are_the_rest() -> None:
    population = Population.of({"ann": arrays(10), "bob": arrays(1)}, holdout=0.2)
    kept = population.holdout(0)
    assert population.has_holdout
    assert kept is not None
    assert sorted([*kept.target, *population.train(0).target]) == list(range(10))
    assert population.sizes.tolist() == [8, 1]
    assert population.holdout(1) is None
    assert not Population.of({"ann": arrays(3)}).has_holdout


def test_what_is_held_out_does_not_depend_on_the_other_clients() -> None:
    alone = Population.of({"ann": arrays(10)}, holdout=0.3).train(0)
    among = Population.of({"bob": arrays(5), "ann": arrays(10)}, holdout=0.3).train(1)
    assert np.array_equal(alone.target, among.target)


def test_functions_are_not_called_when_sizes_are_said() -> None:
    def never() -> Any:
        raise AssertionError

    population = Population.of({"ann": never, "bob": arrays(5)}, sizes={"ann": 10}, holdout=0.2)
    assert population.sizes.tolist() == [8, 4]
    assert len(population) == 2


def test_sizes_that_nobody_said_are_loaded() -> None:
    calls = []

    def load() -> Any:
        calls.append(1)
        return arrays(4)

    population = Population.of({"ann": load})
    assert not calls
    assert population.sizes.tolist() == population.sizes.tolist() == [4]
    assert len(calls) == 1


def test_a_client_that_claims_more_than_it_has_is_named() -> None:
    population = Population.of({"ann": ten}, sizes={"ann": 11})
    with pytest.raises(DataError, match="T203: the client claims 11 examples but has 10") as caught:
        population.train(0)
    assert "ann" in caught.value.where


@pytest.mark.parametrize(
    "data", [np.zeros((3, 2)), {"x": 1}, "text", None, (1, 2, 3), (1, 2), lambda: lambda: 1]
)
def test_what_is_no_clients_data_is_refused(data: Any) -> None:
    with pytest.raises(DataError, match="T204"):
        Population.of({"ann": data}).train(0)


@pytest.mark.parametrize(
    "data",
    [
        [(np.zeros(2), 0), (np.zeros(3), 0)],
        [(np.zeros(2), 0), ((np.zeros(2), np.zeros(2)), 0)],
        [(np.zeros(2),)],
        [3, 4],
        (np.array([["secret"]]), np.zeros(1)),
        ([[1], [2, 3]], [0, 1]),
    ],
)
def test_ragged_examples_are_refused_without_quoting_them(data: Any) -> None:
    with pytest.raises(DataError, match="T204: the examples cannot be stacked") as caught:
        Population.of({"ann": data}).train(0)
    assert "secret" not in str(caught.value)


def test_an_error_of_the_users_own_dataset_goes_its_way() -> None:
    class Broken(Dataset[Any]):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Any:
            raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        Population.of({"ann": Broken()}).train(0)


def test_arguments_that_fit_nobody_are_refused() -> None:
    with pytest.raises(DataError, match="T202: the population is empty"):
        Population.of({})
    with pytest.raises(ConfigError, match="holdout must be"):
        Population.of({"ann": ten}, holdout=1.0)
    with pytest.raises(ConfigError, match="no clients"):
        Population.of({"ann": ten}, sizes={"bob": 3})


def test_a_client_without_data_has_empty_examples() -> None:
    population = Population.of(
        {"ann": (np.zeros((0, 2)), np.zeros(0)), "bob": [], "eve": arrays(2)}, holdout=0.2
    )
    assert population.sizes.tolist() == [0, 0, 2]
    assert len(population.train(0)) == len(population.train(1)) == 0
    assert population.holdout(0) is None
    assert "ann" in str(population.summary())


def test_clients_are_found_by_id_and_strangers_refused() -> None:
    population = Population.of({"ann": ten, "bob": ten})
    assert population.index("bob") == 1
    with pytest.raises(DataError, match="T205: there is no client 'eve'"):
        population.index("eve")
    for index in (-1, 2):
        with pytest.raises(IndexError):
            population.train(index)


def test_the_test_set_is_loaded_once_and_not_sent_along() -> None:
    calls = []

    def load() -> Any:
        calls.append(1)
        return arrays(4)

    population = Population.of({"ann": ten}, test=load)
    assert population.test is population.test
    assert len(calls) == 1
    assert "test" not in population.__getstate__()
    assert Population.of({"ann": ten}).test is None


@pytest.mark.parametrize("ids", [Numbered(1), Numbered(11), Named(np.array(["a", "b"]))])
def test_ids_are_a_sequence(ids: Numbered | Named) -> None:
    listed = list(ids)
    assert [ids.index(name) for name in listed] == list(range(len(ids)))
    assert list(ids[:2]) == listed[:2]
    assert ids[-1] == listed[-1]
    for stranger in ("client-007", "client-99", "x", ""):
        with pytest.raises(ValueError, match="no such id"):
            ids.index(stranger)
    assert list(pickle.loads(pickle.dumps(ids))) == listed


@pytest.mark.parametrize("lazily", [False, True])
def test_a_population_pickles_with_its_arrays_as_buffers(lazily: bool) -> None:
    big = np.zeros((1000, 100), np.float32), np.zeros(1000, np.int64)
    population = Population.of({"ann": ten if lazily else big})
    split = digits().split(Dirichlet(alpha=0.3), clients=50).open()
    for original in (population, split):
        buffers: list[pickle.PickleBuffer] = []
        plain = pickle.dumps(original, protocol=5, buffer_callback=buffers.append)
        again = pickle.loads(plain, buffers=buffers)
        assert len(plain) < 2500
        assert np.array_equal(again.train(0).inputs[0], original.train(0).inputs[0])
        assert again.sizes.tolist() == original.sizes.tolist()
    if not lazily:
        assert any(buffer.raw().nbytes == 400_000 for buffer in buffers) or len(buffers) > 2


def test_the_summary_counts_labels() -> None:
    people = {"ann": (np.zeros((3, 1)), np.array([0, 2, 2])), "bob": (np.zeros((1, 1)), np.array([0]))}
    summary = Population.of(people).summary()
    assert summary.labels == ("0", "2")
    assert summary.counts.tolist() == [[1, 2], [1, 0]]
    assert str(summary) == (
        "client  examples  0  2\nann            3  1  2\nbob            1  1  0\nall            4  2  2"
    )


def test_the_summary_of_measurements_gives_quantiles() -> None:
    people = {"ann": (np.zeros((5, 1)), np.linspace(0, 1, 5)), "bob": (np.zeros((0, 1)), np.zeros(0))}
    summary = Population.of(people).summary()
    assert summary.kind == "quantiles"
    assert summary.counts[0].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert np.isnan(summary.counts[1]).all()
    assert "median" in str(summary)


def test_the_summary_of_sequences_leaves_padding_out() -> None:
    people = {"ann": (np.zeros((2, 2), int), np.array([[5, 7], [6, -100]]))}
    assert Population.of(people).summary().counts[0, 0] == 5


def test_the_summary_of_a_huge_population_is_a_sample() -> None:
    population = Population.of({f"{i:04}": arrays(2) for i in range(2000)})
    summary = population.summary(clients=100)
    assert (summary.clients, summary.examples, len(summary.ids)) == (2000, 4000, 100)
    assert summary.ids[0] == "0000"
    assert summary.ids[-1] == "1999"
    assert "... 1990 more" in str(summary)


def test_a_share_is_the_nearest_whole_number_but_never_all() -> None:
    assert taken(np.arange(12), 0.2).tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2]
    assert taken(np.array([5]), 0.1).tolist() == [1]
    assert taken(np.array([1, 2]), 0.999).tolist() == [0, 1]
