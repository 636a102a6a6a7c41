"""Share a secret among a client's neighbours so that only ``threshold`` of them can put it together.

Shamir, How to share a secret, CACM 1979: the secret is the value at 0 of a random polynomial of degree
``threshold - 1`` over the field of ``PRIME`` elements, and the member at position ``i`` of its group's roster
holds the value at ``i + 1``. Fewer than ``threshold`` shares say nothing: every secret fits them equally.

What this leaks: Python's integers are not constant in time. No branch and no index of `split` and `combine`
depends on a secret (`recover` is the server's, about secrets it may know), but the time of a product depends
on how many digits (of 30 bits) its operands have, and integers cannot be overwritten after use. Who can time
single operations in this process or read its memory is not kept out.
"""

import math
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from operator import mul
from typing import NamedTuple

from tacit.core.errors import LocalProtocolError, RemoteProtocolError

PRIME = 2**130 - 5
"""Order of the field: above every secret of 16 bytes."""
SECRET_BYTES = 16
SHARE_BYTES = 17
MOST_POSITIONS = 2**16
"""Members a group can have."""

_MOST_SUBSETS = 256  # of shares that are tried one by one: well under a second

Polynomial = list[int]
"""Coefficients, that of the constant first, without zeros at the end."""


class Recovery(NamedTuple):
    """What some shares came to.

    Attributes:
        secret: The right secret; None if these shares do not lead to one.
        liars: Positions whose share is none, or does not lie on the secret's polynomial. Either this member
            sent another share than it got, or the secret's owner dealt it a bad one: shares cannot tell.
    """

    secret: bytes | None
    liars: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"Recovery(secret={'hidden' if self.secret is not None else None}, liars={self.liars})"


def split(secret: bytes | bytearray, threshold: int, positions: Sequence[int]) -> dict[int, bytes]:
    """Return a share of ``secret`` for each position; any ``threshold`` of them give it back.

    >>> shares = split(bytes(range(16)), 2, [0, 3, 7])
    >>> combine({3: shares[3], 7: shares[7]}, 2) == bytes(range(16))
    True
    """
    if len(secret) != SECRET_BYTES:
        raise LocalProtocolError("T573", f"a secret to share has {SECRET_BYTES} bytes, not {len(secret)}")
    _check_positions(positions)
    if not 1 <= threshold <= len(positions):
        raise LocalProtocolError("T573", f"{len(positions)} shares cannot have the threshold {threshold}")
    # Highest power first, which may be zero: if it never were, a share too few would rule one secret out.
    polynomial = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    polynomial.append(int.from_bytes(secret, "big"))
    return {i: _value(polynomial, i + 1).to_bytes(SHARE_BYTES, "big") for i in positions}


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the secret that the shares at the first ``threshold`` positions make.

    Shares of a wrong secret, or a wrong share among them, give another secret or none: compare it with what
    its owner committed to (`recover` does).

    Raises:
        RemoteProtocolError: T553, one of these is no share, or together they do not make a secret.
    """
    positions = _first(shares, threshold)
    secret = _secret(_at_zero(positions, _read_all([shares[i] for i in positions])))
    if secret is None:
        raise RemoteProtocolError("T553", "the shares do not make a secret")
    return secret


def recover(shares: Mapping[int, bytes], threshold: int, is_right: Callable[[bytes], bool]) -> Recovery:
    """Return the secret that ``is_right``, and who sent a share that does not belong to it.

    The plain combination is tried first, and when it is right nobody looks for liars among shares that were
    not needed: they are not even read. Otherwise ``m`` shares are decoded as the Reed-Solomon code they are,
    which corrects ``(m - threshold) // 2`` of them; and where leaving out the few shares above the threshold
    in every possible way is cheap, that finds the secret among more liars.

    Args:
        is_right: Whether a secret is the one its owner committed to.
    """
    plain = _plain(shares, threshold)
    if plain is not None and is_right(plain):
        return Recovery(plain)
    values = {i: value for i in sorted(shares) if (value := _read(shares[i])) is not None}
    none = tuple(i for i in sorted(shares) if i not in values)
    if len(values) < max(threshold, 1):
        return Recovery(None, none)
    positions = tuple(values)
    _check_positions(positions)
    plain = _secret(_at_zero(positions[:threshold], list(values.values())[:threshold]))
    if plain is not None and is_right(plain):
        return Recovery(plain, none)
    if len(values) == threshold:
        return Recovery(None, none)
    secret, liars = _decode(values, threshold, is_right)
    return Recovery(secret, tuple(sorted(none + liars)))


def read_share(share: bytes) -> int:
    """Return the field element that a share is.

    Raises:
        RemoteProtocolError: T553, it is none: of a wrong length, or at least the prime.
    """
    value = _read(share)
    if value is None:
        raise RemoteProtocolError(
            "T553", f"{len(share)} bytes are not a share: {SHARE_BYTES} below the prime are"
        )
    return value


def _plain(shares: Mapping[int, bytes], threshold: int) -> bytes | None:
    try:
        return combine(shares, threshold) if 1 <= threshold <= len(shares) else None
    except RemoteProtocolError:
        return None


def _read(share: bytes) -> int | None:
    value = int.from_bytes(share, "big") if len(share) == SHARE_BYTES else PRIME
    return value if value < PRIME else None


def _read_all(shares: Sequence[bytes]) -> list[int]:
    """Return ``read_share`` of each, in a third of the time."""
    values = [int.from_bytes(share, "big") for share in shares]
    if set(map(len, shares)) != {SHARE_BYTES} or max(values) >= PRIME:
        return [read_share(share) for share in shares]
    return values


def _secret(value: int) -> bytes | None:
    return value.to_bytes(SECRET_BYTES, "big") if value < 2 ** (8 * SECRET_BYTES) else None


def _value(polynomial: Sequence[int], x: int) -> int:
    # Reduced only at the end: x is small, so that this is twice as fast as 130 bits at each step.
    value = 0
    for coefficient in polynomial:
        value = value * x + coefficient
    return value % PRIME


def _first(shares: Mapping[int, bytes], threshold: int) -> tuple[int, ...]:
    if not 1 <= threshold <= len(shares):
        raise LocalProtocolError("T573", f"{len(shares)} shares are not enough for the threshold {threshold}")
    return tuple(sorted(shares)[:threshold])


def _check_positions(positions: Sequence[int]) -> None:
    if len(set(positions)) != len(positions):
        raise LocalProtocolError("T573", "two shares would have the same position")
    if positions and not 0 <= min(positions) <= max(positions) < MOST_POSITIONS:
        raise LocalProtocolError("T573", f"positions are from 0 to {MOST_POSITIONS - 1}")


def _at_zero(positions: tuple[int, ...], values: Sequence[int]) -> int:
    total: int = sum(map(mul, _weights(positions), values))
    return total % PRIME


def _find_weights(positions: tuple[int, ...]) -> tuple[int, ...]:
    """Return Lagrange's weights at 0: for each place the product of ``x_j / (x_j - x_i)`` over the others."""
    _check_positions(positions)
    xs = [i + 1 for i in positions]
    every = math.prod(xs) % PRIME
    products = []
    for place, x in enumerate(xs):
        factors = [y - x for y in xs]
        factors[place] = x  # in place of the zero
        products.append(math.prod(factors) % PRIME)
    inverses = _inverses(products)
    return tuple(every * inverse % PRIME for inverse in inverses)


_weights = lru_cache(maxsize=256)(_find_weights)


def _inverses(elements: Sequence[int]) -> list[int]:
    """Invert them all with a single inversion (Montgomery's trick)."""
    products = [1]
    for element in elements:
        products.append(products[-1] * element % PRIME)
    rest = pow(products.pop(), -1, PRIME)
    inverses = []
    for element, product in zip(reversed(elements), reversed(products), strict=True):
        inverses.append(rest * product % PRIME)
        rest = rest * element % PRIME
    return inverses[::-1]


def _decode(
    values: Mapping[int, int], threshold: int, is_right: Callable[[bytes], bool]
) -> tuple[bytes | None, tuple[int, ...]]:
    """Return the right secret and the positions off its polynomial; None and nobody if there is none."""
    polynomial = _gao(values, threshold)
    if polynomial is None:
        polynomial = _by_leaving_out(values, threshold, is_right)
    # Where most shares agree on a wrong secret, its owner dealt something else than it had committed to, and
    # no neighbour is to blame.
    secret = _secret(sum(polynomial[:1])) if polynomial is not None else None
    if polynomial is None or secret is None or not is_right(secret):
        return None, ()
    high_first = polynomial[::-1]
    return secret, tuple(i for i, value in values.items() if _value(high_first, i + 1) != value)


def _by_leaving_out(
    values: Mapping[int, int], threshold: int, is_right: Callable[[bytes], bool]
) -> Polynomial | None:
    if math.comb(len(values), threshold) > _MOST_SUBSETS:
        return None
    for positions in combinations(values, threshold):
        chosen = {i: values[i] for i in positions}
        secret = _secret(sum(map(mul, _find_weights(positions), chosen.values())) % PRIME)
        if secret is not None and is_right(secret):
            return _interpolate(chosen)
    return None


def _gao(values: Mapping[int, int], threshold: int) -> Polynomial | None:
    """Return the polynomial of degree below ``threshold`` that passes through all values but few.

    Few are ``(len(values) - threshold) // 2``; None if there is no such polynomial. Gao, A new algorithm for
    decoding Reed-Solomon codes, 2003: Euclid's algorithm on the polynomial that vanishes at all places and
    the one through all values, stopped half-way, leaves the error locator times the one that is sought.
    """
    before, rest = _vanishing(values), _interpolate(values)
    factor_before, factor = [], [1]
    while 2 * (len(rest) - 1) >= len(values) + threshold:
        quotient, remainder = _divide(before, rest)
        before, rest = rest, remainder
        factor_before, factor = factor, _less_product(factor_before, quotient, factor)
    polynomial, remainder = _divide(rest, factor)
    return polynomial if not remainder and len(polynomial) <= threshold else None


def _vanishing(positions: Iterable[int]) -> Polynomial:
    """Return the product of ``x - x_i``."""
    product = [1]
    for i in positions:
        root = i + 1
        product = [
            (low - root * high) % PRIME for low, high in zip([0, *product], [*product, 0], strict=True)
        ]
    return product


def _interpolate(values: Mapping[int, int]) -> Polynomial:
    """Return the polynomial of the least degree through all values (Lagrange)."""
    xs = [i + 1 for i in values]
    vanishing = _vanishing(values)
    weights = _inverses([math.prod([x - y for y in xs if y != x]) % PRIME for x in xs])
    total = [0] * len(xs)
    for x, weight, value in zip(xs, weights, values.values(), strict=True):
        scale, carry = weight * value % PRIME, 0
        for power in reversed(range(len(xs))):  # the quotient of `vanishing` by x - x_i, from above
            carry = (vanishing[power + 1] + carry * x) % PRIME
            total[power] += scale * carry
    return _trimmed([coefficient % PRIME for coefficient in total])


def _divide(a: Polynomial, b: Polynomial) -> tuple[Polynomial, Polynomial]:
    """Return quotient and remainder."""
    rest, quotient = list(a), [0] * max(len(a) - len(b) + 1, 0)
    inverse = pow(b[-1], -1, PRIME)
    for power in reversed(range(len(quotient))):
        quotient[power] = factor = rest[power + len(b) - 1] * inverse % PRIME
        for place, coefficient in enumerate(b, power):
            rest[place] = (rest[place] - factor * coefficient) % PRIME
    return quotient, _trimmed(rest)


def _less_product(a: Polynomial, b: Polynomial, c: Polynomial) -> Polynomial:
    """Return ``a - b * c``."""
    difference = a + [0] * (len(b) + len(c) - 1 - len(a))
    for power, factor in enumerate(b):
        for place, coefficient in enumerate(c, power):
            difference[place] = (difference[place] - factor * coefficient) % PRIME
    return _trimmed(difference)


def _trimmed(polynomial: Polynomial) -> Polynomial:
    while polynomial and not polynomial[-1]:
        polynomial.pop()
    return polynomial
