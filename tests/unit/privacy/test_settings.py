"""The settings of privacy: closed, typed, and never silently without noise."""

import pytest

from tacit.core.errors import ConfigError
from tacit.core.part import decode, encode, parts
from tacit.privacy import AdaptiveClipping, Clipping, FixedClipping, Privacy, SegmentClipping
from tacit.privacy.mechanisms import BandedInverse, Gaussian


@pytest.mark.parametrize(
    "privacy",
    [
        Privacy(unit="user", epsilon=2.0, delta=1e-5),
        Privacy(unit="record", noise_multiplier=1.1, delta=1e-5, clipping=FixedClipping(bound=0.5)),
        Privacy(
            unit="user",
            trust="local",
            epsilon=8,
            delta=1e-5,
            adjacency="replace_one",
            clipping=SegmentClipping(bounds={"parameters": 1, "control": 2.5}),
            mechanism=BandedInverse(bands=4),
            min_separation=10,
            randomness="seeded",
            allow_large_delta=True,
        ),
    ],
)
def test_settings_read_from_a_file_are_those_that_were_written(privacy: Privacy) -> None:
    assert decode(Privacy, encode(privacy)) == privacy


def test_the_defaults_are_the_servers_noise_and_a_clip_that_nobody_has_to_choose() -> None:
    privacy = Privacy(unit="user", epsilon=2.0, delta=1e-5)
    assert (privacy.trust, privacy.clipping, privacy.mechanism) == ("central", AdaptiveClipping(), Gaussian())
    assert (privacy.adjacency, privacy.randomness) == (None, "system")


@pytest.mark.parametrize("given", [{}, {"epsilon": 1.0, "noise_multiplier": 1.0}])
def test_exactly_one_of_epsilon_and_noise_is_given(given: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as caught:
        Privacy(unit="user", delta=1e-5, **given)  # type: ignore[arg-type]
    assert caught.value.code == "T160"
    with pytest.raises(ConfigError) as caught:
        decode(Privacy, {"unit": "user", "delta": 1e-5, **given}, root="$.privacy")
    assert (caught.value.code, caught.value.where) == ("T160", "$.privacy")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("unit", "patient"),
        ("trust", "nobody"),
        ("adjacency", "swap"),
        ("epsilon", 0),
        ("epsilon", float("inf")),
        ("delta", 0),
        ("delta", 1),
        ("min_separation", 0),
        ("clipping", {"type": "fixed_clipping", "bound": 0}),
        ("clipping", {"type": "segment_clipping", "bounds": {}}),
        ("clipping", {"type": "segment_clipping", "bounds": {"parameters": -1}}),
        ("clipping", {"type": "adaptive_clipping", "quantile": 1}),
        ("clipping", {"type": "adaptive_clipping", "bit_noise": 0}),
        ("randomness", "none"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_its_place(name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(Privacy, {"unit": "user", "epsilon": 1.0, "delta": 1e-5, name: value}, root="$.privacy")
    assert caught.value.code == "T103"
    assert caught.value.where.startswith(f"$.privacy.{name}")


def test_a_unit_and_a_delta_must_be_written() -> None:
    for missing in ("unit", "delta"):
        plain = {"unit": "user", "epsilon": 1.0, "delta": 1e-5}
        del plain[missing]
        with pytest.raises(ConfigError, match=missing):
            decode(Privacy, plain)


def test_bounds_of_segments_add_up_to_the_root_of_their_squares() -> None:
    assert SegmentClipping(bounds={"a": 2.0, "b": 3.0, "c": 6.0}).first_bound == pytest.approx(7.0)
    assert FixedClipping(bound=0.3).first_bound == 0.3
    assert AdaptiveClipping(initial=0.1).first_bound == 0.1


def test_the_kinds_of_clipping_are_found_by_their_tags() -> None:
    assert set(parts(Clipping)) >= {"fixed_clipping", "adaptive_clipping", "segment_clipping"}  # type: ignore[type-abstract]
