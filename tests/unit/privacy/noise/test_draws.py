"""Standard draws: against a plain oracle, in the tails, in all sizes."""

import math
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tacit.privacy.noise import draws
from tacit.privacy.noise.draws import (
    BLOCK,
    LARGEST_LAPLACE,
    LARGEST_NORMAL,
    LaplaceStream,
    NormalStream,
    Scratch,
    standard_laplace,
    standard_normals,
    uniforms,
)
from tacit.privacy.noise.keystream import Keystream, derive

KEY = bytes(range(32))
LONG = [-0.8282269096901164, 1.4559621008143369, -0.7838952292678354, -2.3508068127701023, 0.5037020310639905]
int64 = st.integers(-(2**63), 2**63 - 1)


class Fixed(Keystream):
    """A keystream whose words are given."""

    def __init__(self, words: list[int]) -> None:
        self._left = words

    def fill(self, words: np.ndarray) -> None:
        words[:], self._left = self._left[: len(words)], self._left[len(words) :]


def normals_of(words: list[int], more: list[int] | None = None, scale: float = 1.0) -> list[float]:
    out = np.empty(len(words))
    with patch.object(draws, "Keystream", side_effect=[Fixed(words), Fixed(more or [])]):
        NormalStream(KEY).fill(out, scale, Scratch(len(words)))
    return out.tolist()


def plain_pair(first: int, second: int) -> tuple[float, float]:
    radius = math.sqrt(-2 * (math.log(abs(first)) - 63 * math.log(2))) if abs(first) != 2**63 else 0.0
    angle = second * math.pi * 2.0**-63
    return radius * math.cos(angle), radius * math.sin(angle)


@given(first=int64.filter(lambda k: 2**32 <= abs(k) <= 0.99 * 2**63), second=int64)
def test_two_words_make_a_pair_of_normals_as_box_and_muller_say(first: int, second: int) -> None:
    np.testing.assert_allclose(normals_of([first, second]), plain_pair(first, second), rtol=0, atol=1e-13)


@given(first=int64, second=int64, more=int64, scale=st.floats(1e-3, 2.0**60))
def test_no_draw_is_beyond_the_largest_or_without_a_value(
    first: int, second: int, more: int, scale: float
) -> None:
    pair = normals_of([first, second], [more], scale)
    assert all(abs(x) <= LARGEST_NORMAL * scale for x in pair)  # false for NaN


@pytest.mark.parametrize("first", [0, -1, 1, -(2**63), 2**63 - 1, 2**32 - 1, 2**32, -(2**32)])
@pytest.mark.parametrize("second", [0, -1, -(2**63), 2**63 - 1, 2**61, 2**62])
@pytest.mark.parametrize("more", [-(2**63), 0, 2**63 - 1])
def test_the_words_at_the_edges_have_finite_draws(first: int, second: int, more: int) -> None:
    pair = normals_of([first, second], [more])
    assert np.isfinite(pair).all()
    if abs(first) > 2**33:  # no further bits there
        radius = math.hypot(*plain_pair(first, second))
        assert math.hypot(*pair) == pytest.approx(radius, abs=1e-7)


def test_the_smallest_uniform_lies_13_deviations_out_and_64_bits_alone_reach_9() -> None:
    smallest = normals_of([0, 0], [-(2**63)])
    assert smallest[0] == pytest.approx(math.sqrt(2 * 128 * math.log(2)))
    assert 13.3 < smallest[0] < LARGEST_NORMAL
    usual = normals_of([0, 0], [0])  # its further bits say one half
    assert usual[0] == pytest.approx(math.sqrt(2 * 64 * math.log(2)))
    assert usual[0] > 9.4


@given(first=st.integers(-(2**32) + 1, 2**32 - 1), more=int64)
def test_small_words_get_further_bits(first: int, more: int) -> None:
    exact = abs(first + (more + 2**63 + 0.5) / 2**64) * 2.0**-63 if abs(first) > 1 else None
    found = uniforms(np.array([first]), np.array([more]))[0]
    assert 0 < found <= 2.0**-31
    if exact is not None:
        assert found == pytest.approx(exact, rel=1e-15)
        assert normals_of([first, 0], [more])[0] == pytest.approx(math.sqrt(-2 * math.log(exact)))


def test_the_radius_far_out_is_as_fine_as_the_grid_of_release() -> None:
    # Neighbouring 64-bit words of that size differ by a thousand steps of 2^-20: further bits fill the gap.
    words, more = [2] * 1000, np.linspace(-(2**63), 2**63 - 1025, 1000).astype(np.int64).tolist()
    radii = np.array(normals_of([*words, *[0] * 1000], more)[:1000])
    assert radii.min() > 9
    assert radii.max() - radii.min() > 1000 * 2.0**-20
    assert np.all(np.diff(radii) < 0)


def test_only_small_words_draw_further_bits_and_each_its_own() -> None:
    words = [5, 2**40, -3, 2**33, 0, 0, 0, 0]
    found = normals_of(words, [2**62, -(2**62), 99])
    expected = uniforms(np.array([5, -3]), np.array([2**62, -(2**62)]))
    assert found[0] == pytest.approx(math.sqrt(-2 * math.log(expected[0])))
    assert found[2] == pytest.approx(math.sqrt(-2 * math.log(expected[1])))


def test_further_bits_come_from_a_stream_of_their_own() -> None:
    words, more = [5, -7, 3, 0, 0, 0], np.empty(3, dtype=np.int64)
    with patch.object(draws, "Keystream", side_effect=lambda k: Fixed(words) if k == KEY else Keystream(k)):
        found = standard_normals(KEY, 6)
    Keystream(derive(KEY, "tail")).fill(more)
    np.testing.assert_allclose(found[:3], np.sqrt(-2 * np.log(uniforms(np.array(words[:3]), more))))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
@pytest.mark.parametrize("draw", [standard_normals, standard_laplace])
def test_any_number_of_draws_follows_from_the_key(draw: object, size: int) -> None:
    first, again = draw(KEY, size), draw(KEY, size)  # type: ignore[operator]
    assert first.shape == (size,)
    assert first.dtype == np.float64
    assert np.array_equal(first, again)
    assert len(np.unique(first)) == size
    assert size < 2 or not np.array_equal(first, draw(bytes(32), size))  # type: ignore[operator]


def test_the_draws_of_a_key_never_change() -> None:
    # A change of these values makes past noise of running jobs impossible to draw again.
    np.testing.assert_allclose(
        standard_normals(KEY, 4),
        [0.4541241071396773, -0.34834366403938366, 1.0506193051359392, 0.5694742408254663],
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        standard_laplace(KEY, 4),
        [-0.6550148145048662, -0.2228221096200621, 0.9938940016486937, 0.39342247491035354],
        rtol=1e-12,
    )
    long = standard_normals(KEY, BLOCK + 5)[[0, 7, BLOCK - 1, BLOCK, BLOCK + 4]]
    np.testing.assert_allclose(long, LONG, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 0.7, 2.0**40])
@pytest.mark.parametrize("kind", [NormalStream, LaplaceStream])
def test_a_scale_multiplies_every_draw(kind: type, scale: float) -> None:
    one, many = np.empty(998), np.empty(998)
    kind(KEY).fill(one, 1.0, Scratch(998))
    kind(KEY).fill(many, scale, Scratch(998))
    np.testing.assert_allclose(many, scale * one, rtol=1e-12)


@given(first=int64, low=int64)
def test_a_laplace_draw_is_the_logarithm_of_a_uniform_with_its_sign(first: int, low: int) -> None:
    out = np.empty(2)
    with patch.object(draws, "Keystream", return_value=Fixed([first, 1, low, 1])):
        LaplaceStream(KEY).fill(out, 1.0, Scratch(2))
    exact = ((first << 65) + ((low + 2**63) << 1) + 1) / 2**128  # in (-1, 1), never zero
    assert abs(out[0]) <= LARGEST_LAPLACE
    if abs(exact) > 2.0**-60:
        # NumPy's logarithm of a number between 0 and 1 is negative; the coin turns it around.
        assert abs(out[0]) == pytest.approx(-math.log(abs(exact)), rel=1e-12, abs=1e-15)
        assert out[0] * exact >= 0


def test_the_tails_are_as_heavy_as_they_should_be() -> None:
    normal, laplace = np.abs(standard_normals(KEY, 4_000_000)), np.abs(standard_laplace(KEY, 4_000_000))
    for limit in (2.0, 3.0, 4.0, 4.5):
        beyond = int((normal > limit).sum())
        assert stats.binomtest(beyond, normal.size, 2 * stats.norm.sf(limit)).pvalue > 1e-6
    for limit in (1.0, 5.0, 10.0, 12.0):
        beyond = int((laplace > limit).sum())
        assert stats.binomtest(beyond, laplace.size, math.exp(-limit)).pvalue > 1e-6
    assert normal.max() > 4.8
    assert laplace.max() > 13


def test_the_angle_is_uniform_over_the_whole_circle_and_apart_from_the_radius() -> None:
    drawn = standard_normals(KEY, 2 * BLOCK)[:BLOCK].reshape(2, -1)  # the two halves of a block are pairs
    angle, radius = np.arctan2(drawn[1], drawn[0]), np.hypot(*drawn)
    assert stats.kstest(angle, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-6
    assert stats.kstest(radius, stats.rayleigh.cdf).pvalue > 1e-6
    assert stats.spearmanr(np.abs(angle), radius).pvalue > 1e-6
