"""Addressed randomness."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tacit.core.randomness import Address, generator, seed64

words = st.lists(st.one_of(st.integers(-(2**70), 2**70), st.text(max_size=5)), max_size=4).map(tuple)


def test_the_stream_of_an_address_never_changes() -> None:
    # A change of these values changes every run that anybody ever recorded: release notes, at least.
    drawn = generator(0, 3, "client", "ann").integers(0, 2**32, 4)
    assert drawn.tolist() == [2370848386, 1394263167, 2627611967, 1810587826]
    assert generator(7).random() == 0.33189142227556967
    assert seed64(0, "model") == 6309705300830757250
    assert seed64(1, 5, "client", "bob", "torch") == 1841906852656771274


@given(a=words, b=words)
def test_different_addresses_have_different_streams(a: tuple[Address, ...], b: tuple[Address, ...]) -> None:
    same = generator(0, *a).integers(0, 2**63) == generator(0, *b).integers(0, 2**63)
    assert same == (a == b)
    assert (seed64(0, *a) == seed64(0, *b)) == (a == b)


@pytest.mark.parametrize(
    ("a", "b"),
    [(("ab", "c"), ("a", "bc")), ((1, 2), (12,)), ((1,), ("1",)), (("a",), ("a", "")), (("1:a",), (1, "a"))],
)
def test_words_do_not_run_into_each_other(a: tuple[Address, ...], b: tuple[Address, ...]) -> None:
    assert seed64(0, *a) != seed64(0, *b)


def test_the_seed_is_no_part_of_the_address() -> None:
    assert seed64(1, 2) != seed64(2, 1)
    assert seed64(12) != seed64(1, 2)


def test_numbers_and_names_of_numpy_are_the_same_address() -> None:
    assert seed64(0, np.int64(3), np.str_("ann")) == seed64(0, 3, "ann")  # type: ignore[arg-type]


def test_seeds_for_torch_fit_its_range() -> None:
    seeds = [seed64(0, i) for i in range(1000)]
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert len(set(seeds)) == 1000


def test_streams_of_neighbouring_addresses_are_independent() -> None:
    first = np.array([generator(0, i, "client").standard_normal() for i in range(4000)])
    second = np.array([generator(0, i, "world").standard_normal() for i in range(4000)])
    assert stats.kstest(first, "norm").pvalue > 0.01
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.05
