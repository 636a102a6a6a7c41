"""An update as bytes: a short fixed header and the coordinates.

    offset  bytes
    0       4      magic, b"tct1"
    4       8      round, unsigned little-endian
    12      4      CRC-32 of the body: finds a torn transfer, proves nothing against a forger
    16      ...    one row, float32 little-endian, exactly ``UpdateSpec.wire_bytes`` bytes

Weight and metrics are coordinates of the row: no count and no name travels in the clear.
"""

import struct
import zlib

import numpy as np

from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.core.layout import Vector
from tacit.core.spec import UpdateSpec

HEADER = struct.Struct("<4sQI")
HEADER_BYTES = HEADER.size
"""Bytes of a message before its row."""
_MAGIC = b"tct1"


def pack_update(row: Vector, spec: UpdateSpec, round_number: int) -> bytes:
    """Return one encoded row, shape (spec.size,), as the message's bytes.

    >>> spec = UpdateSpec.of(parameters=3)
    >>> len(pack_update(np.zeros(3, np.float32), spec, 1)) == HEADER_BYTES + spec.wire_bytes
    True

    Raises:
        LocalProtocolError: The row has another length than the spec, or the spec is not float32.
    """
    if row.shape != (spec.size,) or any(segment.bits != 32 for segment in spec.segments):
        raise LocalProtocolError(
            "T521", f"a row of shape {row.shape} does not fit {spec.size} float32 coordinates"
        )
    body = np.ascontiguousarray(row, dtype="<f4").tobytes()
    return HEADER.pack(_MAGIC, round_number, zlib.crc32(body)) + body


def unpack_update(message: bytes, spec: UpdateSpec, round_number: int) -> Vector:
    """Return the row of a message, shape (spec.size,).

    Raises:
        RemoteProtocolError: Not such a message, another round's, of a wrong length, torn, or not finite.
    """
    if len(message) != HEADER_BYTES + spec.wire_bytes:
        raise RemoteProtocolError(
            "T522", f"an update of {len(message)} bytes, not {HEADER_BYTES + spec.wire_bytes}"
        )
    magic, sent_round, checksum = HEADER.unpack_from(message)
    body = message[HEADER_BYTES:]
    if magic != _MAGIC or zlib.crc32(body) != checksum:
        raise RemoteProtocolError("T523", "the update is damaged")
    if sent_round != round_number:
        raise RemoteProtocolError("T524", f"the update belongs to round {sent_round}, not {round_number}")
    row = np.frombuffer(body, dtype="<f4").astype(np.float32)
    if not np.isfinite(row).all():
        raise RemoteProtocolError("T502", "the update has a coordinate that is not finite")
    return row
