"""One update as bytes, from friends and from others."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.core.spec import SegmentSpec, UpdateSpec
from tacit.wire import HEADER_BYTES, pack_update, unpack_update

SPEC = UpdateSpec.of(parameters=3, weight=1)
ROW = np.array([1.5, -2.0, 0.0, 3.0], dtype=np.float32)


def forged(body: bytes, *, round_number: int = 7, magic: bytes = b"tct1") -> bytes:
    return struct.pack("<4sQI", magic, round_number, zlib.crc32(body)) + body


def refusal(message: bytes) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        unpack_update(message, SPEC, 7)
    return caught.value.code


def test_the_bytes_are_what_the_format_says() -> None:
    body = struct.pack("<4f", *ROW)
    assert pack_update(ROW, SPEC, 7) == forged(body)
    assert HEADER_BYTES == 16


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_a_row_comes_back_bit_for_bit(values: list[float]) -> None:
    row = np.array(values, dtype=np.float32)
    back = unpack_update(pack_update(row, SPEC, 7), SPEC, 7)
    assert back.tobytes() == row.tobytes()
    back[0] = 1  # and may be written to


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES, HEADER_BYTES + 15, HEADER_BYTES + 17])
def test_a_message_of_another_length_is_refused(length: int) -> None:
    message = (pack_update(ROW, SPEC, 7) + b"\0")[:length]
    assert refusal(message.ljust(length, b"\0")) == "T522"


@given(place=st.integers(0, HEADER_BYTES + 15), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(place: int, bit: int) -> None:
    message = bytearray(pack_update(ROW, SPEC, 7))
    message[place] ^= 1 << bit
    assert refusal(bytes(message)) == ("T524" if 4 <= place < 12 else "T523")


def test_an_update_of_another_round_is_refused() -> None:
    assert refusal(pack_update(ROW, SPEC, 6)) == "T524"
    assert refusal(pack_update(ROW, SPEC, 8)) == "T524"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 3])
def test_an_update_that_is_not_finite_is_refused(value: float, place: int) -> None:
    row = ROW.copy()
    row[place] = value
    assert refusal(forged(row.tobytes())) == "T502"


@pytest.mark.parametrize("row", [ROW[:3], ROW[None], np.zeros(5, np.float32)])
def test_a_row_that_does_not_fit_is_never_packed(row: np.ndarray) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        pack_update(row, SPEC, 7)
    assert caught.value.code == "T521"


def test_coordinates_of_fewer_bits_are_never_packed_as_float32() -> None:
    spec = UpdateSpec((SegmentSpec("a", 4, bits=8),))
    with pytest.raises(LocalProtocolError):
        pack_update(ROW, spec, 7)
