"""Mechanisms as settings: one value in Python and in a file."""

from typing import get_type_hints

import pytest

from tacit.core.errors import ConfigError
from tacit.core.part import decode, encode, parts
from tacit.privacy.mechanisms import BandedInverse, BandedSquareRoot, Gaussian, Laplace, Mechanism

MECHANISMS = [
    Gaussian(),
    Laplace(),
    BandedInverse(),
    BandedInverse(bands=64),
    BandedSquareRoot(),
    BandedSquareRoot(bands=8),
]


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=repr)
def test_a_mechanism_reads_back_as_it_was_written(mechanism: Mechanism) -> None:
    assert decode(Mechanism, encode(mechanism)) == mechanism
    assert isinstance(mechanism, Mechanism)


def test_every_mechanism_is_found_by_its_name() -> None:
    known = parts(Mechanism)
    assert {"gaussian", "laplace", "banded_inverse", "banded_square_root"} <= set(known)
    for tag, kind in known.items():
        assert kind.name == tag
        assert isinstance(kind.is_correlated, bool)
    assert "name" in get_type_hints(Mechanism)


@pytest.mark.parametrize("bands", [0, -1, 2.5, "many"])
@pytest.mark.parametrize("kind", [BandedInverse, BandedSquareRoot])
def test_bands_are_a_whole_number_from_one_on(kind: type, bands: object) -> None:
    with pytest.raises(ConfigError):
        kind(bands=bands)


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=repr)
def test_what_is_kept_is_enough_for_every_step(mechanism: Mechanism) -> None:
    for step in (0, 1, 5, 100):
        weights = mechanism.weights(step, min_separation=10)
        assert weights[0] == 1.0
        assert len(weights) <= step + 1
        assert mechanism.kept_vectors(10) > 0 or len(weights) <= mechanism.kept_keys(10)
