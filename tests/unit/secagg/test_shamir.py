"""Shares of a secret: what enough of them give, what fewer do not, and who lied."""

import math
import os
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.secagg.shamir import MOST_POSITIONS, PRIME, Recovery, combine, read_share, recover, split

SECRET = bytes(range(16))
SECRETS = st.binary(min_size=16, max_size=16)


def is_secret(value: bytes) -> bool:
    return value == SECRET


def other(share: bytes, by: int = 1) -> bytes:
    return ((read_share(share) + by) % PRIME).to_bytes(17, "big")


def solve(shares: dict[int, bytes]) -> list[int]:
    """Return the polynomial through the shares by eliminating in Vandermonde's system: an independent way."""
    size = len(shares)
    rows = [
        [pow(i + 1, power, PRIME) for power in range(size)] + [int.from_bytes(share, "big")]
        for i, share in shares.items()
    ]
    for column in range(size):
        pivot = next(row for row in range(column, size) if rows[row][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        inverse = pow(rows[column][column], PRIME - 2, PRIME)
        rows[column] = [value * inverse % PRIME for value in rows[column]]
        for row in range(size):
            if row != column:
                factor = rows[row][column]
                rows[row] = [(a - factor * b) % PRIME for a, b in zip(rows[row], rows[column], strict=True)]
    return [row[-1] for row in rows]


@st.composite
def dealings(draw: st.DrawFn) -> tuple[bytes, int, list[int]]:
    positions = draw(st.lists(st.integers(0, MOST_POSITIONS - 1), min_size=1, max_size=12, unique=True))
    return draw(SECRETS), draw(st.integers(1, len(positions))), positions


def test_the_field_is_one_and_holds_every_secret() -> None:
    # Lucas: what has the order PRIME - 1 has it for a prime only. The last factor was shown prime with sympy.
    factors = (2, 23, 32_985_101, 897_064_739_519_922_787_230_182_993_783)
    assert math.prod(factors) == PRIME - 1
    assert any(all(pow(x, (PRIME - 1) // q, PRIME) != 1 for q in factors) for x in range(2, 20))
    assert 2**128 < PRIME < 2**136


@given(dealing=dealings(), data=st.data())
def test_any_threshold_of_shares_gives_the_secret(
    dealing: tuple[bytes, int, list[int]], data: st.DataObject
) -> None:
    secret, threshold, positions = dealing
    shares = split(secret, threshold, positions)
    assert set(shares) == set(positions)
    chosen = data.draw(st.permutations(positions))[:threshold]
    assert combine({i: shares[i] for i in chosen}, threshold) == secret


@given(dealing=dealings())
def test_shares_lie_on_one_polynomial_with_the_secret_at_zero(dealing: tuple[bytes, int, list[int]]) -> None:
    secret, threshold, positions = dealing
    shares = split(secret, threshold, positions)
    polynomial = solve(shares)
    assert polynomial[0] == int.from_bytes(secret, "big")
    assert not any(polynomial[threshold:])


@given(secret=SECRETS, threshold=st.integers(2, 10))
def test_one_share_too_few_fits_every_secret(secret: bytes, threshold: int) -> None:
    shares = split(SECRET, threshold, range(threshold))
    del shares[0]
    # The polynomial that another secret would need exists, and is as likely as the one that was drawn ...
    polynomial = solve({-1: b"\0" + secret, **shares})
    assert polynomial[0] == int.from_bytes(secret, "big")
    # ... and taking the rest as if they were enough gives something else (three times in four: no secret).
    with suppress(RemoteProtocolError):
        assert combine(shares, threshold - 1) != SECRET


def test_every_coefficient_is_drawn_afresh_for_every_secret() -> None:
    one, two = (solve(split(SECRET, 20, range(20))) for _ in range(2))
    assert len({*one[1:], *two[1:]}) == 38
    assert not {0, 1, int.from_bytes(SECRET, "big")} & {*one[1:], *two[1:]}


def test_a_share_is_uniform_over_the_whole_field() -> None:
    counts = [0] * 16
    for _ in range(3200):
        share = split(SECRET, 2, [0, 1])[0]
        counts[read_share(share) * 16 // PRIME] += 1
    # Chi-square with 15 degrees of freedom is above 60 once in two million runs.
    assert sum((count - 200) ** 2 / 200 for count in counts) < 60


def test_shares_beyond_the_first_are_not_looked_at() -> None:
    shares = split(SECRET, 3, range(5)) | {4: b"no share"}
    assert combine(shares, 3) == SECRET


@pytest.mark.parametrize(
    "share",
    [b"", bytes(16), bytes(18), PRIME.to_bytes(17, "big"), (PRIME + 5).to_bytes(17, "big"), b"\xff" * 17],
)
def test_what_is_no_share_is_refused(share: bytes) -> None:
    shares = split(SECRET, 3, range(3))
    with pytest.raises(RemoteProtocolError, match="T553"):
        combine(shares | {1: share}, 3)
    with pytest.raises(RemoteProtocolError, match="T553"):
        read_share(share)


def test_every_element_of_the_field_is_a_share() -> None:
    assert read_share((PRIME - 1).to_bytes(17, "big")) == PRIME - 1
    assert read_share(bytes(17)) == 0


def test_shares_that_make_no_secret_are_refused() -> None:
    # The value at 0 of the constant polynomial 2**128 has more than 16 bytes.
    share = (2**128).to_bytes(17, "big")
    with pytest.raises(RemoteProtocolError, match="do not make a secret"):
        combine({0: share, 1: share}, 2)


@pytest.mark.parametrize(
    ("secret", "threshold", "positions"),
    [
        (bytes(15), 2, [0, 1]),
        (bytes(17), 2, [0, 1]),
        (SECRET, 0, [0, 1]),
        (SECRET, 3, [0, 1]),
        (SECRET, 1, []),
        (SECRET, 2, [0, 0, 1]),
        (SECRET, 2, [0, -1]),
        (SECRET, 2, [0, MOST_POSITIONS]),
    ],
)
def test_what_cannot_be_shared_is_refused(secret: bytes, threshold: int, positions: list[int]) -> None:
    with pytest.raises(LocalProtocolError, match="T573"):
        split(secret, threshold, positions)


@pytest.mark.parametrize("threshold", [0, 3])
def test_too_few_shares_are_not_combined(threshold: int) -> None:
    with pytest.raises(LocalProtocolError, match="T573"):
        combine(split(SECRET, 2, range(2)), threshold)


def test_a_bytearray_is_shared_and_left_alone() -> None:
    secret = bytearray(SECRET)
    assert combine(split(secret, 2, range(2)), 2) == secret == SECRET


@settings(max_examples=50)
@given(data=st.data())
def test_liars_are_found_as_far_as_the_code_corrects(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 20))
    threshold = data.draw(st.integers(1, size))
    liars = data.draw(st.sets(st.integers(0, size - 1), max_size=(size - threshold) // 2))
    positions = data.draw(st.lists(st.integers(0, 500), min_size=size, max_size=size, unique=True))
    shares = split(SECRET, threshold, positions)
    wrong = {
        positions[i]: other(shares[positions[i]], by=data.draw(st.integers(1, PRIME - 1))) for i in liars
    }
    recovery = recover(shares | wrong, threshold, is_secret)
    assert recovery.secret == SECRET
    # Nobody looks for liars whose shares were not needed.
    needed = set(sorted(positions)[:threshold])
    assert set(recovery.liars) == (set(wrong) if needed & set(wrong) else set())


@pytest.mark.parametrize(("size", "threshold"), [(16, 11), (32, 22), (96, 67)])
def test_liars_are_found_at_the_sizes_of_real_neighbourhoods(size: int, threshold: int) -> None:
    shares = split(SECRET, threshold, range(size))
    liars = tuple(range(0, size, 3))[: (size - threshold) // 2]
    wrong = {i: os.urandom(1).rjust(17, b"\0") for i in liars}
    assert recover(shares | wrong, threshold, is_secret) == Recovery(SECRET, liars)


def test_liars_with_a_common_lie_are_found() -> None:
    shares, theirs = (split(secret, 6, range(14)) for secret in (SECRET, bytes(16)))
    colluding = {i: theirs[i] for i in (0, 3, 5, 13)}
    assert recover(shares | colluding, 6, is_secret) == Recovery(SECRET, (0, 3, 5, 13))


@pytest.mark.parametrize(("size", "threshold", "liars"), [(4, 3, 1), (9, 6, 3), (9, 6, 2), (68, 67, 1)])
def test_more_liars_are_found_where_leaving_some_out_is_cheap(size: int, threshold: int, liars: int) -> None:
    shares = split(SECRET, threshold, range(size))
    wrong = {i: other(shares[i], by=i + 1) for i in range(liars)}
    assert recover(shares | wrong, threshold, is_secret) == Recovery(SECRET, tuple(range(liars)))


@pytest.mark.parametrize(("size", "threshold", "liars"), [(3, 3, 1), (9, 6, 4), (40, 20, 11)])
def test_among_too_many_liars_there_is_no_secret_and_nobody_is_named(
    size: int, threshold: int, liars: int
) -> None:
    shares = split(SECRET, threshold, range(size))
    wrong = {i: other(shares[i], by=i + 1) for i in range(liars)}
    assert recover(shares | wrong, threshold, is_secret) == Recovery(None)


@pytest.mark.parametrize("size", [6, 7, 9, 20])
def test_an_owner_that_dealt_another_secret_does_not_put_the_blame_on_its_neighbours(size: int) -> None:
    shares = split(bytes(16), 6, range(size))
    assert recover(shares, 6, is_secret) == Recovery(None)


def test_what_is_no_share_is_named_and_left_out() -> None:
    shares = split(SECRET, 3, range(6)) | {0: b"", 5: PRIME.to_bytes(17, "big")}
    assert recover(shares, 3, is_secret) == Recovery(SECRET, (0, 5))
    assert recover(shares | {1: other(shares[1])}, 3, is_secret) == Recovery(SECRET, (0, 1, 5))
    assert recover({i: shares[i] for i in (0, 1, 2, 5)}, 3, is_secret) == Recovery(None, (0, 5))


@pytest.mark.parametrize("secret", [bytes(16), b"\xff" * 16])
def test_secrets_at_the_ends_are_recovered(secret: bytes) -> None:
    right: Callable[[bytes], bool] = secret.__eq__
    shares = split(secret, 4, range(8))
    assert recover(shares | {0: b"\1".rjust(17, b"\0")}, 4, right) == Recovery(secret, (0,))


def test_a_recovered_secret_is_not_printed() -> None:
    assert repr(Recovery(SECRET, (3,))) == "Recovery(secret=hidden, liars=(3,))"


def test_shares_that_are_not_needed_are_read_only_when_the_others_do_not_give_the_secret() -> None:
    shares = split(SECRET, 3, range(6)) | {4: b"no share"}
    assert recover(shares, 3, is_secret) == Recovery(SECRET)
    assert recover(shares | {1: other(shares[1])}, 3, is_secret) == Recovery(SECRET, (1, 4))
    assert recover(shares | {1: b"no share"}, 3, is_secret) == Recovery(SECRET, (1, 4))
